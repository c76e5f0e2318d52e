//! What an unmap touches: what was asked for, and as little as it takes.
//!
//! 1. Tables that go as a whole are handed over as they are: a walker may still be in them.
//! 2. A page of a size goes whole, however it was mapped, and nothing beside it.
//! 3. The gather has the exact range, the ends of the address space included.

use std::sync::atomic::Ordering;

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Owner, Use};
use palisade_pgtable::{Config, Error, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, alloc};

use crate::common::metered::Metered;
use crate::common::{Machine, config};

const PAGE: u64 = 1 << 12;
const BLOCK: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

fn map(table: &mut dyn PageTable, iova: u64, size: u64, count: usize) {
    let pa = PhysAddr::new(iova & 0xffff_ffff);
    table.map_pages(Iova::new(iova), pa, size, count, Prot::MEMORY).unwrap();
}

/// The words of a frame, whatever of a table it is.
fn words(machine: &Machine, at: u64, of: Use) -> Option<Vec<u64>> {
    let words = machine.frames.words(PhysAddr::new(at), 512, of, Owner::vm(1))?;
    Some(words.iter().map(|word| word.load(Ordering::Relaxed)).collect())
}

/// Where the last table on the way to `iova` is.
fn last_table(table: &dyn PageTable, iova: u64) -> u64 {
    let steps = table.walk(Iova::new(iova)).steps;
    let steps: Vec<u64> = steps.into_iter().flatten().map(|step| step.2).collect();
    let mask =
        if table.config().format == FormatId::ArmV7s { 0xffff_fc00 } else { 0xffff_ffff_f000 };
    steps[steps.len() - 2] & mask
}

#[test]
fn full_tables_are_handed_over_as_they_are() {
    let v7s = Config::new(FormatId::ArmV7s);
    let s2 = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40);
    // The start of the second table of blocks; an entry far into the root of v7s.
    for (config, block, start) in [(s2, BLOCK, GIB + 7 * BLOCK), (v7s, 1 << 20, 0x2000_0000)] {
        let machine = Machine::new(256);
        let memory = Metered::new(&machine, usize::MAX);
        let mut table = alloc(&config, memory.clone()).unwrap();
        let roots = machine.tables();
        let pages = (block / PAGE) as usize;
        map(&mut *table, start - block, PAGE, pages * 6);
        let tables: Vec<u64> = (0..4).map(|nth| last_table(&*table, start + nth * block)).collect();
        let before: Vec<_> = tables.iter().map(|&at| words(&machine, at, Use::Table)).collect();
        // Three and a half tables: three go, of one there is a half left.
        let mut gather = Gather::new(&machine.tlb);
        let size = 3 * block + block / 2;
        memory.looked_up();
        let count = (size / PAGE) as usize;
        assert_eq!(table.unmap_pages(Iova::new(start), PAGE, count, &mut gather), Ok(size));
        assert_eq!(gather.tables().unwrap().frames(), 3);
        let range = (Iova::new(start), Iova::new(start + size - 1));
        assert_eq!(gather.range(), Some(range));
        for (nth, &at) in tables.iter().enumerate() {
            let of = if nth < 3 { Use::Detached } else { Use::Table };
            assert_eq!(words(&machine, at, of) == before[nth], nth < 3);
        }
        machine.finish(gather);
        for page in 0..6 * pages as u64 {
            let at = start - block + page * PAGE;
            let gone = (start..start + size).contains(&at);
            let found = table.iova_to_phys(Iova::new(at)).map(PhysAddr::get);
            assert_eq!(found, (!gone).then_some(at), "{at:#x}");
            assert!(!table.walk(Iova::new(at)).corrupt);
        }
        // Whole tables of a range, and what is above them.
        let mut gather = Gather::new(&machine.tlb);
        let left = 6 * block - size;
        let all = 8 * block;
        let done = table.unmap_range(Iova::new(start - 2 * block), all, &mut gather);
        assert_eq!(done, Ok(left));
        machine.finish(gather);
        assert_eq!(machine.tables(), roots);
        // One full table alone, by pages.
        map(&mut *table, start, PAGE, pages);
        assert_eq!(machine.unmap(&mut *table, start, PAGE, pages), block);
        assert_eq!(machine.tables(), roots);
        machine.free(table);
    }
}

