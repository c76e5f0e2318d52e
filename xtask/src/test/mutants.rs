//! Mutation testing of the page tables: cargo-mutants changes the source, one place at a time, and
//! the room's tests must notice. What may live stands in the room's MUTANTS.md, with a reason.

use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_e2e::console::say;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// The room.
const ROOM: &str = "hypervisor/pgtable";
/// Files that are mutated: those whose list in MUTANTS.md is complete.
const FILES: &[&str] = &["gather.rs"];
/// What must notice, and how it is built: mutants are many, optimising each takes longest.
const OPTIONS: &[&str] = &[
    "--timeout=60",
    "--no-shuffle",
    "--cargo-arg=--config",
    "--cargo-arg=profile.dev.package.palisade-pgtable.opt-level=0",
    "--",
    "--lib",
    "--test=suite",
];

/// Runs them all; one that lives and is not excused is a failure.
pub fn run(workspace: &Workspace) -> Result<Tally> {
    let has = |arguments: &[&str]| {
        let status = cargo().args(arguments).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has(&["mutants", "--version"]) && !has(&["install", "--locked", "cargo-mutants"]) {
        say("skipped: mutants; get it with: cargo install --locked cargo-mutants");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let list = workspace.root.join(ROOM).join("MUTANTS.md");
    let excused = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let out = workspace.target.join("xtask/mutants");
    std::fs::create_dir_all(&out)?;
    let files = FILES.iter().map(|file| format!("--file={ROOM}/src/{file}"));
    let status = cargo()
        .args(["mutants", "--package=palisade-pgtable"])
        .args(files)
        .arg(format!("--output={}", out.display()))
        .args(OPTIONS)
        .current_dir(&workspace.root)
        .status()
        .context("cargo does not start")?;
    // 0: all noticed; 2 and 3: some lived, or made a test hang.
    let ran = matches!(status.code(), Some(0 | 2 | 3));
    let missed = std::fs::read_to_string(out.join("mutants.out/missed.txt")).unwrap_or_default();
    let alive: Vec<&str> = missed.lines().filter(|line| !excuses(&excused, line)).collect();
    for line in &alive {
        say(&format!("alive, and not in MUTANTS.md: {line}"));
    }
    let passed = ran && alive.is_empty();
    say(&format!("test mutants::palisade-pgtable ... {}", if passed { "ok" } else { "FAILED" }));
    Ok(Tally::one(passed))
}

/// Whether the list names this mutant; lines and columns move and do not count.
fn excuses(list: &str, mutant: &str) -> bool {
    list.contains(&format!("`{}`", name(mutant)))
}

/// `hypervisor/pgtable/src/gather.rs:109:20: replace …` as `gather.rs: replace …`.
fn name(mutant: &str) -> String {
    let mutant = mutant.strip_prefix(ROOM).and_then(|rest| rest.strip_prefix("/src/"));
    let mut parts = mutant.unwrap_or_default().splitn(4, ':');
    let file = parts.next().unwrap_or_default();
    let what = parts.nth(2).unwrap_or_default();
    format!("{file}:{what}")
}

#[cfg(test)]
mod tests {
    use super::excuses;

    #[test]
    fn a_mutant_is_excused_wherever_it_moved() {
        let list = "- `fmt/lpae.rs: replace + with - in <impl Format for Lpae<G>>::fill`: why\n";
        let at =
            |place: &str, what: &str| format!("hypervisor/pgtable/src/fmt/lpae.rs:{place}: {what}");
        let what = "replace + with - in <impl Format for Lpae<G>>::fill";
        assert!(excuses(list, &at("1:2", what)) && excuses(list, &at("77:10", what)));
        assert!(!excuses(list, &at("1:2", "replace + with * in <impl Format for Lpae<G>>::fill")));
        assert!(!excuses(list, ""));
    }
}
