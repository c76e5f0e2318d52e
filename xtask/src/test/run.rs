//! The command: host, QEMU rows, vectors, and the sum.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use palisade_e2e::console::{Paint, Quiet, say};
use palisade_e2e::drive;
use palisade_e2e::interrupt;
use palisade_e2e::record::text;

use crate::cli::{Board, TestOptions};
use crate::image::{hypervisor, hypervisor_elf};
use crate::run::prepare;
use crate::test::rows::{LONG_ROWS, ROWS, Row, Verdict};
use crate::test::tally::Tally;
pub(super) use crate::test::tally::announce;
use crate::test::{
    boards, boards_alike, host, invalidation, kernels, long, mutants, on_target, planted, uefi,
    witnesses, words,
};
use crate::workspace::Workspace;
use crate::{setup, vectors};

/// Runs what was asked for.
pub fn test(options: &TestOptions) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    let mut tally = Tally::default();
    let only = options.only.as_deref().unwrap_or("");
    if !options.qemu && only.is_empty() {
        tally += timed("host tests", || host::run(&workspace, options.long));
        tally += timed("vectors", || vectors::test(&workspace));
    }
    if options.long && !options.qemu {
        tally += timed("planted faults", || planted::run(&workspace, only));
        tally += timed("boards", || boards::run(only));
        tally += timed("Miri", || long::miri(&workspace, only));
        tally += timed("fuzzing", || long::fuzz(&workspace, only));
        tally += timed("mutants", || mutants::run(&workspace, only));
    }
    if !options.host {
        tally += timed("QEMU tests", || qemu(&workspace, only, options.long));
    }
    if !only.is_empty() && tally.passed + tally.failed + tally.skipped == 0 {
        say(&format!(
            "no QEMU row, planted fault, boards, Miri, fuzzing or mutants step has {only:?} in its name; \
             all but the first need --long"
        ));
    }
    say(&tally.to_string());
    Ok(if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one kind of tests; what stops it counts as one failure.
fn timed(what: &str, run: impl FnOnce() -> Result<Tally>) -> Tally {
    let start = Instant::now();
    let tally = run().unwrap_or_else(|error| {
        say(&format!("{what}: {} {error:#}", Paint::stdout().bad("error:")));
        Tally::one(false)
    });
    say(&format!("{what}: {tally} ({:.0} s)", start.elapsed().as_secs_f32()));
    tally
}

fn qemu(workspace: &Workspace, only: &str, long: bool) -> Result<Tally> {
    setup::target()?;
    let qemu = setup::qemu(None)?;
    let mut tally = scenarios(workspace, &qemu.path, only, long)?;
    tally += on_target::run(workspace, &qemu.path, only)?;
    tally += invalidation::run(workspace, &qemu.path, only)?;
    tally += words::run(workspace, &qemu.path, only)?;
    tally += uefi::run(workspace, &qemu.path, only)?;
    tally += kernels::run(workspace, only)?;
    if long {
        tally += kernels::firmware(only)?;
    }
    tally += witnesses::run(&qemu.path, only, long)?;
    tally += boards_alike::run(&qemu.path, only)?;
    Ok(tally)
}

/// Plays the rows whose names hold `only`.
fn scenarios(
    workspace: &Workspace,
    qemu: &std::path::Path,
    only: &str,
    long: bool,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let long: &[Row] = if long { LONG_ROWS } else { &[] };
    let rows: Vec<&Row> = ROWS.iter().chain(long).filter(|row| row.name.contains(only)).collect();
    if rows.is_empty() {
        return Ok(tally);
    }
    let images = Images {
        flat: hypervisor(workspace, Board::QemuVirt)?,
        elf: hypervisor_elf(workspace, Board::QemuVirt)?,
    };
    for row in rows {
        if interrupt::asked() {
            anyhow::bail!("interrupted");
        }
        let start = Instant::now();
        let quiet = Quiet::default();
        let result = play(workspace, qemu, &images, row, &quiet);
        let (passed, why) = match result {
            Ok(why) => (why.is_empty(), why),
            Err(error) => (false, format!("{error:#}")),
        };
        announce(row.name, passed, start);
        if !passed {
            say(&format!("{why}\n--- {}'s transcript\n{}\n---", row.name, quiet.transcript()));
        }
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// The hypervisor in its two shapes.
struct Images {
    flat: PathBuf,
    elf: PathBuf,
}

/// Plays a row; an empty answer is a pass.
fn play(
    workspace: &Workspace,
    qemu: &std::path::Path,
    images: &Images,
    row: &Row,
    quiet: &Quiet,
) -> Result<String> {
    let kernel = if row.elf { &images.elf } else { &images.flat };
    let (job, _folder) = prepare(workspace, qemu, kernel, row.scenario, &row.wish())
        .with_context(|| format!("scenario {}", row.scenario))?;
    let outcome = drive::run(&job, Box::new(quiet.clone()));
    if let Verdict::GivesUp(words) = row.verdict {
        let started = outcome.records.of("vm").any(|vm| text(vm, "state") == Some("started"));
        let error = outcome.error.as_deref().unwrap_or("no error");
        let gave_up = outcome.records.of("error").next().is_some();
        if gave_up && !started && words.iter().all(|word| error.contains(word)) {
            return Ok(String::new());
        }
        return Ok(format!("wanted an error with {words:?} before any VM starts: {error}"));
    }
    let ends = matches!(row.verdict, Verdict::Ends);
    if outcome.passed() || ends && outcome.error.is_none() && outcome.records.ended() {
        return Ok(String::new());
    }
    let mut why: Vec<String> = outcome.error.iter().cloned().collect();
    for check in outcome.checks.iter().filter(|check| !check.passed) {
        why.push(format!("check {}: {}", check.name, check.evidence));
    }
    why.push(String::new());
    Ok(why.join("\n"))
}
