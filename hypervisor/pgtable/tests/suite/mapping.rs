//! What a map request makes: which leaves, which tables, which marks; and what it refuses.

use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Config, Error, FormatId, Leaf, PageTable, Prot, Quirks, SIZES_4K};

use crate::common::{GRANULES, Machine, config, granules, sizes};

const PAGE: u64 = 1 << 12;
const BLOCK: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

/// All leaves of a range: input, output, size.
fn leaves(table: &dyn PageTable, iova: u64, size: u64) -> Vec<(u64, u64, u64)> {
    let mut found = Vec::new();
    let mut visit = |leaf: Leaf| found.push((leaf.iova.get(), leaf.pa.get(), leaf.size));
    table.leaves(Iova::new(iova), size, &mut visit).unwrap();
    found
}

/// Equal neighbours as one: input, output, size of each, how many.
fn stretches(table: &dyn PageTable, iova: u64, size: u64) -> Vec<(u64, u64, u64, u64)> {
    let mut found: Vec<(u64, u64, u64, u64)> = Vec::new();
    for (iova, pa, size) in leaves(table, iova, size) {
        match found.last_mut() {
            Some((first, to, each, count))
                if *each == size && *first + *count * size == iova && *to + *count * size == pa =>
            {
                *count += 1;
            }
            _ => found.push((iova, pa, size, 1)),
        }
    }
    found
}

#[test]
#[cfg_attr(miri, ignore = "thousands of pages")]
fn a_range_is_mapped_by_the_largest_pages_that_fit() {
    let machine = Machine::new(512);
    let s2 = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40);
    let mut table = machine.alloc(&s2).unwrap();
    let empty = machine.tables();
    let mut made = |iova: u64, pa: u64, size: u64| {
        let (at, to) = (Iova::new(iova), PhysAddr::new(pa));
        table.map_range(at, to, size, Prot::MEMORY).unwrap();
        let found = stretches(&*table, iova, size);
        let tables = machine.tables() - empty;
        let mut gather = palisade_pgtable::Gather::new(&machine.tlb);
        let _all = table.unmap_range(Iova::new(0), 1 << 40, &mut gather).unwrap();
        machine.finish(gather);
        assert_eq!(machine.tables(), empty);
        (found, tables)
    };
    // One page; one block; a block less a page; a block and a page.
    assert_eq!(made(GIB, 5 * GIB, PAGE), (vec![(GIB, 5 * GIB, PAGE, 1)], 2));
    assert_eq!(made(GIB, 5 * GIB, BLOCK), (vec![(GIB, 5 * GIB, BLOCK, 1)], 1));
    assert_eq!(made(GIB, 5 * GIB, BLOCK - PAGE), (vec![(GIB, 5 * GIB, PAGE, 511)], 2));
    let end = GIB + BLOCK;
    let both = vec![(GIB, 5 * GIB, BLOCK, 1), (end, 5 * GIB + BLOCK, PAGE, 1)];
    assert_eq!(made(GIB, 5 * GIB, BLOCK + PAGE), (both, 2));
    // Pages to a boundary, blocks to the next, a gigabyte, and down again.
    let (iova, pa) = (2 * GIB - BLOCK - 2 * PAGE, 8 * GIB - BLOCK - 2 * PAGE);
    let wanted = vec![
        (iova, pa, PAGE, 2),
        (iova + 2 * PAGE, pa + 2 * PAGE, BLOCK, 1),
        (2 * GIB, 8 * GIB, GIB, 1),
        (3 * GIB, 9 * GIB, BLOCK, 3),
        (3 * GIB + 3 * BLOCK, 9 * GIB + 3 * BLOCK, PAGE, 5),
    ];
    // Two tables of pages, two of blocks.
    assert_eq!(made(iova, pa, GIB + 4 * BLOCK + 7 * PAGE), (wanted, 4));
    // The same where the gigabyte does not fit any more, and where it just does.
    let (found, _) = made(iova, pa, GIB + BLOCK + PAGE);
    assert_eq!(found[1], (iova + 2 * PAGE, pa + 2 * PAGE, BLOCK, 512));
    let (found, _) = made(iova, pa, GIB + BLOCK + 2 * PAGE);
    assert_eq!(
        found[1..],
        [(iova + 2 * PAGE, pa + 2 * PAGE, BLOCK, 1), (2 * GIB, 8 * GIB, GIB, 1),]
    );
    // Addresses that never get to a boundary together, or to a smaller one only.
    let (found, _) = made(GIB, 5 * GIB + PAGE, 2 * BLOCK);
    assert_eq!(found, [(GIB, 5 * GIB + PAGE, PAGE, 1024)]);
    let (found, _) = made(GIB, 5 * GIB + BLOCK, 2 * GIB);
    assert_eq!(found, [(GIB, 5 * GIB + BLOCK, BLOCK, 1024)]);
    let (found, _) = made(GIB + PAGE, 5 * GIB, BLOCK + PAGE);
    assert_eq!(found, [(GIB + PAGE, 5 * GIB, PAGE, 513)]);
    machine.free(table);
}

