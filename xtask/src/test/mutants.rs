//! Mutation testing: cargo-mutants changes a room's source, one place at a time, and the room's own
//! tests must notice. What may live stands in the room's MUTANTS.md, with a reason.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// A room whose source is mutated.
struct Room {
    /// Its folder under hypervisor/, which is its package's name after `palisade-`.
    name: &'static str,
    /// Which of its tests must notice.
    tests: &'static [&'static str],
    /// A mutant that hangs is noticed after these seconds, about ten times what the tests take.
    seconds: u32,
    /// Files and folders that are the tests' own.
    skipped: &'static [&'static str],
}

const ROOMS: &[Room] = &[
    Room { name: "pgtable", tests: &["--test=suite"], seconds: 20, skipped: &[] },
    Room { name: "mem", tests: &["--lib", "--tests"], seconds: 20, skipped: &["arena"] },
    Room { name: "iommu", tests: &["--lib", "--tests"], seconds: 60, skipped: &["fake/"] },
    Room { name: "smmuv3", tests: &["--lib", "--tests"], seconds: 120, skipped: &[] },
    Room { name: "vm", tests: &["--lib", "--tests"], seconds: 120, skipped: &[] },
];
/// How they are built.
const OPTIONS: &[&str] = &["--profile=mutants", "--cap-lints=true", "--no-shuffle"];

/// Runs those of the rooms' files whose step's name holds `only`; a mutant that lives and is not
/// excused is a failure.
pub fn run(workspace: &Workspace, only: &str) -> Result<Tally> {
    let mut steps = Vec::new();
    for room in ROOMS {
        let files = room.files(&workspace.root)?;
        let wanted = files.into_iter().filter(|file| room.step(file).contains(only));
        steps.extend(wanted.map(|file| (room, file)));
    }
    if steps.is_empty() {
        return Ok(Tally::default());
    }
    let has = |arguments: &[&str]| {
        let status = cargo().args(arguments).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has(&["mutants", "--version"]) && !has(&["install", "--locked", "cargo-mutants"]) {
        say("skipped: mutants; get it with: cargo install --locked cargo-mutants");
        return Ok(Tally { skipped: steps.len() as u64, ..Tally::default() });
    }
    let mut tally = Tally::default();
    for (room, file) in steps {
        if interrupt::asked() {
            anyhow::bail!("interrupted");
        }
        let passed = room.mutate(workspace, &file)?;
        let word = if passed { "ok" } else { "FAILED" };
        say(&format!("test long::{} ... {word}", room.step(&file)));
        tally += Tally::one(passed);
    }
    Ok(tally)
}

impl Room {
    /// Its source, from the root of the workspace.
    fn source(&self) -> String {
        format!("hypervisor/{}/src/", self.name)
    }

    /// The files that are mutated, each a step of its own: all that hold code and are no tests, as
    /// `fmt/lpae`.
    fn files(&self, root: &Path) -> Result<Vec<String>> {
        let source = root.join(self.source());
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
        files.retain(|file| {
            !self.skipped.iter().any(|skipped| file.starts_with(skipped))
                && !file.split('/').any(|part| part == "tests" || part.ends_with("_tests"))
        });
        files.sort();
        Ok(files)
    }

    /// `fmt/lpae` of pgtable as `mutants-pgtable-fmt-lpae`.
    fn step(&self, file: &str) -> String {
        format!("mutants-{}-{}", self.name, file.replace('/', "-"))
    }

    /// Runs every mutant of one file.
    fn mutate(&self, workspace: &Workspace, file: &str) -> Result<bool> {
        let step = self.step(file);
        let list = workspace.root.join("hypervisor").join(self.name).join("MUTANTS.md");
        let excuses = std::fs::read_to_string(&list).with_context(|| list.display().to_string())?;
        let base = workspace.target.join("xtask/mutants");
        let out = base.join(&step);
        // Of an earlier run nothing may stay: a file without mutants writes no lists.
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        std::fs::create_dir_all(&out)?;
        let status = cargo()
            .args(["mutants", &format!("--package=palisade-{}", self.name)])
            .arg(format!("--file={}{file}.rs", self.source()))
            .arg(format!("--output={}", out.display()))
            .arg(format!("--timeout={}", self.seconds))
            .args(OPTIONS)
            .arg("--")
            .args(self.tests)
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
            "{step}: {} caught, {} alive, {} timed out, {} do not build",
            lines("caught.txt").len(),
            alive.len(),
            lines("timeout.txt").len(),
            lines("unviable.txt").len()
        ));
        let strangers = strangers(&self.source(), &excuses, &alive);
        for (name, (found, listed)) in &strangers {
            say(&format!("{found} alive, {listed} in MUTANTS.md: {name}"));
        }
        Ok(ran && strangers.is_empty())
    }
}