#[test]
fn a_table_that_goes_as_a_whole_is_not_looked_into() {
    let machine = Machine::new(256);
    let memory = Metered::new(&machine, usize::MAX);
    let mut table = alloc(&Config::new(FormatId::Arm64LpaeS1), memory.clone()).unwrap();
    map(&mut *table, GIB, PAGE, 3);
    map(&mut *table, GIB + BLOCK, BLOCK, 1);
    map(&mut *table, 3 * GIB, PAGE, 1);
    let mut counted = |size| {
        memory.looked_up();
        let mut gather = Gather::new(&machine.tlb);
        let done = table.unmap_pages(Iova::new(GIB), size, 1, &mut gather);
        let range = (Iova::new(GIB), Iova::new(GIB + size - 1));
        assert_eq!((done, gather.range()), (Ok(size), Some(range)));
        let looked_up = memory.looked_up();
        let tables = gather.tables().unwrap().frames();
        machine.finish(gather);
        assert_eq!(machine.tlb.granule.replace(0), PAGE);
        (looked_up, tables)
    };
    // Three tables to the entry, one it points to.
    assert_eq!(counted(BLOCK), (4, 1));
    // Two, one, and all that it may point to; one page's table has none.
    assert_eq!(counted(GIB), (2 + 1 + 1 + 512, 1));
    map(&mut *table, GIB, PAGE, 1);
    memory.looked_up();
    let mut gather = Gather::new(&machine.tlb);
    // The root's entries; one table's below it; two tables' below that.
    table.free(&mut gather);
    assert_eq!(memory.looked_up(), 1 + 512 + 513 + 2 * 513);
    machine.finish(gather);
    assert_eq!(machine.tables(), 0);
}

/// Parts of a table that nobody knows, up to its end and not: the same way.
#[test]
fn the_end_of_a_table_is_in_it() {
    let machine = Machine::new(256);
    let memory = Metered::new(&machine, usize::MAX);
    let mut table = alloc(&Config::new(FormatId::Arm64LpaeS1), memory.clone()).unwrap();
    let mut counts = Vec::new();
    for end in [BLOCK, BLOCK - PAGE] {
        map(&mut *table, GIB, PAGE, 1);
        // Its slot is taken by another.
        map(&mut *table, 9 * GIB, PAGE, 1);
        memory.looked_up();
        map(&mut *table, GIB + end - 4 * PAGE, PAGE, 4);
        counts.push(memory.looked_up());
        map(&mut *table, 9 * GIB + PAGE, PAGE, 1);
        memory.looked_up();
        let mut gather = Gather::new(&machine.tlb);
        let at = Iova::new(GIB + end - 2 * PAGE);
        assert_eq!(table.unmap_pages(at, PAGE, 2, &mut gather), Ok(2 * PAGE));
        counts.push(memory.looked_up());
        machine.finish(gather);
        machine.unmap(&mut *table, GIB + end - 4 * PAGE, PAGE, 2);
        machine.unmap(&mut *table, 9 * GIB, PAGE, 2);
        machine.unmap(&mut *table, GIB, PAGE, 1);
    }
    assert_eq!(counts[..2], counts[2..]);
    machine.free(table);
}

