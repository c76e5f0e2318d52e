//! The end of a VM's memory.
//!
//! 1. What an entry of an IOMMU may still point at is never released: neither under an attached
//!    device nor after a detach that the hardware did not confirm.
//! 2. What a device may write to that no IOMMU confines is never released; the tables are.
use palisade_hal::{Ipa, StreamId};
use palisade_iommu::DriverError;
use palisade_iommu::fake::Reach;

use super::super::*;
use super::machine::{MIB, Machine, STREAMS};

const RAM: Ipa = Ipa::new(0x4000_0000);

fn stream(number: usize) -> StreamId {
    StreamId::new(STREAMS[number])
}

#[test]
fn under_an_attached_device_nothing_is_released() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
    let group = m.attach(0, &memory);
    let before = m.frames.footprint();
    let TornDown::Quarantined(lost) = memory.tear_down() else { panic!("released") };
    assert_eq!(lost, before.guest + before.table);
    assert_eq!(m.frames.footprint().free, before.free);
    // The device goes on as before, in memory that nobody else ever gets.
    assert!(matches!(m.driver.transaction(stream(0), None), Reach::Through(_)));
    m.iommus.detach(&group).unwrap();
    assert_eq!(m.frames.footprint().free, before.free, "given up for good");
    assert_eq!(m.iommus.footprint().vmids, 1, "its VMID with it");
}

#[test]
fn after_a_detach_that_was_not_confirmed_nothing_is_released() {
    for calls in 0..2 {
        let m = Machine::new();
        let memory = m.memory();
        memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
        let group = m.attach(0, &memory);
        assert!(matches!(m.driver.transaction(stream(0), None), Reach::Through(_)));
        // The abort, then the invalidation.
        m.driver.fail_after(calls, DriverError::Timeout(stream(0)));
        m.iommus.detach(&group).unwrap_err();
        let before = m.frames.footprint();
        let TornDown::Quarantined(lost) = memory.tear_down() else { panic!("released: {calls}") };
        assert_eq!(lost, before.guest + before.table);
        assert_eq!(m.frames.footprint().free, before.free);
        assert_eq!(m.iommus.footprint().vmids_lost, 1);
    }
}

#[test]
fn ram_that_a_device_may_still_write_to_is_not_released() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
    memory.expose();
    let before = m.frames.footprint();
    assert_eq!(memory.tear_down(), TornDown::Quarantined(before.guest));
    let after = m.frames.footprint();
    assert_eq!((after.quarantined, after.table), (before.guest, 0));
    assert_eq!(m.iommus.footprint().vmids, 0, "no table of it is anywhere");
}
