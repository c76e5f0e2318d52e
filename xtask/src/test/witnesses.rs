//! The model against QEMU's SMMU: the same tables and transactions on both must come to the same,
//! but for what QEMU is known to do wrong.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use palisade_e2e::console::say;
use palisade_model_against_qemu::known::KNOWN;
use palisade_model_against_qemu::{Amount, Outcome, run as compare};

use crate::guard;
use crate::progress;
use crate::test::run::announce;
use crate::test::tally::Tally;

const NAME: &str = "model-against-qemu";
/// The first seed of the cases that are drawn.
const SEED: u64 = 7;
/// How many are drawn, and in the long mode.
const RANDOM: u64 = 500;
const RANDOM_LONG: u64 = 30_000;
/// Disagreements that are printed in full.
const SHOWN: usize = 20;

/// Compares, where the name holds `only`.
pub fn run(qemu: &Path, only: &str, long: bool) -> Result<Tally> {
    if !NAME.contains(only) {
        return Ok(Tally::default());
    }
    let start = Instant::now();
    let amount = Amount { random: if long { RANDOM_LONG } else { RANDOM }, seed: SEED };
    let step = progress::step("comparing the model with QEMU's SMMU");
    let outcome = compare(qemu, &guard::words(), amount, |_| ())?;
    drop(step);
    let passed = tell(&outcome);
    announce(NAME, passed, start);
    Ok(Tally::one(passed))
}

/// Says what came of it, and whether that is as it should be.
fn tell(outcome: &Outcome) -> bool {
    let Outcome { report, overlooked, planted } = outcome;
    let unexplained = report.disagreements.len();
    say(&format!(
        "{NAME}: {} cases, {} accesses: {} arrived alike, {} event records alike, {} otherwise as \
         QEMU is known to be wrong, {unexplained} unexplained; {} of {planted} planted \
         differences noticed",
        report.cases,
        report.accesses,
        report.reached,
        report.events,
        report.explained,
        planted - overlooked.len(),
    ));
    for known in KNOWN {
        let met = report.known.get(known.name).copied().unwrap_or(0);
        let note = if met == 0 { "; not met: has this QEMU mended it?" } else { "" };
        say(&format!("{NAME}: known, {met} times: {}{note}", known.name));
    }
    for found in report.disagreements.iter().take(SHOWN) {
        say(&format!("{NAME}: {found}"));
    }
    for what in overlooked {
        say(&format!("{NAME}: nobody noticed the planted difference in {what}"));
    }
    unexplained == 0 && overlooked.is_empty() && report.reached > 0 && report.events > 0
}