/// Where no table goes, all that is known stays known.
#[test]
fn what_did_not_go_stays_known() {
    let machine = Machine::new(256);
    let memory = Metered::new(&machine, usize::MAX);
    let mut table = alloc(&Config::new(FormatId::Arm64LpaeS1), memory.clone()).unwrap();
    map(&mut *table, GIB, PAGE, 511);
    map(&mut *table, GIB + 3 * BLOCK, PAGE, 1);
    let known = |table: &dyn PageTable| {
        memory.looked_up();
        assert!(table.iova_to_phys(Iova::new(GIB + 3 * BLOCK)).is_some());
        assert_eq!(memory.looked_up(), 1);
    };
    known(&*table);
    assert_eq!(machine.unmap(&mut *table, GIB, PAGE, 1024), 511 * PAGE);
    known(&*table);
    machine.free(table);
}

#[test]
fn large_pages_go_whole_until_one_is_empty() {
    const LARGE: u64 = 1 << 16;
    let machine = Machine::new(64);
    let mut table = machine.alloc(&Config::new(FormatId::ArmV7s)).unwrap();
    let pages = |table: &mut dyn PageTable, of: std::ops::Range<u64>| {
        for nth in of {
            map(table, nth * PAGE, PAGE, 1);
        }
    };
    // Full, in part, full, in part at its end, full by one page; one behind it; over two tables.
    for start in [0, 13 * LARGE] {
        let first = start / PAGE;
        for range in [0..16, 20..22, 32..48, 63..64, 64..80, 80..96] {
            pages(&mut *table, first + range.start..first + range.end);
        }
        let mut gather = Gather::new(&machine.tlb);
        let unmapped = table.unmap_pages(Iova::new(start), LARGE, 5, &mut gather);
        assert_eq!(unmapped, Ok(5 * LARGE));
        let range = (Iova::new(start), Iova::new(start + 5 * LARGE - 1));
        assert_eq!(gather.range(), Some(range));
        machine.finish(gather);
        assert_eq!(machine.tlb.granule.replace(0), PAGE);
        for nth in 0..96 {
            let found = table.iova_to_phys(Iova::new((first + nth) * PAGE));
            assert_eq!(found.is_some(), nth >= 80, "{nth}");
        }
        assert_eq!(machine.unmap(&mut *table, start, LARGE, 5), 0);
        assert_eq!(machine.unmap(&mut *table, start + 5 * LARGE, LARGE, 3), LARGE);
    }
    // As many as are asked for, the last of them in part.
    pages(&mut *table, 0..15);
    pages(&mut *table, 16..17);
    assert_eq!(machine.unmap(&mut *table, 0, LARGE, 1), LARGE);
    assert!(table.iova_to_phys(Iova::new(LARGE)).is_some());
    pages(&mut *table, 5..6);
    pages(&mut *table, 32..33);
    assert_eq!(machine.unmap(&mut *table, 0, LARGE, 2), 2 * LARGE);
    assert!(table.iova_to_phys(Iova::new(2 * LARGE)).is_some());
    machine.free(table);
}