#[test]
fn short_descriptors_have_four_sizes() {
    const MIB: u64 = 1 << 20;
    let machine = Machine::new(64);
    let mut table = machine.alloc(&Config::new(FormatId::ArmV7s)).unwrap();
    let (iova, pa) = (16 * MIB - MIB - 0x1_1000, 64 * MIB - MIB - 0x1_1000);
    let size = 0x1000 + 0x1_0000 + MIB + 16 * MIB + 2 * MIB + 0x3_0000 + 0x2000;
    table.map_range(Iova::new(iova), PhysAddr::new(pa), size, Prot::MEMORY).unwrap();
    let found = leaves(&*table, iova, size);
    // Runs show as their sixteen entries, each with its own word's kind.
    let count = |size: u64| found.iter().filter(|leaf| leaf.2 == size).count();
    assert_eq!((count(PAGE), count(MIB)), (1 + 16 + 48 + 2, 1 + 16 + 2));
    let kind = |at: u64| table.walk(Iova::new(at)).leaf.unwrap().word & 0x4_0003;
    let start = iova + 0x1000;
    assert_eq!(kind(iova) & 2, 2, "a small page");
    assert_eq!(kind(start) & 3, 1, "a large page");
    assert_eq!(kind(start + 0x1_0000), 2, "a section");
    assert_eq!(kind(16 * MIB), 2 | 1 << 18, "a supersection");
    assert_eq!(kind(32 * MIB + MIB), 2, "a section");
    assert_eq!(kind(34 * MIB + 0x2_0000) & 3, 1, "a large page");
    assert_eq!(kind(34 * MIB + 0x3_1000) & 2, 2, "a small page");
    for offset in (0..size).step_by(0x800) {
        let found = table.iova_to_phys(Iova::new(iova + offset));
        assert_eq!(found, Some(PhysAddr::new(pa + offset)));
    }
    machine.free(table);
}

