//! Who must forget, and when.
//!
//! 1. What leaves a view is invalidated on the CPUs, under the VM's own VMID, over all of it, and
//!    on every IOMMU of the domain.
//! 2. A proof speaks for what was detached before the invalidation, and for nothing else.
//! 3. A flush that failed is an error; nothing that it was about is used again.
use alloc::{rc::Rc, vec, vec::Vec};
use core::cell::RefCell;

use palisade_hal::fake::Tlbi;
use palisade_hal::{Ipa, PhysAddr, StreamId};
use palisade_iommu::fake::Call;
use palisade_iommu::{ContextView, DriverError, Invalidation};
use palisade_mem::{Owner, Proof, Use};
use palisade_pgtable::TlbOps;

use super::super::*;
use super::machine::{MIB, Machine, STREAMS, tlbis, watching};
use crate::hypercall::{GuestRam, Kept};

const RAM: Ipa = Ipa::new(0x4000_0000);
/// In another block.
const SECOND: u64 = 0x4020_0000;
const BAR: Ipa = Ipa::new(0x1000_0000);
const TIMEOUT: DriverError = DriverError::InvalidationTimeout;

fn root(memory: &GuestMemory) -> PhysAddr {
    PhysAddr::new(memory.stage2().vttbr & 0xffff_ffff_f000)
}

/// The ranges that the CPUs forgot, all of the VM's own.
fn forgotten(memory: &GuestMemory, seen: &[Tlbi]) -> Vec<(u64, u64)> {
    let own = |tlbi: &Tlbi| match *tlbi {
        Tlbi::Ipa(vmid, root_of, start, bytes, 4096) => {
            assert_eq!((vmid, root_of), (memory.vmid(), root(memory)));
            (start.get(), bytes)
        }
        other => panic!("{other:?}"),
    };
    seen.iter().map(own).collect()
}

/// What the IOMMU was asked to forget.
fn asked(m: &Machine) -> Vec<Invalidation> {
    let item = |call| if let Call::Invalidate(item) = call { Some(item) } else { None };
    m.driver.take_calls().into_iter().filter_map(item).collect()
}

#[test]
fn what_is_unmapped_is_forgotten_by_the_cpus_and_by_every_iommu() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 4 * MIB, &[]).unwrap();
    memory.map_device(BAR, PhysAddr::new(0x1000_0000), 0x4000).unwrap();
    memory.map_device(Ipa::new(0x1000_8000), PhysAddr::new(0x1000_0000), 0x1000).unwrap();
    m.attach(0, &memory);
    m.driver.take_calls();
    // Pages of a table that stays, and then the table with the last of them.
    for (ipa, bytes) in [(BAR, 0x4000), (Ipa::new(0x1000_8000), 0x1000)] {
        let (result, seen) = tlbis(|| memory.unmap_device(ipa, bytes));
        result.unwrap();
        let covers =
            |&(start, size): &(u64, u64)| start <= ipa.get() && ipa.get() + bytes <= start + size;
        assert!(forgotten(&memory, &seen).iter().any(covers), "{seen:?}");
        assert_eq!(m.cpu_walk(&memory, ipa.get()), None);
        let covered = asked(&m).into_iter().any(|item| {
            matches!(item, Invalidation::StageTwo { vmid, start, size, .. }
                if vmid == memory.vmid() && covers(&(start.get(), size)))
        });
        assert!(covered, "the IOMMU too");
    }
    let (result, seen) = tlbis(|| memory.give_up(Ipa::new(RAM.get() + 0x5000), 0x3000));
    result.unwrap();
    let over = |&(start, size): &(u64, u64)| start <= 0x4000_5000 && 0x4000_8000 <= start + size;
    assert!(forgotten(&memory, &seen).iter().any(over), "{seen:?}");
    let covered = asked(&m).into_iter().any(|item| {
        matches!(item, Invalidation::StageTwo { vmid, start, size, .. }
            if vmid == memory.vmid() && over(&(start.get(), size)))
    });
    assert!(covered, "the IOMMU too");
}

#[test]
fn the_whole_vmid_is_forgotten_at_the_end_and_on_request() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
    let all = [Tlbi::Vmid(memory.vmid(), root(&memory))];
    assert_eq!(tlbis(|| memory.forget_translations()).1, all);
    let group = m.attach(0, &memory);
    m.driver.take_calls();
    let (proof, seen) = tlbis(|| memory.tlb().flush_all().unwrap());
    assert_eq!(seen, all);
    assert_eq!(asked(&m), [Invalidation::Vmid(memory.vmid())]);
    assert_eq!(proof.scope(), memory.domain().scope());
    m.iommus.detach(&group).unwrap();
    let (torn, seen) = tlbis(|| memory.tear_down());
    assert_eq!(torn, TornDown::Released);
    assert_eq!(seen, all);
}

