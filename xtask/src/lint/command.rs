//! The command: every step runs, then all complaints are printed.

use std::process::ExitCode;

use anyhow::Result;
use palisade_e2e::console::{Paint, say};
use xshell::{Cmd, cmd};

use crate::lint::{circles, directions, pages, tidy, unsafety};
use crate::setup;
use crate::workspace::{TARGET, UEFI, Workspace, program};

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
    setup::uefi()?;
    let workspace = Workspace::open()?;
    let (shell, cargo) = (workspace.shell()?, program());
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
    step("circles", circles::check(&workspace)?);
    step("unsafe list", unsafety::check(&workspace)?);
    step("tidy", tidy::check(&workspace)?);
    step("pages", pages::check(&workspace)?);
    step("fmt", run(cmd!(shell, "{cargo} fmt --all --check")));
    let host = cmd!(shell, "{cargo} clippy --quiet --all-targets -- -D warnings");
    step("clippy host", run(host));
    let packages = TARGET_ONLY.iter().flat_map(|name| ["-p", name]);
    let target = cmd!(
        shell,
        "{cargo} clippy --quiet --release --target {TARGET} {packages...} -- -D warnings"
    );
    step("clippy target", run(target));
    let loader = cmd!(
        shell,
        "{cargo} clippy --quiet --release --target {UEFI} -p palisade-uefi --bin palisade -- -D warnings"
    );
    step("clippy uefi", run(loader));
    let doc = cmd!(shell, "{cargo} doc --quiet --no-deps").env("RUSTDOCFLAGS", "-D warnings");
    step("doc", run(doc));
    if failed == 0 {
        say("lint: all passed");
        Ok(ExitCode::SUCCESS)
    } else {
        say(&format!("lint: {failed} failed"));
        Ok(ExitCode::FAILURE)
    }
}

/// Runs a step; its complaints go where ours go, the answer only says that there were some.
fn run(step: Cmd<'_>) -> Vec<String> {
    step.quiet().run().err().map(|error| error.to_string()).into_iter().collect()
}
