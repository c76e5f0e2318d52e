//! The command: every step runs, then all complaints are printed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use palisade_e2e::console::{Paint, say};

use crate::lint::{directions, tidy, unsafety};
use crate::setup;
use crate::workspace::{TARGET, Workspace, cargo};

/// What exists for the target only.
const TARGET_ONLY: &[&str] = &[
    "palisade-boot",
    "palisade-qemu-virt",
    "palisade-rpi4",
    "palisade-payloads",
    "palisade-on-target",
];

/// Checks everything.
pub fn lint() -> Result<ExitCode> {
    setup::target()?;
    let workspace = Workspace::open()?;
    let root = workspace.root.clone();
    let mut failed = 0;
    let mut step = |what: &str, complaints: Vec<String>| {
        let paint = Paint::stdout();
        let word = if complaints.is_empty() { paint.good("ok") } else { paint.bad("FAILED") };
        say(&format!("lint {what} ... {word}"));
        for complaint in &complaints {
            say(&format!("  {complaint}"));
        }
        failed += usize::from(!complaints.is_empty());
    };
    step("directions", directions::check(&workspace));
    step("unsafe list", unsafety::check(&workspace)?);
    step("tidy", tidy::check(&workspace)?);
    step("fmt", run(&root, &["fmt", "--all", "--check"], &[]));
    let deny = ["--", "-D", "warnings"];
    let host = [&["clippy", "--quiet", "--all-targets"][..], &deny].concat();
    step("clippy host", run(&root, &host, &[]));
    let packages: Vec<&str> = TARGET_ONLY.iter().flat_map(|name| ["-p", name]).collect();
    let target =
        [&["clippy", "--quiet", "--release", "--target", TARGET][..], &packages, &deny].concat();
    step("clippy target", run(&root, &target, &[]));
    let flags = [("RUSTDOCFLAGS", "-D warnings")];
    step("doc", run(&root, &["doc", "--quiet", "--no-deps"], &flags));
    if failed == 0 {
        say("lint: all passed");
        Ok(ExitCode::SUCCESS)
    } else {
        say(&format!("lint: {failed} failed"));
        Ok(ExitCode::FAILURE)
    }
}

/// Runs cargo; its complaints go where ours go, the answer only says that there were some.
fn run(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let status =
        cargo().args(arguments).envs(environment.iter().copied()).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("cargo {} ended with {status}", arguments.join(" "))],
        Err(error) => vec![format!("cargo does not start: {error}")],
    }
}
