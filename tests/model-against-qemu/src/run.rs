//! The whole comparison, on several machines at once: their devices mostly wait.

use std::ffi::OsString;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::cases::{self, Group};
use crate::compare::{Report, compare};
use crate::hand::Hand;
use crate::model::Modelled;
use crate::planted;
use crate::qemu::Qemu;

/// Machines at once.
const MACHINES: usize = 3;

/// What is to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Cases from a seed, beside those that are written down.
    pub random: u64,
    /// The first seed.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Of all cases.
    pub report: Report,
    /// Planted differences that nobody noticed.
    pub overlooked: Vec<&'static str>,
    /// How many were planted.
    pub planted: usize,
}

/// Compares on `qemu` with devices of one kind, started through `guard`; `progress` gets the cases done so far.
///
/// # Errors
/// A machine does not start or breaks down.
pub fn run(
    qemu: &Path,
    guard: &[OsString],
    hand: Hand,
    amount: Amount,
    mut progress: impl FnMut(usize),
) -> Result<Outcome> {
    let (done, counts) = channel();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..MACHINES)
            .map(|number| {
                let done = done.clone();
                scope.spawn(move || share(qemu, guard, hand, amount, number, &done))
            })
            .collect();
        drop(done);
        let mut sum = 0;
        for count in counts {
            sum += count;
            progress(sum);
        }
        let mut report = Report::default();
        for worker in workers {
            report.add(worker.join().map_err(|_| anyhow!("a comparison died"))??);
        }
        let mut groups = cases::written();
        let usual = groups.drain(..).next().context("there are no cases")?;
        let mut machine = Qemu::start(qemu, guard.to_vec(), hand)?;
        let mut model = Modelled::new(amount.seed);
        let (overlooked, planted) = planted::overlooked(&mut model, &mut machine, &usual.plans)?;
        Ok(Outcome { report, overlooked, planted })
    })
}

/// One machine's share of the cases.
fn share(
    qemu: &Path,
    guard: &[OsString],
    hand: Hand,
    amount: Amount,
    number: usize,
    done: &Sender<usize>,
) -> Result<Report> {
    let mut machine = Qemu::start(qemu, guard.to_vec(), hand)?;
    let mut model = Modelled::new(amount.seed + number as u64);
    let mut groups = vec![Group::usual(cases::random::plans(amount.seed, amount.random))];
    // Those with two-level stream tables are the last, and stay it.
    groups.extend(cases::written());
    for group in &mut groups {
        let mut nth = 0;
        group.plans.retain(|_| {
            nth += 1;
            nth % MACHINES == number
        });
    }
    let mut before = 0;
    compare(&mut model, &mut machine, &groups, &mut |cases| {
        // Nobody listens only when the comparison has been given up.
        let _ = done.send(cases - before);
        before = cases;
    })
}
