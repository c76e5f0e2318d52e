//! What a guest can make the hypervisor take.
//!
//! 1. However it gives its RAM up, a VM uses up its own frames: its neighbours still get theirs.
//! 2. What was set aside for a VM is enough for the worst that its guest can do.
//! 3. At its end everything that was set aside is free again.
use alloc::vec::Vec;

use palisade_hal::{Ipa, PhysAddr};
use palisade_mem::{Block, Frames, Owner, Use};

use super::super::*;
use super::machine::{MIB, Machine};

const RAM: u64 = 0x4000_0000;

/// Takes everything that can be had.
fn exhaust(frames: &Frames) -> Vec<Block> {
    let take = |_| frames.alloc(0, Use::Private, Owner::HYPERVISOR).ok();
    (0..).map_while(take).collect()
}

#[test]
fn a_guest_that_gives_up_pages_leaves_its_neighbours_theirs() {
    let m = Machine::new();
    let before = m.frames.footprint();
    let (greedy, neighbour) = (m.memory_of(1), m.memory_of(2));
    greedy.add_ram(Ipa::new(RAM), 8 * MIB, &[]).unwrap();
    neighbour.add_ram(Ipa::new(RAM), 2 * MIB, &[]).unwrap();
    let rest = exhaust(&m.frames);
    // One page in each 2 MiB costs two tables; all of them are its own.
    for at in (0..8 * MIB).step_by(2 << 20) {
        greedy.give_up(Ipa::new(RAM + at), 0x1000).unwrap();
    }
    assert!(exhaust(&m.frames).is_empty(), "what is set aside is nobody else's");
    for (nth, bar) in [0x1000_0000, 0x2000_0000, 0x60_0000_0000u64].into_iter().enumerate() {
        let pa = PhysAddr::new(0x1000_0000 + (nth as u64) * 0x1_0000);
        neighbour.map_device(Ipa::new(bar), pa, 0x4000).unwrap();
    }
    neighbour.give_up(Ipa::new(RAM + 0x5000), 0x1000).unwrap();
    for block in rest {
        m.frames.free(block).unwrap();
    }
    for memory in [greedy, neighbour] {
        assert_eq!(memory.tear_down(), TornDown::Released);
    }
    assert_eq!(m.frames.footprint(), before);
    assert_eq!(m.frames.available(), before.free);
}

#[test]
fn the_worst_that_a_guest_can_do_fits_into_what_was_set_aside() {
    let m = Machine::new();
    let memory = m.memory_of(1);
    // It begins and ends in the middle of a table.
    let (start, bytes) = (RAM + 0x1f_f000, 6 * MIB + 0x2000);
    memory.add_ram(Ipa::new(start), bytes, &[]).unwrap();
    let rest = exhaust(&m.frames);
    for round in 0..3 {
        for at in (0..bytes).step_by(0x2000) {
            memory.give_up(Ipa::new(start + at), 0x1000).unwrap();
        }
        // Everything of each 2 MiB, so that tables come and go.
        memory.give_up(Ipa::new(start), bytes).unwrap();
        memory.wipe().unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
    for device in 0..palisade_bundle::MAX_DEVICES as u64 {
        for bar in 0..6 {
            let ipa = Ipa::new(0x60_0000_0000 + ((device * 6 + bar) << 30));
            memory.map_device(ipa, PhysAddr::new(0x1000_0000), 0x1000).unwrap();
        }
    }
    for block in rest {
        m.frames.free(block).unwrap();
    }
    assert_eq!(memory.tear_down(), TornDown::Released);
}

#[test]
fn a_vm_whose_tables_cannot_be_set_aside_is_refused_whole() {
    let m = Machine::new();
    let memory = m.memory_of(1);
    let available = m.frames.available();
    let error = memory.add_ram(Ipa::new(RAM), available * 4096, &[]).unwrap_err();
    assert!(matches!(error, MemoryError::TooLittle(..)), "{error}");
    assert_eq!(m.frames.available(), available, "nothing was set aside for it");
    assert_eq!(memory.tear_down(), TornDown::Released);
    let rest = exhaust(&m.frames);
    let owner = m.iommus.owners().open(2).unwrap();
    assert!(matches!(m.try_memory(owner), Err(MemoryError::NoTables(_))));
    for block in rest {
        m.frames.free(block).unwrap();
    }
}

/// Devices with many requester IDs have tables for all of their context tables.
#[test]
fn context_tables_go_by_the_streams_that_there_are() {
    let m = Machine::new();
    let before = m.frames.available();
    let memory = m.memory_of(1);
    let known = m.frames.available();
    memory.set_aside_contexts(64).unwrap();
    assert_eq!(m.frames.available(), known, "8 devices of 8 streams are");
    // 200 of 64 KiB are 12.5 MiB: 7 tables of level 3 and one of level 2, and one more of each
    // where they begin in the middle; 64 of them had 2 and one.
    memory.set_aside_contexts(200).unwrap();
    assert_eq!(known - m.frames.available(), 5);
    memory.set_aside_contexts(3).unwrap();
    memory.set_aside_contexts(200).unwrap();
    assert_eq!(known - m.frames.available(), 5, "once");
    assert_eq!(memory.tear_down(), TornDown::Released);
    drop(memory);
    assert_eq!(m.frames.available(), before);
}
