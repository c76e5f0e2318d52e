//! QEMU: found, checked, installed.

use std::path::Path;

use anyhow::{Context, Result, bail};
use palisade_e2e::qemu::{NAME, OLDEST, Qemu, find, probe};

use crate::setup::apt;
use crate::setup::packages::{Manager, manager};
use crate::setup::rights::{Rights, agreed};

/// A QEMU that is new enough: the one given, else the one in PATH, else a fresh one.
pub fn qemu(given: Option<&Path>) -> Result<Qemu> {
    if let Some(path) = given {
        let qemu = probe(path).context("--qemu")?;
        if qemu.version < OLDEST {
            bail!(
                "--qemu: {} is QEMU {}, too old: {OLDEST} is the oldest whose SMMUv3 has stage 2",
                path.display(),
                qemu.version
            );
        }
        return Ok(qemu);
    }
    let why = match current()? {
        Found::Good(qemu) => return Ok(qemu),
        Found::Old(qemu) => format!(
            "{} is QEMU {}, too old: {OLDEST} is the oldest whose SMMUv3 has stage 2",
            qemu.path.display(),
            qemu.version
        ),
        Found::Nothing => format!("QEMU ({NAME} {OLDEST} or newer) is missing"),
    };
    eprintln!("{why}");
    install(&why)?;
    match current()? {
        Found::Good(qemu) => Ok(qemu),
        Found::Old(qemu) => bail!(
            "the package manager's QEMU is {}; {OLDEST} or newer is needed. Build one from \
             https://www.qemu.org and give it with --qemu PATH",
            qemu.version
        ),
        Found::Nothing => bail!("{NAME} is still not in PATH after its installation"),
    }
}

enum Found {
    Good(Qemu),
    Old(Qemu),
    Nothing,
}

fn current() -> Result<Found> {
    let Some(path) = find() else { return Ok(Found::Nothing) };
    let qemu = probe(&path)?;
    Ok(if qemu.version < OLDEST { Found::Old(qemu) } else { Found::Good(qemu) })
}

fn install(why: &str) -> Result<()> {
    let Some(manager) = manager() else {
        bail!(
            "{why}, and no known package manager is here. Install QEMU {OLDEST} or newer by hand"
        );
    };
    let (advice, root) = match &manager {
        Manager::Apt(release) => (apt::advice(release), true),
        Manager::Other { program, arguments, root } => {
            let sudo = if *root { "sudo " } else { "" };
            (format!("{sudo}{program} {}", arguments.join(" ")), *root)
        }
    };
    let rights = if root { Rights::detect() } else { Rights::Root };
    if rights == Rights::None {
        bail!("{why}, and there are no rights to install it here. Run:\n  {advice}");
    }
    if !agreed("Install QEMU now?") {
        bail!("{why}. Install it with:\n  {advice}");
    }
    let done = match &manager {
        Manager::Apt(release) => apt::install(release, rights),
        Manager::Other { program, arguments, .. } => {
            let _step = crate::progress::step("installing QEMU");
            match rights.command(program).args(*arguments).status() {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(anyhow::anyhow!("{program} ended with {status}")),
                Err(error) => Err(error.into()),
            }
        }
    };
    done.with_context(|| format!("QEMU could not be installed. By hand:\n  {advice}\nbecause"))
}
