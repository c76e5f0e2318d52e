//! What each view lets through, read from the tables in memory.
//!
//! 1. RAM is read and written by both; read-only RAM is written by neither.
//! 2. The DMA view has RAM, the doorbell and context tables; it has no registers of devices.
//! 3. Context tables are read by the SMMU and written by nobody.
//! 4. What is mapped is what the map says, to the last byte.
use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::ContextView;

use super::super::*;
use super::machine::{Leaf, MIB, Machine};
use crate::pci::BarMap;

const RAM: u64 = 0x4000_0000;
const BAR: u64 = 0x1000_0000;
/// Normal memory, write-back, and Device-nGnRE (DDI 0487, D8.6.6).
const CACHED: u64 = 0b1111;
const DEVICES: core::ops::RangeInclusive<u64> = 0..=3;

#[test]
fn ram_is_read_and_written_by_both_but_where_it_is_read_only() {
    let m = Machine::new();
    let memory = m.memory();
    let readonly = [(Ipa::new(RAM + 0x1000), 0x2000), (Ipa::new(RAM + 2 * MIB), 0x1000)];
    memory.add_ram(Ipa::new(RAM), 4 * MIB, &readonly).unwrap();
    for page in (0..4 * MIB).step_by(4096) {
        let ipa = RAM + page + 0x123;
        let locked = readonly
            .iter()
            .any(|(start, bytes)| (start.get()..start.get() + bytes).contains(&(ipa & !0xfff)));
        let pa = memory.translate(Ipa::new(ipa)).unwrap().get();
        let wanted = Leaf { pa, read: true, write: !locked, attributes: CACHED };
        assert_eq!(m.cpu_walk(&memory, ipa), Some(wanted), "{ipa:#x}");
        assert_eq!(m.dma_walk(&memory, ipa), Some(wanted), "{ipa:#x}");
        assert_eq!(memory.is_writable(Ipa::new(ipa & !0xfff), 0x1000), !locked);
    }
    for outside in [RAM - 1, RAM + 4 * MIB] {
        assert_eq!(m.cpu_walk(&memory, outside), None);
        assert_eq!(m.dma_walk(&memory, outside), None);
    }
    // A page that was given up comes back as what it was.
    memory.give_up(Ipa::new(RAM), 0x4000).unwrap();
    assert_eq!(m.dma_walk(&memory, RAM + 0x1000), None);
    memory.wipe().unwrap();
    for (page, write) in [(0, true), (1, false), (2, false), (3, true)] {
        let leaf = m.dma_walk(&memory, RAM + page * 0x1000).unwrap();
        assert_eq!(leaf.write, write, "page {page}");
        assert_eq!(m.cpu_walk(&memory, RAM + page * 0x1000), Some(leaf));
    }
}

#[test]
fn registers_are_the_cpus_alone_and_doorbells_the_devices() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(Ipa::new(RAM), 2 * MIB, &[]).unwrap();
    let pa = PhysAddr::new(0x1_2345_6000);
    memory.map_device(Ipa::new(BAR), pa, 0x2000).unwrap();
    let leaf = m.cpu_walk(&memory, BAR + 0x1008).unwrap();
    assert_eq!((leaf.pa, leaf.read, leaf.write), (pa.get() + 0x1008, true, true));
    assert!(DEVICES.contains(&leaf.attributes), "{leaf:?}");
    assert_eq!(m.dma_walk(&memory, BAR), None, "no device reaches another's registers");
    assert_eq!(m.cpu_walk(&memory, BAR + 0x2000), None);

    let bell = 0x0809_0000;
    memory.map_doorbell(Ipa::new(bell), PhysAddr::new(0x0808_0000)).unwrap();
    let leaf = m.dma_walk(&memory, bell + 0x40).unwrap();
    assert_eq!((leaf.pa, leaf.read, leaf.write), (0x0808_0040, false, true));
    assert!(DEVICES.contains(&leaf.attributes), "{leaf:?}");
    assert_eq!(m.cpu_walk(&memory, bell), None);
    let again = memory.map_doorbell(Ipa::new(bell), PhysAddr::new(0x0808_0000));
    assert_eq!(again, Err(MemoryError::Overlap(Ipa::new(bell))));

    assert!(!BarMap::map(&*memory, Ipa::new(BAR), pa, 0x1000), "something is there");
    BarMap::unmap(&*memory, Ipa::new(BAR), 0x2000);
    assert_eq!(m.cpu_walk(&memory, BAR), None);
    assert!(BarMap::map(&*memory, Ipa::new(BAR), pa, 0x1000));
    assert!(m.cpu_walk(&memory, BAR).is_some());
}

#[test]
fn context_tables_are_written_by_nobody() {
    let m = Machine::new();
    let memory = m.memory();
    let pa = PhysAddr::new(0x9000_0000);
    let at = memory.publish(pa, 0x2000, 0x1000).unwrap();
    for offset in [0, 0x1fff] {
        let wanted = Leaf { pa: pa.get() + offset, read: true, write: false, attributes: CACHED };
        assert_eq!(m.dma_walk(&memory, at + offset), Some(wanted));
        assert_eq!(m.cpu_walk(&memory, at + offset), None, "the guest does not see them");
    }
    assert_eq!(m.dma_walk(&memory, at + 0x2000), None);
    memory.withdraw(at, 0x2000).unwrap();
    assert_eq!(m.dma_walk(&memory, at), None);
    assert_eq!(memory.withdraw(at, 0x2000), Ok(()), "it is gone already");
}

#[test]
fn the_registers_of_the_cores_name_the_vms_own_tables() {
    let m = Machine::new();
    let (one, two) = (m.memory_of(1), m.memory_of(2));
    assert_ne!(one.vmid(), two.vmid());
    for memory in [&one, &two] {
        let stage2 = memory.stage2();
        assert_eq!(stage2.vttbr >> 48, u64::from(memory.vmid().get()));
        assert_ne!(memory.vmid().get(), 0);
        assert_eq!(stage2.vtcr & 0x3f, 64 - 39, "T0SZ of 39 bits");
    }
    one.add_ram(Ipa::new(RAM), 2 * MIB, &[]).unwrap();
    assert!(m.cpu_walk(&one, RAM).is_some());
    assert_eq!(m.cpu_walk(&two, RAM), None);
}
