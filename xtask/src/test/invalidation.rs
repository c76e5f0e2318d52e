//! The instructions of every kind of invalidation: tests/on-target's second program, booted at EL2
//! under QEMU with its counter of instructions, must find every call inside the bound that the
//! driver states. What it prints is judged here once more, and nothing may be missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;

use crate::test::on_target::{self, Output};
use crate::test::run::announce;
use crate::test::tally::Tally;
use crate::workspace::Workspace;

/// The row's name.
const NAME: &str = "on-target-invalidation";
const PROGRAM: &str = "palisade-on-target-invalidation";
/// The SMMUs.
const SMMUS: &[&str] = &[
    "QEMU",
    "QEMU, not coherent",
    "paper",
    "paper, no ranges",
    "paper, messages",
    "paper, no ranges, not coherent",
];
/// What is called on each.
const PATHS: &[&str] = &[
    "nothing",
    "All",
    "Vmid",
    "StageOneOf",
    "StageTwo",
    "Asid",
    "StageOne",
    "Context",
    "Contexts",
    "Device",
    "StageTwo, StageOneOf",
    "64 × All",
    "64 × StageTwo",
    "64 × StageOne",
    "64 × Device",
    "64 of each phase in turn",
];
/// Calls that are not answered in time, and one that just is.
const TIME_OUTS: &[&str] = &[
    "in time, at the last turn",
    "too late",
    "never",
    "never, by registers",
    "never, without turns",
];
/// How many commands of a call are refused.
const REFUSALS: &[&str] = &["none", "one", "eight", "all"];
/// Planted mistakes.
const PLANTED: &[&str] = &[
    "a bound of one instruction less than the call takes",
    "a bound of a third more than the call takes",
    "a bound of a command less than the call sends",
    "the call made twice",
];

/// Runs the row, where its name holds `only`.
pub fn run(workspace: &Workspace, qemu: &Path, only: &str) -> Result<Tally> {
    if !NAME.contains(only) {
        return Ok(Tally::default());
    }
    let start = Instant::now();
    let output = boot(workspace, qemu)?;
    for line in output.lines() {
        say(&format!("{}{line}", on_target::PREFIX));
    }
    let complaints = judge(&output);
    announce(NAME, complaints.is_empty(), start);
    if !complaints.is_empty() {
        say(&format!("{}\n--- printed\n{}\n---", complaints.join("\n"), output.printed));
    }
    Ok(Tally::one(complaints.is_empty()))
}

/// Runs the program with a counter of instructions.
fn boot(workspace: &Workspace, qemu: &Path) -> Result<Output> {
    let program = workspace.build(on_target::PACKAGE, PROGRAM)?;
    let machine = "virt,virtualization=on,gic-version=3,iommu=smmuv3";
    on_target::boot(qemu, &program, machine, "cortex-a72", &["-icount", "shift=0"])
}

/// The instructions of what the bench calls operations.
pub fn operations(workspace: &Workspace, qemu: &Path) -> Result<BTreeMap<String, u64>> {
    let output = boot(workspace, qemu)?;
    if let Some(status) = &output.status {
        bail!("{PROGRAM}: {status}");
    }
    let operation = |line: &str| {
        let (name, count) = line.strip_prefix("operation ")?.split_once(": ")?;
        Some((name.to_owned(), count.strip_suffix(" instructions")?.parse().ok()?))
    };
    let found: BTreeMap<_, _> = output.lines().filter_map(operation).collect();
    if found.is_empty() { bail!("{PROGRAM} names no operation") } else { Ok(found) }
}