#[test]
fn bad_maps_are_typed() {
    let machine = Machine::new(256);
    let s2 = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40);
    let s1 = config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 42);
    let upper = Config { quirks: Quirks::TTBR1, ..s1 };
    for config in [s2, s1, upper, Config::new(FormatId::ArmV7s)] {
        let base = if config.quirks.is_empty() { 0 } else { !0 << config.ias };
        let mut table = machine.alloc(&config).unwrap();
        let empty = machine.tables();
        let (space, out) = (1u64 << config.ias, 1u64 << config.oas);
        for size in sizes(table.config()) {
            let mut map = |va: u64, pa: u64, count: usize, prot: Prot| {
                let (iova, pa) = (Iova::new(base ^ va), PhysAddr::new(pa));
                table.map_pages(iova, pa, size, count, prot)
            };
            let prot = Prot::MEMORY;
            let all = (space / size) as usize;
            for (va, count) in [(0, all + 1), (size, all), (space - size, 2), (space, 1)] {
                let too_far = Err(Error::InputRange(Iova::new(base ^ va)));
                assert_eq!(map(va, 0, count, prot), too_far, "{size:#x} {va:#x} {count}");
            }
            for count in [usize::MAX, 1 << 63, 1 << 52, (1 << 52) + 1, 1 << 40] {
                let too_far = Err(Error::InputRange(Iova::new(base)));
                assert_eq!(map(0, 0, count, prot), too_far, "{size:#x} {count:#x}");
            }
            for (pa, count) in [(out - size, 2), (out, 1), (out + size, 1), (!(size - 1), 2)] {
                let too_far = Err(Error::OutputRange(PhysAddr::new(pa)));
                assert_eq!(map(0, pa, count, prot), too_far, "{size:#x} {pa:#x} {count}");
            }
            for odd in [1, PAGE / 2, size / 2, size - 1] {
                for count in [1, 2] {
                    let unaligned = Err(Error::Unaligned(Iova::new(base | odd)));
                    assert_eq!(map(odd, 0, count, prot), unaligned);
                    assert_eq!(map(odd, odd, count, prot), unaligned);
                    assert_eq!(map(0, odd, count, prot), Err(Error::Unaligned(Iova::new(base))));
                }
            }
            assert_eq!(map(0, 0, 0, prot), Err(Error::PageSize(0)));
            let nothing = Err(Error::NoPermission(Iova::new(base)));
            assert_eq!(map(0, 0, 1, Prot::CACHE | Prot::EXEC | Prot::PRIV), nothing);
            assert_eq!(map(0, 0, 2, Prot::empty()), nothing);
            // The last page of both spaces.
            assert_eq!(map(space - size, out - size, 1, prot), Ok(()));
            let found = table.iova_to_phys(Iova::new(base | (space - 1)));
            assert_eq!(found, Some(PhysAddr::new(out - 1)));
            assert_eq!(machine.unmap(&mut *table, base | (space - size), size, 1), size);
            assert_eq!(machine.tables(), empty);
        }
        // A size that is not this table's.
        for size in [0, 1, PAGE / 2, 3 * PAGE, 1 << 39, 1 << 63] {
            let (iova, pa) = (Iova::new(base), PhysAddr::new(0));
            let refused = table.map_pages(iova, pa, size, 1, Prot::MEMORY);
            assert_eq!(refused, Err(Error::PageSize(size)));
            let mut gather = palisade_pgtable::Gather::new(&machine.tlb);
            let refused = table.unmap_pages(iova, size, 1, &mut gather);
            assert_eq!(refused, Err(Error::PageSize(size)));
        }
        let mut range = |va: u64, pa: u64, size: u64, prot: Prot| {
            table.map_range(Iova::new(base ^ va), PhysAddr::new(pa), size, prot)
        };
        let prot = Prot::MEMORY;
        for size in [0, 1, PAGE / 2, PAGE + 1, u64::MAX] {
            assert_eq!(range(0, 0, size, prot), Err(Error::PageSize(size)));
        }
        for (va, size) in [(space, PAGE), (0, space + PAGE), (PAGE, !(PAGE - 1))] {
            let too_far = Err(Error::InputRange(Iova::new(base ^ va)));
            assert_eq!(range(va, 0, size, prot), too_far);
        }
        for (pa, size) in [(out - PAGE, 2 * PAGE), (out, PAGE), (!(PAGE - 1), 2 * PAGE)] {
            assert_eq!(range(0, pa, size, prot), Err(Error::OutputRange(PhysAddr::new(pa))));
        }
        for (va, pa) in [(0x800, 0), (0, 0x800), (0x800, 0x800)] {
            let unaligned = Err(Error::Unaligned(Iova::new(base | va)));
            assert_eq!(range(va, pa, PAGE, prot), unaligned);
        }
        let nothing = Err(Error::NoPermission(Iova::new(base)));
        assert_eq!(range(0, 0, PAGE, Prot::CACHE), nothing);
        assert_eq!(range(space - PAGE, out - PAGE, PAGE, prot), Ok(()));
        assert_eq!(range(space - 3 * PAGE, out - 2 * PAGE, 2 * PAGE, prot), Ok(()));
        machine.free(table);
    }
}

/// The first page or block in the way is named, wherever tables begin and end.
#[test]
fn what_is_in_the_way_is_named() {
    let machine = Machine::new(256);
    for quirks in [Quirks::empty(), Quirks::TTBR1] {
        let config = Config { quirks, ..config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 42) };
        let base = if quirks.is_empty() { 0 } else { !0 << config.ias };
        let mut table = machine.alloc(&config).unwrap();
        let mut map = |va: u64, size: u64, count: usize| {
            let iova = Iova::new(base | va);
            table.map_pages(iova, PhysAddr::new(0), size, count, Prot::MEMORY)
        };
        let used = |va: u64| Err(Error::Exists(Iova::new(base | va)));
        map(GIB + 3 * BLOCK + 7 * PAGE, PAGE, 1).unwrap();
        map(3 * GIB, GIB, 1).unwrap();
        map(5 * GIB + 4 * BLOCK, BLOCK, 1).unwrap();
        // From another table, and from the same.
        assert_eq!(map(GIB, PAGE, 2048), used(GIB + 3 * BLOCK + 7 * PAGE));
        assert_eq!(map(GIB + 3 * BLOCK + 7 * PAGE, PAGE, 1), used(GIB + 3 * BLOCK + 7 * PAGE));
        assert_eq!(map(GIB + 3 * BLOCK, PAGE, 512), used(GIB + 3 * BLOCK + 7 * PAGE));
        // Tables are in the way of a block, and blocks of pages.
        assert_eq!(map(GIB + BLOCK, BLOCK, 4), used(GIB + 3 * BLOCK));
        assert_eq!(map(0, GIB, 2), used(GIB));
        assert_eq!(map(3 * GIB + 42 * PAGE, PAGE, 1), used(3 * GIB + 42 * PAGE));
        assert_eq!(map(3 * GIB - PAGE, PAGE, 2), used(3 * GIB));
        assert_eq!(map(3 * GIB + BLOCK, BLOCK, 1), used(3 * GIB + BLOCK));
        assert_eq!(map(5 * GIB, BLOCK, 9), used(5 * GIB + 4 * BLOCK));
        assert_eq!(map(5 * GIB + 4 * BLOCK + PAGE, PAGE, 1), used(5 * GIB + 4 * BLOCK + PAGE));
        machine.free(table);
    }
}

