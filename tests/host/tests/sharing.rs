//! Address spaces shared with devices, driver and core against the model.
//!
//! 1. A transaction reaches exactly what its process maps at an instant between call and return
//!    of the operation under way, or is refused for a reason that holds then.
//! 2. A refused transaction's record is of the right kind and comes to the right VM; a bad
//!    descriptor is never seen where something was ever bound.
//! 3. In the end no ASID, VMID, frame, table or notifier is missing.
//!
//! `PALISADE_SEED=n` replays the one seed that a failure names; `PALISADE_LONG=1` runs longer.
#![allow(missing_docs)]

use palisade_host::{Sharing, share};

#[test]
fn every_transaction_reaches_what_its_process_maps() {
    let long = std::env::var("PALISADE_LONG").is_ok_and(|value| value == "1");
    let chosen = std::env::var("PALISADE_SEED").ok().and_then(|value| value.parse().ok());
    let (count, steps) = if long { (200, 5000) } else { (6, 150) };
    let seeds: Vec<u64> = chosen.map_or_else(|| (1..=count).collect(), |seed| vec![seed]);
    let (mut reached, mut refused, mut stalled) = (0, 0, 0);
    for &seed in &seeds {
        match share(&Sharing::from_seed(seed), steps) {
            Ok(tally) => {
                reached += tally.reached;
                refused += tally.refused;
                stalled += tally.stalled;
            }
            Err(wrong) => panic!("{wrong}\nPALISADE_SEED={seed} replays it"),
        }
    }
    if chosen.is_none() {
        assert!(
            reached > 500 && refused > 500 && stalled > 5,
            "nothing was tested: {reached} reached, {refused} refused, {stalled} stalled"
        );
    }
}
