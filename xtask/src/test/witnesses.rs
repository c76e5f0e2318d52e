//! The model against QEMU's SMMU: the same tables and transactions on both must come to the same,
//! but for what QEMU is known to do wrong.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use palisade_e2e::console::say;
use palisade_model_against_qemu::known::KNOWN;
use palisade_model_against_qemu::{Amount, Hand, Outcome, has, run as compare};

use crate::guard;
use crate::progress;
use crate::test::run::announce;
use crate::test::tally::Tally;

/// The row of each kind of device that QEMU may have, and how many cases it plays beside those that
/// are written down; in the long mode as well.
const ROWS: &[(&str, Hand, [u64; 2])] = &[
    ("model-against-qemu", Hand::Edu, [500, 30_000]),
    ("model-against-qemu-testdev", Hand::Testdev, [1000, 30_000]),
];
/// The first seed of the cases that are drawn.
const SEED: u64 = 7;
/// Disagreements that are printed in full.
const SHOWN: usize = 20;

/// Compares, where the name holds `only` and QEMU has the devices.
pub fn run(qemu: &Path, only: &str, long: bool) -> Result<Tally> {
    let mut tally = Tally::default();
    for (name, hand, random) in ROWS.iter().filter(|(name, ..)| name.contains(only)) {
        if !has(qemu, *hand)? {
            say(&format!("{name}: this QEMU has no {}", hand.name()));
            continue;
        }
        let start = Instant::now();
        let amount = Amount { random: random[usize::from(long)], seed: SEED };
        let step = progress::step(&format!("comparing the model with QEMU's SMMU: {name}"));
        let outcome = compare(qemu, &guard::words(), *hand, amount, |_| ())?;
        drop(step);
        let passed = tell(name, *hand, &outcome);
        announce(name, passed, start);
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// Says what came of it, and whether that is as it should be.
fn tell(name: &str, hand: Hand, outcome: &Outcome) -> bool {
    let Outcome { report, overlooked, planted } = outcome;
    let unexplained = report.disagreements.len();
    say(&format!(
        "{name}: {} cases, {} accesses: {} arrived alike, {} event records alike, {} otherwise as \
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
        // Devices that only write do not meet what reads do.
        let mended = met == 0 && hand.reads();
        let note = if mended { "; has this QEMU mended it?" } else { "" };
        say(&format!("{name}: known, {met} times: {}{note}", known.name));
    }
    for found in report.disagreements.iter().take(SHOWN) {
        say(&format!("{name}: {found}"));
    }
    for what in overlooked {
        say(&format!("{name}: nobody noticed the planted difference in {what}"));
    }
    unexplained == 0 && overlooked.is_empty() && report.reached > 0 && report.events > 0
}