/// Something is detached while the invalidation is under way: it came too late for it.
#[test]
fn a_proof_does_not_speak_for_what_was_detached_after_it_was_asked_for() {
    let m = Machine::new();
    let memory = m.memory();
    m.attach(0, &memory);
    let (scope, agents) = (memory.domain().scope(), m.cpus.set());
    let detach = {
        let frames = m.frames.clone();
        move || {
            let block = frames.alloc(0, Use::Guest, Owner::vm(1)).unwrap();
            frames.detach(block, scope, agents)
        }
    };
    let early = detach();
    let late = Rc::new(RefCell::new(Vec::new()));
    let list = late.clone();
    let proof =
        watching(move |_| list.borrow_mut().push(detach()), || memory.tlb().flush_all().unwrap());
    m.frames.release(early, &proof).expect("it was detached before");
    let late = late.borrow_mut().pop().expect("one invalidation");
    let kept = m.frames.release(late, &proof).expect_err("it was not").0;
    m.frames.quarantine(kept);
}

#[test]
fn a_proof_has_the_words_of_the_cpus_and_of_the_iommus() {
    let m = Machine::new();
    let memory = m.memory();
    let detach = |agents| {
        let block = m.frames.alloc(0, Use::Guest, Owner::vm(1)).unwrap();
        m.frames.detach(block, memory.domain().scope(), agents)
    };
    m.attach(0, &memory);
    let iommus = memory.domain().agents().unwrap();
    let lists = [m.cpus.set(), iommus, m.cpus.set().with(iommus)].map(detach);
    let proof: Proof = memory.tlb().flush_walk(palisade_hal::Iova::new(0), 0x1000, 0x1000).unwrap();
    for list in lists {
        m.frames.release(list, &proof).unwrap();
    }
}

#[test]
fn leaves_that_are_queued_are_all_forgotten() {
    let m = Machine::new();
    let memory = m.memory();
    let tlb = memory.tlb();
    for (start, bytes) in [(0x4000_3000, 0x1000), (0x4000_1000, 0x1000), (0x4000_2000, 0x4000)] {
        tlb.add_leaf(palisade_hal::Iova::new(start), bytes, 0x1000);
    }
    let (proof, seen) = tlbis(|| tlb.sync());
    proof.unwrap();
    assert_eq!(forgotten(&memory, &seen), vec![(0x4000_1000, 0x5000)]);
}

#[test]
fn a_flush_that_fails_is_an_error_and_its_tables_are_out_of_use() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 4 * MIB, &[]).unwrap();
    memory.map_device(BAR, PhysAddr::new(0x1000_0000), 0x4000).unwrap();
    m.attach(0, &memory);
    let before = m.frames.footprint();
    m.driver.fail_after(0, TIMEOUT);
    let refused = memory.unmap_device(BAR, 0x4000);
    assert!(matches!(refused, Err(MemoryError::Tlb(_))), "{refused:?}");
    let after = m.frames.footprint();
    assert_eq!(after.quarantined, 2, "its tables of two levels");
    assert_eq!((after.free, after.detached, after.leaked), (before.free, 0, 0));

    // In the middle of splitting a block, and after it.
    let give_up = |ipa| GuestRam::give_up(&*memory, Ipa::new(ipa), 0x1000);
    m.driver.fail_after(0, TIMEOUT);
    assert_eq!(give_up(RAM.get()), Err(Kept::Hardware));
    give_up(SECOND).unwrap();
    m.driver.fail_after(0, TIMEOUT);
    assert_eq!(give_up(SECOND + 0x1000), Err(Kept::Hardware));
    assert_eq!(memory.translate(Ipa::new(SECOND + 0x1000)), None, "out of reach all the same");
    assert_eq!(m.dma_walk(&memory, SECOND + 0x1000), None);
}

#[test]
fn context_tables_that_may_be_cached_keep_their_place() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
    m.attach(0, &memory);
    let pa = PhysAddr::new(0x9000_0000);
    let first = memory.publish(pa, 0x1000, 0x1000).unwrap();
    m.driver.take_calls();
    m.driver.fail_after(0, TIMEOUT);
    assert_eq!(memory.withdraw(first, 0x1000), Err(TIMEOUT));
    let second = memory.publish(pa, 0x1000, 0x1000).unwrap();
    assert_ne!(second, first, "nothing else may stand there");
    m.driver.take_calls();
    memory.withdraw(second, 0x1000).unwrap();
    let covered = asked(&m).into_iter().any(|item| {
        matches!(item, Invalidation::StageTwo { start, size, .. }
            if start.get() <= second && second + 0x1000 <= start.get() + size)
    });
    assert!(covered);
    assert_eq!(m.dma_walk(&memory, second), None);
}

/// Whatever the others say.
#[test]
fn one_detach_that_was_not_confirmed_is_enough() {
    let m = Machine::new();
    let memory = m.memory();
    memory.add_ram(RAM, 2 * MIB, &[]).unwrap();
    let groups = [m.attach(0, &memory), m.attach(1, &memory)];
    m.iommus.detach(&groups[0]).unwrap();
    m.driver.fail_after(0, DriverError::Timeout(StreamId::new(STREAMS[1])));
    m.iommus.detach(&groups[1]).unwrap_err();
    let error = memory.domain().close().map(drop);
    assert_eq!(error, Err(palisade_iommu::Error::Unclean { phandle: 1 }));
}