#[test]
fn bad_unmaps_are_typed() {
    let machine = Machine::new(256);
    let s2 = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40);
    let s1 = Config { quirks: Quirks::TTBR1, ..config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 40) };
    for config in [s2, s1, Config::new(FormatId::ArmV7s)] {
        let base = if config.quirks.is_empty() { 0 } else { !0 << config.ias };
        let mut table = machine.alloc(&config).unwrap();
        let sizes = crate::common::sizes(table.config());
        let mut gather = Gather::new(&machine.tlb);
        let space = 1u64 << config.ias;
        for &size in &sizes {
            let mut unmap = |va: u64, count: usize| {
                table.unmap_pages(Iova::new(base ^ va), size, count, &mut gather)
            };
            // All there is, and one more.
            let all = (space / size) as usize;
            assert_eq!(unmap(0, all), Ok(0));
            assert_eq!(unmap(space - size, 1), Ok(0));
            let too_far = |va: u64| Err(Error::InputRange(Iova::new(base ^ va)));
            for (va, count) in [(0, all + 1), (size, all), (space - size, 2), (space, 1)] {
                assert_eq!(unmap(va, count), too_far(va), "{size:#x} {va:#x} {count}");
            }
            for count in [usize::MAX, 1 << 63, 1 << 52, 1 << 40, (1 << 52) + 1] {
                assert_eq!(unmap(0, count), too_far(0), "{size:#x} {count:#x}");
                assert_eq!(unmap(size, count), too_far(size));
            }
            for odd in [1, PAGE / 2, size / 2, size - 1] {
                let unaligned = Err(Error::Unaligned(Iova::new(base | odd)));
                assert_eq!(unmap(odd, 1), unaligned);
            }
            assert_eq!(unmap(0, 0), Err(Error::PageSize(0)));
        }
        let mut unmap =
            |va: u64, size: u64| table.unmap_range(Iova::new(base ^ va), size, &mut gather);
        for size in [0, 1, PAGE / 2, PAGE + 1, u64::MAX] {
            assert_eq!(unmap(0, size), Err(Error::PageSize(size)));
        }
        let unaligned = Err(Error::Unaligned(Iova::new(base | 0x800)));
        assert_eq!(unmap(0x800, PAGE), unaligned);
        for (va, size) in [(space, PAGE), (0, space + PAGE), (PAGE, space), (PAGE, !(PAGE - 1))] {
            assert_eq!(unmap(va, size), Err(Error::InputRange(Iova::new(base ^ va))));
        }
        assert_eq!(unmap(0, space), Ok(0));
        assert!(gather.is_empty());
        machine.free(table);
    }
}

/// Up to the last byte there is, and from the first.
#[test]
fn a_range_may_be_all_there_is() {
    let machine = Machine::new(256);
    // A root that has entries beyond the end, and one that is full.
    for (quirks, ias) in [
        (Quirks::empty(), 40),
        (Quirks::TTBR1, 40),
        (Quirks::empty(), 39),
        (Quirks::TTBR1, 39),
        (Quirks::empty(), 48),
    ] {
        let config = Config { quirks, ..config(FormatId::Arm64LpaeS1, SIZES_4K, ias, 40) };
        let base = if quirks.is_empty() { 0 } else { !0 << config.ias };
        let mut table = machine.alloc(&config).unwrap();
        let space = 1u64 << config.ias;
        let roots = machine.tables();
        for (first, size) in [(0, space), (space - 2 * PAGE, 2 * PAGE), (space - GIB, GIB)] {
            map(&mut *table, base | (space - 2 * PAGE), PAGE, 2);
            let mut mapped = 2 * PAGE;
            if first == 0 {
                map(&mut *table, base, PAGE, 1);
                map(&mut *table, base | (5 * GIB), GIB, 1);
                mapped += PAGE + GIB;
            }
            let mut gather = Gather::new(&machine.tlb);
            let start = Iova::new(base | first);
            assert_eq!(table.unmap_range(start, size, &mut gather), Ok(mapped));
            let end = Iova::new(base | (first + (size - 1)));
            assert_eq!(gather.range(), Some((start, end)));
            machine.finish(gather);
            assert_eq!(machine.tlb.granule.get(), PAGE);
            assert_eq!(machine.tables(), roots);
        }
        machine.free(table);
    }
}

/// Concatenated roots: what is below each of them is given back.
#[test]
fn every_root_gives_its_tables_back() {
    let machine = Machine::new(1024);
    for (sizes, shift) in [(SIZES_4K, 39), (crate::common::GRANULES[1], 36)] {
        let mut table = machine.alloc(&config(FormatId::Arm64LpaeS2, sizes, 40, 40)).unwrap();
        let page = crate::common::sizes(table.config())[0];
        for piece in 0..1u64 << (40 - shift) {
            map(&mut *table, (piece << shift) + 5 * page, page, 1);
        }
        machine.free(table);
        assert_eq!(machine.tables(), 0);
    }
}
