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

use palisade_host::seeds::{chosen, long, play_all};
use palisade_host::{Sharing, share};

#[test]
fn every_transaction_reaches_what_its_process_maps() {
    let (count, steps) = if long() { (200, 5000) } else { (6, 150) };
    let seeds = chosen(1..count + 1);
    let tallies =
        play_all("sharing", &seeds, steps, |seed| share(&Sharing::from_seed(seed), steps));
    let (mut reached, mut refused, mut stalled) = (0, 0, 0);
    for tally in &tallies {
        reached += tally.reached;
        refused += tally.refused;
        stalled += tally.stalled;
    }
    if seeds.len() > 1 {
        assert!(
            reached > 500 && refused > 500 && stalled > 5,
            "nothing was tested: {reached} reached, {refused} refused, {stalled} stalled"
        );
    }
}
