//! Virtual SMMUs: the emulation over the driver over the model with stale caches.
//!
//! 1. Every register that Linux reads answers as Linux needs it.
//! 2. A transaction reaches what the guest's tables say under stage 2, and nothing once an
//!    invalidation and a synchronisation have followed an unmap.
//! 3. A stage 1 fault is in the queue of its own guest, with the guest's StreamID; a stage 2 fault
//!    is charged to the VM, and no guest is told.
//!
//! `PALISADE_TRACE=file` replays what QEMU's `smmuv3_*` trace points have printed of another
//! kernel; `PALISADE_COMPACT=file` writes its compact form as well.
#![allow(missing_docs)]

use std::path::PathBuf;

use palisade_host::seeds::{chosen, long, play_all};
use palisade_host::virtual_smmu::{
    self, ReplayTally, Scene, Trace, WorldTally, hostile, random, replay, scene,
};

fn fixture(name: &str) -> Trace {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(name);
    let text = std::fs::read_to_string(path).expect("the fixture");
    Trace::from_compact(&text).expect("a trace")
}

fn replayed(trace: &Trace, seed: u64, messages: bool) -> ReplayTally {
    match replay(trace, seed, messages) {
        Ok(tally) => tally,
        Err(wrong) => panic!("seed {seed}: {wrong}"),
    }
}

/// 3,596 pages are mapped, used, unmapped and used again; one in sixteen leads outside.
#[test]
fn linux_boots_on_it() {
    let tally = replayed(&fixture("linux-6.12-smmu.trace"), 1, false);
    let (steps, reached, faulted, charged, attached) = (7239, 3371, 3596, 225, 1);
    assert_eq!(tally, ReplayTally { steps, reached, faulted, charged, attached });
}

/// The same with words in memory for completion.
#[test]
fn linux_boots_on_it_and_waits_for_messages() {
    let tally = replayed(&fixture("linux-6.12-smmu.trace"), 2, true);
    assert_eq!((tally.reached, tally.faulted), (3371, 3596));
}

/// Devices move between domains, and the event queue is read.
#[test]
fn vfio_moves_devices_between_domains() {
    let trace = fixture("linux-6.12-vfio.trace");
    for seed in 1..9 {
        let tally = replayed(&trace, seed, seed % 2 == 0);
        assert_eq!((tally.attached, tally.reached, tally.faulted), (6, 254, 217));
    }
}

#[test]
fn another_kernels_trace() {
    let Some(path) = std::env::var_os("PALISADE_TRACE") else { return };
    let text = std::fs::read_to_string(path).expect("the trace");
    let trace = Trace::from_qemu(&text).expect("a trace");
    if let Some(path) = std::env::var_os("PALISADE_COMPACT") {
        std::fs::write(path, trace.compact()).expect("a file");
    }
    for messages in [false, true] {
        println!("{:?}", replayed(&trace, 1, messages));
    }
}

fn told(story: impl Fn(&mut Scene) -> Result<(), String>) {
    if let Err(wrong) = scene(4, story) {
        panic!("{wrong}");
    }
}

#[test]
fn gbpa_decides_while_it_is_off() {
    told(virtual_smmu::gbpa_decides_while_it_is_off);
}

#[test]
fn a_reset_is_a_first_start() {
    told(virtual_smmu::a_reset_is_a_first_start);
}

#[test]
fn a_device_that_goes_is_nobodys() {
    told(virtual_smmu::a_device_that_goes_is_nobodys);
}

#[test]
fn queues_and_tables_outside_ram() {
    told(hostile::queues_and_tables_outside_ram);
}

#[test]
fn sizes_beyond_the_offer() {
    told(hostile::sizes_beyond_the_offer);
}

#[test]
fn entries_that_make_no_sense() {
    told(hostile::entries_that_make_no_sense);
}

#[test]
fn streams_that_are_not_its_own() {
    told(hostile::streams_that_are_not_its_own);
}

#[test]
fn messages_onto_its_own_tables() {
    told(hostile::messages_onto_its_own_tables);
}

#[test]
fn a_fault_storm_in_a_queue_of_one() {
    told(hostile::a_fault_storm_in_a_queue_of_one);
}

#[test]
fn registers_in_a_storm() {
    told(hostile::registers_in_a_storm);
}

#[test]
fn a_flood_of_entries_is_cut() {
    told(hostile::a_flood_of_entries_is_cut);
}

#[test]
fn two_vcpus_race_prod() {
    told(hostile::two_vcpus_race_prod);
}

#[test]
fn a_contained_device_stays_so() {
    if let Err(wrong) = virtual_smmu::scene_with(2, 16, hostile::a_contained_device_stays_so) {
        panic!("{wrong}");
    }
}

#[test]
fn rewritten_while_read() {
    told(hostile::rewritten_while_read);
}

#[test]
fn a_context_changes_under_its_entry() {
    told(virtual_smmu::a_context_changes_under_its_entry);
}

/// Three VMs, four devices each of 64 substreams, and everything that their guests may do.
#[test]
fn random_guests_reach_what_their_tables_say() {
    let (count, steps) = if long() { (200, 5000) } else { (8, 400) };
    let seeds = chosen(1..count + 1);
    let tallies = play_all("virtual-smmu", &seeds, steps, |seed| random(seed, steps));
    let sum = |of: fn(&WorldTally) -> u64| tallies.iter().map(of).sum::<u64>();
    if seeds.len() > 1 {
        let all = [
            sum(|one| one.reached),
            sum(|one| one.refused),
            sum(|one| one.told),
            sum(|one| one.charged),
            sum(|one| one.hostile),
        ];
        assert!(all.iter().all(|&count| count > 100), "nothing was tested: {all:?}");
    }
}
