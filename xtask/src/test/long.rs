//! What only the long mode runs beside the planted faults: Miri, and every fuzz target there is.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use palisade_e2e::console::say;

use crate::setup::rustup;
use crate::test::tally::Tally;
use crate::workspace::Workspace;

const NIGHTLY: &str = "nightly";
/// Rooms whose tests Miri runs.
const MIRI: &[&str] = &["palisade-pgtable"];
/// Seconds for each fuzz target.
const FUZZING: u32 = 600;

/// Runs the rooms' tests under Miri; without a nightly toolchain they are skipped by name.
pub fn miri(workspace: &Workspace) -> Result<Tally> {
    if !rustup(&["component", "add", "--toolchain", NIGHTLY, "miri", "rust-src"]) {
        say(
            "skipped: Miri; get it with: rustup toolchain install nightly --component miri,rust-src",
        );
        return Ok(Tally { skipped: MIRI.len() as u64, ..Tally::default() });
    }
    let mut tally = Tally::default();
    for package in MIRI {
        let passed = nightly(workspace, &["miri", "test", "--package", package])
            .env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .status()?
            .success();
        say(&format!("test miri::{package} ... {}", if passed { "ok" } else { "FAILED" }));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// Runs every fuzz target of every room's fuzz folder.
pub fn fuzz(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    for (folder, target) in targets(workspace) {
        let ready = nightly(workspace, &["fuzz", "--version"]).stdout(Stdio::null()).status();
        if !ready.is_ok_and(|status| status.success()) {
            say(&format!("skipped: fuzz {target}; get it with: cargo install cargo-fuzz"));
            tally += Tally { skipped: 1, ..Tally::default() };
            continue;
        }
        let seconds = format!("-max_total_time={FUZZING}");
        let passed = nightly(workspace, &["fuzz", "run", &target, "--", &seconds])
            .current_dir(folder)
            .status()?
            .success();
        say(&format!("test fuzz::{target} ... {}", if passed { "ok" } else { "FAILED" }));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// The rooms with a fuzz folder, and the names of its targets.
fn targets(workspace: &Workspace) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        let Some(folder) = package.manifest_path.parent() else { continue };
        let files = std::fs::read_dir(folder.join("fuzz/fuzz_targets")).into_iter().flatten();
        for path in files.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "rs")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                found.push((folder.to_path_buf(), name.to_owned()));
            }
        }
    }
    found.sort();
    found
}

/// Cargo of the nightly toolchain, whatever toolchain started us.
fn nightly(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .arg(format!("+{NIGHTLY}"))
        .args(arguments)
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_DIR", workspace.target.join("xtask").join(NIGHTLY))
        .current_dir(&workspace.root)
        .stdin(Stdio::null());
    command
}
