//! The driver against the model.
//!
//! 1. A transaction reaches exactly what its owner's tables say at an instant between call and
//!    return of the operation under way: nothing it lost, never another's, never the hypervisor's.
//! 2. A stream that nobody owns aborts, from the first instant after the SMMU can abort.
//! 3. The driver does nothing that the manual forbids.
//!
//! `PALISADE_SEED=n` replays the one seed that a failure names; `PALISADE_LONG=1` runs more than a
//! million steps.
#![allow(missing_docs)]

use palisade_host::seeds::{chosen, long, play_all};
use palisade_host::{Injections, Setup, Tally, run};

/// Plays `count` seeds from `first` on, `steps` steps each; the sums of what they saw.
fn play(name: &str, first: u64, (count, steps): (u64, u64), injections: Injections) -> Tally {
    let seeds = chosen(first..first + count);
    let tallies = play_all(name, &seeds, steps, |seed| {
        let setup = Setup { injections, ..Setup::from_seed(seed) };
        run(&setup, steps)
            .map_err(|violation| format!("{}: {}", violation.assertion, violation.detail))
    });
    tallies.iter().fold(Tally::default(), |sum, one| Tally {
        steps: sum.steps + one.steps,
        tried: sum.tried + one.tried,
        reached: sum.reached + one.reached,
    })
}

#[test]
fn every_transaction_reaches_what_its_owner_says() {
    let sizes = if long() { (500, 2000) } else { (40, 150) };
    let tally = play("driver against model", 1, sizes, Injections::None);
    println!("{} steps, {} of {} transactions", tally.steps, tally.reached, tally.tried);
    assert!(tally.reached > 100, "{} reached memory: nothing was tested", tally.reached);
}

#[test]
fn injected_faults_never_open_anything() {
    let sizes = if long() { (2000, 200) } else { (60, 100) };
    play("driver against model, injected faults", 10_000, sizes, Injections::All);
}