fn lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Those of which more live than the list says: how many do, and how many it says.
fn strangers(source: &str, list: &str, alive: &[String]) -> BTreeMap<String, (usize, usize)> {
    let mut found = BTreeMap::new();
    for mutant in alive {
        found.entry(name(source, mutant)).or_insert((0, 0)).0 += 1;
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
fn name(source: &str, mutant: &str) -> String {
    let mutant = mutant.strip_prefix(source);
    let mut parts = mutant.unwrap_or_default().splitn(4, ':');
    let file = parts.next().unwrap_or_default();
    let what = parts.nth(2).unwrap_or_default();
    format!("{file}:{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "hypervisor/pgtable/src/";
    const WHAT: &str = "replace + with - in <impl Format for Lpae<G>>::fill";

    fn at(place: &str, what: &str) -> String {
        format!("{SOURCE}fmt/lpae.rs:{place}: {what}")
    }

    #[test]
    fn a_mutant_is_excused_wherever_it_moved() {
        let list = format!("- `fmt/lpae.rs: {WHAT}`: why\n");
        assert!(strangers(SOURCE, &list, &[at("1:2", WHAT)]).is_empty());
        assert!(strangers(SOURCE, &list, &[at("77:10", WHAT)]).is_empty());
        let other = "replace + with * in <impl Format for Lpae<G>>::fill";
        assert_eq!(strangers(SOURCE, &list, &[at("1:2", other)]).len(), 1);
        assert_eq!(strangers(SOURCE, &list, &[String::new()]).len(), 1);
    }

    #[test]
    fn as_many_are_excused_as_are_counted() {
        let both = [at("1:2", WHAT), at("3:4", WHAT)];
        let named = |count: &str| format!("- `fmt/lpae.rs: {WHAT}`{count}: why\n");
        let few = strangers(SOURCE, &named(""), &both);
        assert_eq!(few.into_values().collect::<Vec<_>>(), [(2, 1)]);
        assert!(strangers(SOURCE, &named(" ×2"), &both).is_empty());
        assert!(strangers(SOURCE, &(named("") + &named("")), &both).is_empty());
    }

    #[test]
    fn every_file_is_there_once_with_a_name_to_run_it_alone() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut steps = Vec::new();
        for room in ROOMS {
            let files = room.files(root).unwrap();
            assert!(files.len() > 10, "{}", room.name);
            assert!(root.join("hypervisor").join(room.name).join("MUTANTS.md").is_file());
            steps.extend(files.iter().map(|file| room.step(file)));
        }
        for (step, rooms) in [
            ("mutants-pgtable-map", 1),
            ("mutants-pgtable-fmt-lpae_s1", 1),
            ("mutants-mem-space", 1),
            ("mutants-iommu-domain", 1),
            ("mutants-vm-memory-guest", 1),
            ("mutants-mem-arena", 0),
            ("mutants-vm-memory-tests-machine", 0),
            ("mutants-iommu-lib", 0),
        ] {
            assert_eq!(steps.iter().filter(|name| *name == step).count(), rooms, "{step}");
        }
        let odd = |step: &&String| ["fake", "tests", "-mod"].iter().any(|part| step.contains(part));
        assert_eq!(steps.iter().find(odd), None, "tests are not mutated");
        let all = steps.len();
        steps.sort();
        steps.dedup();
        assert_eq!(steps.len(), all);
    }
}