/// What is wrong with what was printed.
fn judge(output: &Output) -> Vec<String> {
    let mut complaints: Vec<String> = output.status.iter().cloned().collect();
    let mut wanted: Vec<String> =
        TIME_OUTS.iter().map(|case| format!("time-out: {case}")).collect();
    wanted.extend(REFUSALS.iter().map(|refused| format!("refused: {refused}")));
    for smmu in SMMUS {
        wanted.extend(PATHS.iter().map(|path| format!("{smmu}: {path}")));
    }
    for name in wanted {
        let mut lines = output.lines().filter_map(|line| {
            let rest = line.strip_prefix(name.as_str())?;
            rest.strip_prefix(": ")
        });
        match (lines.next(), lines.next()) {
            (Some(line), None) => {
                let problem = bounded(line).map(|inside| !inside);
                if problem.unwrap_or(true) {
                    complaints.push(format!("{name}: not inside its bound: {line}"));
                }
            }
            (None, _) => complaints.push(format!("{name}: not counted")),
            (Some(_), Some(_)) => complaints.push(format!("{name}: counted twice")),
        }
    }
    for planted in PLANTED {
        let wanted = format!("planted: {planted}: found");
        if !output.lines().any(|line| line == wanted) {
            complaints.push(format!("planted: {planted}: not found"));
        }
    }
    complaints
}

/// Whether everything that a line counts is inside its bound, and the bound of the instructions at
/// most a quarter above them.
fn bounded(line: &str) -> Result<bool> {
    let mut inside = true;
    for what in ["commands", "batches", "instructions"] {
        let part = line.split(", ").find_map(|part| part.strip_suffix(what));
        let part = part.with_context(|| format!("no {what}"))?;
        let (count, most) = part.trim().split_once(" of ").context("no bound")?;
        let (count, most): (u64, u64) = (count.parse()?, most.parse()?);
        inside &= count <= most && (what != "instructions" || 4 * most <= 5 * count);
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_inside_its_bound_or_not() {
        let line = |commands: &str, instructions: &str| {
            format!("{commands} commands, 1 of 1 batches, 0 turns, {instructions} instructions")
        };
        let inside = |commands, instructions| bounded(&line(commands, instructions)).ok();
        assert_eq!(inside("2 of 2", "1000 of 1100"), Some(true));
        assert_eq!(inside("3 of 2", "1000 of 1100"), Some(false));
        assert_eq!(inside("2 of 2", "1101 of 1100"), Some(false));
        assert_eq!(inside("2 of 2", "1000 of 1251"), Some(false));
        assert_eq!(inside("2 of 2", "many of 1251"), None);
        assert_eq!(bounded("2 of 2 commands: TOO MANY").ok(), None);
    }

    #[test]
    fn what_is_missing_or_failed_is_a_complaint() {
        let line = |name: &str| {
            format!(
                "on-target: {name}: 2 of 2 commands, 1 of 1 batches, 0 turns, 90 of 100 instructions\n"
            )
        };
        let mut printed = String::new();
        for case in TIME_OUTS {
            printed += &line(&format!("time-out: {case}"));
        }
        for refused in REFUSALS {
            printed += &line(&format!("refused: {refused}"));
        }
        for (smmu, path) in SMMUS.iter().flat_map(|smmu| PATHS.iter().map(move |path| (smmu, path)))
        {
            printed += &line(&format!("{smmu}: {path}"));
        }
        for planted in PLANTED {
            printed += &format!("on-target: planted: {planted}: found\n");
        }
        let judge = |printed: &str, status: Option<&str>| {
            judge(&Output { printed: printed.to_owned(), status: status.map(str::to_owned) }).len()
        };
        assert_eq!(judge(&printed, None), 0);
        assert_eq!(judge(&printed, Some("exit status 1")), 1);
        let others = TIME_OUTS.len() + REFUSALS.len() + PLANTED.len();
        assert_eq!(judge("", None), SMMUS.len() * PATHS.len() + others);
        assert_eq!(judge(&printed.replace("QEMU: Vmid: 2 of 2", "QEMU: Vmid: 3 of 2"), None), 1);
        assert_eq!(judge(&printed.replace("the call made twice: found", "…: MISSED"), None), 1);
        assert_eq!(judge(&(printed.clone() + &line("paper: All")), None), 1);
    }
}
