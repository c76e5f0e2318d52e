//! Valgrind, whose callgrind counts instructions: found or installed.

use anyhow::{Context, Result, bail};

use crate::setup::packages::{Manager, exists, manager};
use crate::setup::rights::{Rights, agreed};

/// Makes sure that valgrind is here.
pub fn valgrind() -> Result<()> {
    if exists("valgrind") {
        return Ok(());
    }
    let (program, words): (&str, Vec<&str>) = match manager() {
        Some(Manager::Apt(_)) => {
            ("apt-get", vec!["install", "-y", "--no-install-recommends", "valgrind"])
        }
        Some(Manager::Other { program: "pacman", .. }) => {
            ("pacman", vec!["-S", "--noconfirm", "valgrind"])
        }
        Some(Manager::Other { program: "apk", .. }) => ("apk", vec!["add", "valgrind"]),
        Some(Manager::Other { program, .. }) => (program, vec!["install", "-y", "valgrind"]),
        None => bail!("valgrind is missing, and no known package manager is here"),
    };
    let advice = format!("sudo {program} {}", words.join(" "));
    let rights = Rights::detect();
    if rights == Rights::None {
        bail!("valgrind is missing, and there are no rights to install it here. Run:\n  {advice}");
    }
    if !agreed("Install valgrind now?") {
        bail!("valgrind is missing. Install it with:\n  {advice}");
    }
    let _step = crate::progress::step("installing valgrind");
    let run = |words: &[&str]| {
        rights.command(program).args(words).env("DEBIAN_FRONTEND", "noninteractive").output()
    };
    if program == "apt-get" {
        // Old lists may still do: the installation decides.
        let _ = run(&["update"]);
    }
    let output = run(&words).with_context(|| format!("{program} does not start"))?;
    if !output.status.success() || !exists("valgrind") {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("valgrind could not be installed. By hand:\n  {advice}\nbecause {}", errors.trim());
    }
    Ok(())
}
