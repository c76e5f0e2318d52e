//! A VM's memory over the fake arena and a fake IOMMU.
//!
//! 1. Both views are built from one map; the DMA view has nothing but RAM and the doorbell.
//! 2. What is given up is in neither view, after an invalidation of both.
//! 3. Torn down, every frame is back; without a proof, none of them.
use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::ContextView;

use super::super::*;
use super::machine::{MIB, Machine};
use crate::hypercall::GuestRam;

#[test]
fn ram_is_zeroed_copied_and_bounded() {
    let m = Machine::new();
    let memory = m.memory();
    let base = Ipa::new(0x4000_0000);
    memory.add_ram(base, 8 * MIB, &[(Ipa::new(0x4010_0000), 0x1000)]).unwrap();
    let mut word = [1; 8];
    assert!(memory.read(Ipa::new(0x4000_0ffc), &mut word), "across a page");
    assert_eq!(word, [0; 8]);
    assert!(memory.write(Ipa::new(0x4010_0ffc), b"boundary"));
    assert!(memory.read(Ipa::new(0x4010_0ffc), &mut word));
    assert_eq!(&word, b"boundary");
    assert!(!memory.write(Ipa::new(0x407f_fffc), b"boundary"), "past the end");
    assert!(!memory.read(Ipa::new(u64::MAX - 3), &mut word));
    assert!(!memory.read(Ipa::new(0x3fff_fffc), &mut word));
    let kinds = memory.regions().iter().filter(|r| r.kind == Kind::ReadOnlyRam).count();
    assert_eq!(kinds, 1);
    memory.wipe().unwrap();
    assert!(memory.read(Ipa::new(0x4010_0ffc), &mut word));
    assert_eq!(word, [0; 8]);
    assert_eq!(memory.tear_down(), TornDown::Released);
}

#[test]
fn everything_comes_back() {
    let m = Machine::new();
    let before = m.frames.footprint();
    for _ in 0..3 {
        let memory = m.memory();
        memory.add_ram(Ipa::new(0x4000_0000), 6 * MIB, &[]).unwrap();
        memory.map_device(Ipa::new(0x1000_0000), PhysAddr::new(0x1000_0000), 0x4000).unwrap();
        memory.map_doorbell(Ipa::new(0x0809_0000), PhysAddr::new(0x0809_0000)).unwrap();
        assert!(m.frames.footprint().guest >= 6 * MIB / 4096);
        memory.unmap_device(Ipa::new(0x1000_0000), 0x4000).unwrap();
        let again = memory.unmap_device(Ipa::new(0x1000_0000), 0x4000);
        assert_eq!(again, Err(MemoryError::NotMapped(Ipa::new(0x1000_0000))));
        assert_eq!(memory.tear_down(), TornDown::Released);
        assert_eq!(memory.translate(Ipa::new(0x4000_0000)), None);
        let owner = memory.domain().owner().unwrap();
        m.iommus.owners().close(owner).unwrap();
    }
    assert_eq!(m.frames.footprint(), before);
    assert_eq!(m.iommus.footprint().vmids, 0);
}

#[test]
fn what_is_given_up_is_in_neither_view() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(Ipa::new(0x4000_0000), 2 * MIB, &[]).unwrap();
    let err = memory.give_up(Ipa::new(0x401f_f000), 0x2000);
    assert_eq!(err, Err(MemoryError::NotMapped(Ipa::new(0x4020_0000))));
    // A page out of a block: the rest stays.
    memory.give_up(Ipa::new(0x4010_0000), 0x1000).unwrap();
    assert_eq!(memory.translate(Ipa::new(0x4010_0000)), None);
    assert!(memory.write(Ipa::new(0x4010_1000), &[7; 4]));
    memory.wipe().unwrap();
    let mut word = [1; 4];
    assert!(memory.read(Ipa::new(0x4010_0000), &mut word), "whole again");
    assert_eq!(word, [0; 4]);
    memory.give_up(Ipa::new(0x4000_0000), 2 * MIB).unwrap();
    assert_eq!(memory.translate(Ipa::new(0x4000_1000)), None);
    assert!(!memory.write(Ipa::new(0x4000_1000), &[0; 4]));
    assert_eq!(memory.tear_down(), TornDown::Released);
}

#[test]
fn too_much_memory_is_refused_and_all_comes_back() {
    let m = Machine::new();
    let before = m.frames.footprint();
    let memory = m.memory();
    let error = memory.add_ram(Ipa::new(0x4000_0000), 1 << 30, &[]).unwrap_err();
    assert!(matches!(error, MemoryError::TooLittle(..)));
    assert_eq!(memory.tear_down(), TornDown::Released);
    assert_eq!(m.frames.footprint(), before);
    for (ipa, bytes) in [(0x1000, 0), (0x1800, 0x1000), (1 << 39, 0x1000), (u64::MAX, 0x1000)] {
        let refused = memory.map_device(Ipa::new(ipa), PhysAddr::new(0), bytes);
        assert_eq!(refused, Err(MemoryError::BadRange(Ipa::new(ipa), bytes)));
    }
}

#[test]
fn devices_do_not_overlap_ram() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(Ipa::new(0x4000_0000), 2 * MIB, &[]).unwrap();
    let at = Ipa::new(0x401f_f000);
    assert_eq!(memory.map_device(at, PhysAddr::new(0x1000), 0x2000), Err(MemoryError::Overlap(at)));
    assert_eq!(memory.tear_down(), TornDown::Released);
}

#[test]
fn context_tables_are_published_aligned_and_withdrawn() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(Ipa::new(0x4000_0000), 2 * MIB, &[(Ipa::new(0x4000_1000), 0x1000)]).unwrap();
    let pa = PhysAddr::new(0x9000_0000);
    let first = memory.publish(pa, 0x1000, 0x1000).unwrap();
    let second = memory.publish(pa, 0x1_0000, 0x1_0000).unwrap();
    assert_eq!((first, second), (0x48_0000_0000, 0x48_0001_0000));
    memory.withdraw(first, 0x1000).unwrap();
    assert_eq!(memory.publish(pa, 0x2000, 0x1000), Ok(first), "the gap before the second");
    assert_eq!(memory.translate(Ipa::new(first)), None, "not the guest's");
    assert!(!GuestRam::contains(&*memory, Ipa::new(first), 8));
    assert!(GuestRam::write(&*memory, Ipa::new(0x4000_0ff8), &[1; 16]).is_err(), "read-only");
    assert!(GuestRam::write(&*memory, Ipa::new(0x4000_0ff8), &[1; 8]).is_ok());
    assert_eq!(memory.tear_down(), TornDown::Released);
    assert_eq!(memory.withdraw(second, 0x1_0000), Ok(()));
}
