//! What only the long mode runs beside the planted faults: Miri, and every fuzz target there is.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use palisade_e2e::console::say;

use crate::setup::rustup;
use crate::test::tally::Tally;
use crate::workspace::Workspace;

const NIGHTLY: &str = "nightly";
/// What Miri runs, and what more it is told. Tables are reached by physical addresses, that is by
/// exposed pointers, so Miri's model of borrows is guesswork there and a hundred times slower: it
/// watches one part of the tests only; bounds, alignment, initialisation and races it watches in all.
const MIRI: &[(&str, &[&str], &str)] = &[
    ("miri-pgtable", &[], "-Zmiri-disable-stacked-borrows"),
    ("miri-pgtable-borrows", &["--test", "suite", "gather::"], ""),
];
/// What Miri is told always. Arenas are never given back: a stale pointer must not crash a test.
const MIRI_FLAGS: &str =
    "-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-ignore-leaks";
/// Where the fuzz targets are.
const FUZZ: &str = "tests/fuzz";
/// Seconds for each fuzz target.
const FUZZING: u32 = 600;

/// Runs the rooms' tests under Miri, those whose name holds `only`; without a nightly toolchain
/// they are skipped by name.
pub fn miri(workspace: &Workspace, only: &str) -> Result<Tally> {
    let steps: Vec<_> = MIRI.iter().filter(|(name, ..)| name.contains(only)).collect();
    if steps.is_empty() {
        return Ok(Tally::default());
    }
    if !rustup(&["component", "add", "--toolchain", NIGHTLY, "miri", "rust-src"]) {
        say(
            "skipped: Miri; get it with: rustup toolchain install nightly --component miri,rust-src",
        );
        return Ok(Tally { skipped: steps.len() as u64, ..Tally::default() });
    }
    let mut tally = Tally::default();
    for (name, arguments, flags) in steps {
        let passed = nightly(workspace, &["miri", "test", "--package", "palisade-pgtable"])
            .args(*arguments)
            .env("MIRIFLAGS", format!("{MIRI_FLAGS} {flags}"))
            .status()?
            .success();
        say(&format!("test long::{name} ... {}", if passed { "ok" } else { "FAILED" }));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// Runs the fuzz targets whose step's name holds `only`. What it finds stays in the target directory: new inputs in
/// `fuzz/corpus`, failing ones in `fuzz/artifacts`.
pub fn fuzz(workspace: &Workspace, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut targets = targets(&workspace.root);
    targets.retain(|target| step(target).contains(only));
    if !targets.is_empty() && !ready(workspace) {
        for target in targets {
            say(&format!(
                "skipped: {}; get it with: cargo install cargo-fuzz, rustup toolchain \
                 install nightly",
                step(&target)
            ));
            tally += Tally { skipped: 1, ..Tally::default() };
        }
        return Ok(tally);
    }
    for target in targets {
        let name = step(&target);
        let kept = |what: &str| workspace.target.join("fuzz").join(what).join(&target);
        let (found, failing) = (kept("corpus"), kept("artifacts"));
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&failing)?;
        // New inputs go to the first folder; the second is the one that is checked in.
        let passed = nightly(workspace, &["fuzz", "run", "--fuzz-dir", FUZZ, &target])
            .arg(&found)
            .arg(workspace.root.join(FUZZ).join("corpus").join(&target))
            .arg("--")
            .arg(format!("-max_total_time={FUZZING}"))
            .arg(format!("-artifact_prefix={}/", failing.display()))
            .status()?
            .success();
        say(&format!("test long::{name} ... {}", if passed { "ok" } else { "FAILED" }));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// Whether cargo-fuzz and its toolchain are there; installs what it can.
fn ready(workspace: &Workspace) -> bool {
    let works = |arguments: &[&str]| {
        let status = nightly(workspace, arguments).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    works(&["--version"])
        && (works(&["fuzz", "--version"]) || works(&["install", "--locked", "cargo-fuzz"]))
}

/// `pgtable` as `fuzz-pgtable`.
fn step(target: &str) -> String {
    format!("fuzz-{target}")
}

/// The names of the targets.
fn targets(root: &Path) -> Vec<String> {
    let folder = root.join(FUZZ).join("fuzz_targets");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = files
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One step by its whole name, several by a part of it.
    #[test]
    fn steps_are_chosen_by_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let fuzz: Vec<String> = targets(root).iter().map(|target| step(target)).collect();
        let miri = MIRI.iter().map(|(name, ..)| (*name).to_owned());
        let all: Vec<String> = fuzz.into_iter().chain(miri).collect();
        let holding = |text: &str| all.iter().filter(|name| name.contains(text)).count();
        assert_eq!((holding("fuzz"), holding("fuzz-pgtable")), (targets(root).len(), 1));
        assert_eq!((holding("miri"), holding("miri-pgtable-borrows")), (MIRI.len(), 1));
        assert!(targets(root).len() >= 4);
    }
}