/// The contiguous hint (D8.7.1): on every entry of an aligned run that one request maps as a
/// whole to an aligned output range, and on no other.
#[test]
fn the_hint_is_on_whole_runs_only() {
    for &granule in granules() {
        let machine = Machine::new(2048);
        let plain = config(FormatId::Arm64LpaeS2, granule, 40, 44);
        let mut table = machine.alloc(&Config { contiguous: true, ..plain }).unwrap();
        let all = sizes(table.config());
        // Entries in a run of pages, and of blocks, by granule.
        let runs = match all[0].trailing_zeros() {
            12 => [16, 16],
            14 => [128, 32],
            _ => [32, 32],
        };
        for (&size, &run) in all.iter().zip(&runs) {
            let start = 4 * run * size.max(1 << 29);
            for (skip, shift, count) in [
                (0, 0, run),
                (0, 0, run - 1),
                (1, 0, run),
                (1, 0, run - 1),
                (run - 1, 0, run + 2),
                (run - 1, 0, 2 * run),
                (0, 1, 2 * run),
                (0, run, 2 * run),
                (3, 5, 3 * run),
            ] {
                let iova = start + skip * size;
                let pa = run * size * 4 + (skip + shift) * size;
                let (at, to) = (Iova::new(iova), PhysAddr::new(pa));
                table.map_pages(at, to, size, count as usize, Prot::MEMORY).unwrap();
                for nth in 0..count {
                    let leaf = table.walk(Iova::new(iova + nth * size)).leaf.unwrap();
                    let first = (skip + nth) / run * run;
                    let whole = first >= skip && first + run <= skip + count;
                    let hint = whole && shift % run == 0;
                    let found = leaf.word >> 52 & 1 == 1;
                    assert_eq!(found, hint, "{size:#x} {skip} {shift} {count}: {nth}");
                    assert_eq!((leaf.pa.get(), leaf.size), (pa + nth * size, size));
                }
                machine.unmap(&mut *table, iova, size, count as usize);
            }
        }
        machine.free(table);
    }
}

/// A run that is larger than the address space is none.
#[test]
fn no_hint_on_a_run_beyond_the_address_space() {
    let machine = Machine::new(256);
    for (ias, fits) in [(33, false), (34, true), (35, true)] {
        let plain = config(FormatId::Arm64LpaeS1, GRANULES[2], ias, 44);
        let mut table = machine.alloc(&Config { contiguous: true, ..plain }).unwrap();
        let size = 1 << 29;
        let count = 32.min(1usize << (ias - 29));
        let (iova, pa) = (Iova::new(0), PhysAddr::new(0));
        table.map_pages(iova, pa, size, count, Prot::MEMORY).unwrap();
        let word = table.walk(iova).leaf.unwrap().word;
        assert_eq!(word >> 52 & 1 == 1, fits, "{ias}");
        machine.free(table);
    }
}

/// Blocks of levels that have no runs (D8.7.1: the hint is reserved there).
#[test]
fn no_hint_where_there_are_no_runs() {
    let machine = Machine::new(256);
    for (granule, size) in [(1u64 << 12, 1u64 << 39), (1 << 14, 1 << 36), (1 << 16, 1 << 42)] {
        let lpa2 = granule < 1 << 16;
        let plain = config(FormatId::Arm64LpaeS1, granule | size, 52, 52);
        let config = Config { lpa2, contiguous: true, ..plain };
        let mut table = machine.alloc(&config).unwrap();
        let (iova, pa) = (Iova::new(0), PhysAddr::new(0));
        table.map_pages(iova, pa, size, 64, Prot::MEMORY).unwrap();
        for nth in 0..64 {
            let leaf = table.walk(Iova::new(nth * size)).leaf.unwrap();
            assert_eq!((leaf.size, leaf.word >> 52 & 1), (size, 0));
        }
        assert_eq!(machine.unmap(&mut *table, 0, size, 64), 64 * size);
        machine.free(table);
    }
}
