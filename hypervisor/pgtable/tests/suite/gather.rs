//! What a gather hands over and what it asks for.
//!
//! 1. Nothing unmapped: nothing asked, nothing handed over.
//! 2. Strict: the exact range, leaves only where no table went. Deferred: everything.
//! 3. Tables come back with the proof, or with the error.

use crate::common::{Issued, Machine};
use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Config, FlushPolicy, Gather, PageTable, Prot};

const PAGE: u64 = 4096;

fn table(machine: &Machine, pages: usize) -> Box<dyn PageTable> {
    let mut table = machine.alloc(&Config::iommu_stage2(40, 40, true)).unwrap();
    let (iova, pa) = (Iova::new(0x1_0000), PhysAddr::new(0x8000_0000));
    table.map_pages(iova, pa, PAGE, pages, Prot::MEMORY).unwrap();
    machine.tlb.issued.borrow_mut().clear();
    table
}

fn issued(machine: &Machine) -> Vec<Issued> {
    machine.tlb.issued.take()
}

#[test]
fn an_empty_gather_asks_for_nothing() {
    let machine = Machine::new(256);
    for policy in [FlushPolicy::Strict, FlushPolicy::Deferred] {
        let mut table = table(&machine, 1);
        let mut gather = Gather::with_policy(&machine.tlb, policy);
        assert!(gather.is_empty() && gather.range().is_none() && gather.tables().is_none());
        assert_eq!(table.unmap_pages(Iova::new(0), PAGE, 1, &mut gather), Ok(0));
        assert!(gather.is_empty());
        assert!(matches!(gather.finish(), Ok(None)));
        assert!(issued(&machine).is_empty());
        machine.free(table);
        machine.tlb.issued.take();
    }
}

#[test]
fn strict_asks_for_the_exact_range() {
    let machine = Machine::new(256);
    let mut table = table(&machine, 40);
    let mut gather = Gather::new(&machine.tlb);
    for (first, count) in [(0x1_4000, 3), (0x1_8000, 2)] {
        let done = table.unmap_pages(Iova::new(first), PAGE, count, &mut gather);
        assert_eq!(done, Ok(count as u64 * PAGE));
    }
    assert!(!gather.is_empty() && gather.tables().is_none());
    assert_eq!(gather.range(), Some((Iova::new(0x1_4000), Iova::new(0x1_9fff))));
    let flushed = gather.finish().unwrap().unwrap();
    assert!(flushed.tables.is_none());
    assert_eq!(issued(&machine), [Issued::Leaf(0x1_4000, 0x6000), Issued::Sync]);
    assert_eq!(machine.tlb.granule.replace(0), PAGE);
    // One byte: first and last are the same page.
    let mut gather = Gather::new(&machine.tlb);
    table.unmap_pages(Iova::new(0x1_0000), PAGE, 1, &mut gather).unwrap();
    assert_eq!(gather.range(), Some((Iova::new(0x1_0000), Iova::new(0x1_0fff))));
    machine.finish(gather);
    assert_eq!(issued(&machine), [Issued::Leaf(0x1_0000, PAGE), Issued::Sync]);
    // The rest, and with it the tables.
    let mut gather = Gather::new(&machine.tlb);
    table.unmap_range(Iova::new(0), 1 << 20, &mut gather).unwrap();
    assert!(gather.tables().is_some_and(|tables| tables.frames() == 2));
    machine.finish(gather);
    let asked = issued(&machine);
    assert!(matches!(asked[..], [Issued::Walk(0, 0x10_0000)]), "{asked:?}");
    assert_eq!(machine.tlb.granule.get(), PAGE);
    machine.free(table);
    assert_eq!(issued(&machine), [Issued::All]);
}

#[test]
fn deferred_asks_for_everything_once() {
    let machine = Machine::new(256);
    let mut table = table(&machine, 40);
    let mut gather = Gather::with_policy(&machine.tlb, FlushPolicy::Deferred);
    for page in 0..40 {
        let at = Iova::new(0x1_0000 + page * PAGE);
        assert_eq!(table.unmap_pages(at, PAGE, 1, &mut gather), Ok(PAGE));
    }
    assert!(issued(&machine).is_empty());
    let frames = machine.frames.footprint();
    assert!(frames.detached > 0, "memory waits");
    machine.finish(gather);
    assert_eq!(issued(&machine), [Issued::All]);
    assert_eq!(machine.frames.footprint().detached, 0);
    machine.free(table);
}

/// Leaves alone are enough for it.
#[test]
fn deferred_asks_for_everything_without_tables_too() {
    let machine = Machine::new(256);
    let mut table = table(&machine, 2);
    let mut gather = Gather::with_policy(&machine.tlb, FlushPolicy::Deferred);
    assert_eq!(table.unmap_pages(Iova::new(0x1_0000), PAGE, 1, &mut gather), Ok(PAGE));
    assert!(gather.tables().is_none());
    machine.finish(gather);
    assert_eq!(issued(&machine), [Issued::All]);
    machine.free(table);
}

#[test]
fn a_failed_invalidation_hands_the_tables_back() {
    for policy in [FlushPolicy::Strict, FlushPolicy::Deferred] {
        for all in [false, true] {
            let machine = Machine::new(256);
            let mut table = table(&machine, 2);
            let mut gather = Gather::with_policy(&machine.tlb, policy);
            let pages = if all { 2 } else { 1 };
            table.unmap_pages(Iova::new(0x1_0000), PAGE, pages, &mut gather).unwrap();
            machine.tlb.fails.set(true);
            let failed = gather.finish().unwrap_err();
            assert_eq!(failed.tables.is_some(), all);
            if let Some(tables) = failed.tables {
                machine.frames.quarantine(tables);
            }
            machine.tlb.fails.set(false);
            machine.free(table);
        }
    }
}
