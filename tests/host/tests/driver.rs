//! The driver against the model.
//!
//! 1. A transaction reaches exactly what its owner's tables say at an instant between call and
//!    return of the operation under way: nothing it lost, never another's, never the hypervisor's.
//! 2. A stream that nobody owns aborts, from the first instant after the SMMU can abort.
//! 3. The driver does nothing that the manual forbids.
//!
//! `PALISADE_SEED=n` replays the one seed that a failure names; `PALISADE_LONG=1` runs a million
//! steps.
#![allow(missing_docs)]

use palisade_host::{Injections, Setup, Tally, run};

fn long() -> bool {
    std::env::var("PALISADE_LONG").is_ok_and(|value| value == "1")
}

/// The seeds to run, and the steps of each.
fn plan(first: u64, short: (u64, u64), million: (u64, u64)) -> (Vec<u64>, u64) {
    let (count, steps) = if long() { million } else { short };
    let chosen = std::env::var("PALISADE_SEED").ok().and_then(|value| value.parse().ok());
    match chosen {
        Some(seed) => (vec![seed], steps),
        None => ((first..first + count).collect(), steps),
    }
}

fn play(seed: u64, steps: u64, injections: Injections) -> Tally {
    let setup = Setup { injections, ..Setup::from_seed(seed) };
    match run(&setup, steps) {
        Ok(tally) => tally,
        Err(violation) => {
            panic!("{}: {}\nPALISADE_SEED={seed} replays it", violation.assertion, violation.detail)
        }
    }
}

#[test]
fn every_transaction_reaches_what_its_owner_says() {
    let (seeds, steps) = plan(1, (40, 150), (500, 2000));
    let mut reached = 0;
    for seed in seeds {
        reached += play(seed, steps, Injections::None).reached;
    }
    assert!(reached > 100, "only {reached} transactions reached memory: nothing was tested");
}

#[test]
fn injected_faults_never_open_anything() {
    let (seeds, steps) = plan(10_000, (60, 100), (2000, 200));
    for seed in seeds {
        play(seed, steps, Injections::All);
    }
}
