//! Mutation testing of the page tables: cargo-mutants changes the source, one place at a time, and
//! the room's tests must notice. What may live stands in the room's MUTANTS.md, with a reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// The room.
const ROOM: &str = "hypervisor/pgtable";
/// How they are built, and what must notice. A mutant that hangs for ten times what the tests take
/// is noticed.
const OPTIONS: &[&str] = &[
    "--profile=mutants",
    "--timeout=20",
    "--cap-lints=true",
    "--no-shuffle",
    "--",
    "--test=suite",
];

/// Runs those of the files whose step's name holds `only`; a mutant that lives and is not excused
/// is a failure.
pub fn run(workspace: &Workspace, only: &str) -> Result<Tally> {
    let mut files = files(&workspace.root.join(ROOM).join("src"))?;
    files.retain(|file| step(file).contains(only));
    if files.is_empty() {
        return Ok(Tally::default());
    }
    let has = |arguments: &[&str]| {
        let status = cargo().args(arguments).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has(&["mutants", "--version"]) && !has(&["install", "--locked", "cargo-mutants"]) {
        say("skipped: mutants; get it with: cargo install --locked cargo-mutants");
        return Ok(Tally { skipped: files.len() as u64, ..Tally::default() });
    }
    let list = workspace.root.join(ROOM).join("MUTANTS.md");
    let excused = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
    let mut tally = Tally::default();
    for file in files {
        if interrupt::asked() {
            anyhow::bail!("interrupted");
        }
        let passed = mutate(workspace, &file, &excused)?;
        say(&format!("test long::{} ... {}", step(&file), if passed { "ok" } else { "FAILED" }));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// The files that are mutated, each a step of its own: all that hold code, as `fmt/lpae`.
fn files(source: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = source.join(&folder);
        for entry in at.read_dir().with_context(|| at.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                folders.push(format!("{folder}{name}/"));
            } else if let Some(name) = name.strip_suffix(".rs")
                && !["lib", "mod"].contains(&name)
            {
                files.push(format!("{folder}{name}"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `fmt/lpae` as `mutants-fmt-lpae`.
fn step(file: &str) -> String {
    format!("mutants-{}", file.replace('/', "-"))
}

/// Runs every mutant of one file.
fn mutate(workspace: &Workspace, file: &str, excused: &str) -> Result<bool> {
    let base = workspace.target.join("xtask/mutants");
    let out = base.join(step(file));
    // Of an earlier run nothing may stay: a file without mutants writes no lists.
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    std::fs::create_dir_all(&out)?;
    let status = cargo()
        .args(["mutants", "--package=palisade-pgtable"])
        .arg(format!("--file={ROOM}/src/{file}.rs"))
        .arg(format!("--output={}", out.display()))
        .args(OPTIONS)
        .env("CARGO_TARGET_DIR", base.join("target"))
        .env("PALISADE_FAIL_FAST", "1")
        .current_dir(&workspace.root)
        .status()
        .context("cargo does not start")?;
    // 0: all noticed; 2 and 3: some lived, or made a test hang.
    let ran = matches!(status.code(), Some(0 | 2 | 3));
    let lines = |name: &str| lines(&out.join("mutants.out").join(name));
    let alive = lines("missed.txt");
    say(&format!(
        "{}: {} caught, {} alive, {} timed out, {} do not build",
        step(file),
        lines("caught.txt").len(),
        alive.len(),
        lines("timeout.txt").len(),
        lines("unviable.txt").len()
    ));
    let strangers = strangers(excused, &alive);
    for (name, (found, listed)) in &strangers {
        say(&format!("{found} alive, {listed} in MUTANTS.md: {name}"));
    }
    Ok(ran && strangers.is_empty())
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Those of which more live than the list says: how many do, and how many it says.
fn strangers(list: &str, alive: &[String]) -> BTreeMap<String, (usize, usize)> {
    let mut found = BTreeMap::new();
    for mutant in alive {
        found.entry(name(mutant)).or_insert((0, 0)).0 += 1;
    }
    for (name, (_, listed)) in &mut found {
        *listed = excused(list, name);
    }
    found.retain(|_, (found, listed)| found > listed);
    found
}

/// How many mutants of this name the list excuses: one where it stands in backticks, or as many as
/// the `×N` says that follows.
fn excused(list: &str, name: &str) -> usize {
    let quoted = format!("`{name}`");
    let each = list.match_indices(&quoted).map(|(at, _)| {
        let after = list.get(at + quoted.len()..).unwrap_or_default();
        let digits = after.strip_prefix(" ×").unwrap_or_default();
        let end = digits.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end).unwrap_or_default().parse().unwrap_or(1)
    });
    each.sum()
}

/// `hypervisor/pgtable/src/gather.rs:109:20: replace …` as `gather.rs: replace …`: lines and
/// columns move and do not count.
fn name(mutant: &str) -> String {
    let mutant = mutant.strip_prefix(ROOM).and_then(|rest| rest.strip_prefix("/src/"));
    let mut parts = mutant.unwrap_or_default().splitn(4, ':');
    let file = parts.next().unwrap_or_default();
    let what = parts.nth(2).unwrap_or_default();
    format!("{file}:{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "replace + with - in <impl Format for Lpae<G>>::fill";

    fn at(place: &str, what: &str) -> String {
        format!("hypervisor/pgtable/src/fmt/lpae.rs:{place}: {what}")
    }

    #[test]
    fn a_mutant_is_excused_wherever_it_moved() {
        let list = format!("- `fmt/lpae.rs: {WHAT}`: why\n");
        assert!(strangers(&list, &[at("1:2", WHAT)]).is_empty());
        assert!(strangers(&list, &[at("77:10", WHAT)]).is_empty());
        let other = "replace + with * in <impl Format for Lpae<G>>::fill";
        assert_eq!(strangers(&list, &[at("1:2", other)]).len(), 1);
        assert_eq!(strangers(&list, &[String::new()]).len(), 1);
    }

    #[test]
    fn as_many_are_excused_as_are_counted() {
        let both = [at("1:2", WHAT), at("3:4", WHAT)];
        let named = |count: &str| format!("- `fmt/lpae.rs: {WHAT}`{count}: why\n");
        let few = strangers(&named(""), &both);
        assert_eq!(few.into_values().collect::<Vec<_>>(), [(2, 1)]);
        assert!(strangers(&named(" ×2"), &both).is_empty());
        assert!(strangers(&(named("") + &named("")), &both).is_empty());
    }

    #[test]
    fn every_file_is_there_once_with_a_name_to_run_it_alone() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(ROOM).join("src");
        let files = files(&source).unwrap();
        for file in ["map", "unmap", "fmt/lpae", "fmt/v7s"] {
            assert_eq!(files.iter().filter(|name| *name == file).count(), 1, "{file}");
        }
        assert!(!files.iter().any(|name| name.ends_with("lib") || name.ends_with("mod")));
        assert_eq!(step("fmt/lpae_s1"), "mutants-fmt-lpae_s1");
    }
}
