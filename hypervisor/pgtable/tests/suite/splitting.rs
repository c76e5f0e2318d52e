//! Blocks and runs that are cut: into what, by which invalidations, and what stays as it was.

use std::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::TableMemory;
use palisade_pgtable::{
    Config, Error, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, SplitPolicy,
};

use crate::common::{GRANULES, Issued, Machine, config, few, granules};

const PAGE: u64 = 1 << 12;
const BLOCK: u64 = 1 << 21;
const GIB: u64 = 1 << 30;
const PA: u64 = 1 << 34;

/// Both halves of the address space.
fn halves(split: SplitPolicy, contiguous: bool) -> [Config; 2] {
    let lower = config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 42);
    let lower = Config { split, contiguous, ..lower };
    [lower, Config { quirks: Quirks::TTBR1, ..lower }]
}

/// What an unmap answers, asks for at once, gathers, and leaves.
type Cut = (Result<u64, Error>, Vec<Issued>, Option<(Iova, Iova)>, Vec<u64>);

/// Maps from a gigabyte on, unmaps part of it, and answers what was invalidated meanwhile, what is left
/// to be, and the sizes of the leaves that are left.
fn cut(config: &Config, (size, count): (u64, usize), (first, bytes): (u64, u64)) -> Cut {
    let machine = Machine::new(64);
    let mut table = machine.alloc(config).unwrap();
    let base = if config.quirks.is_empty() { 0 } else { !0 << config.ias };
    let at = |va: u64| Iova::new(base | va);
    table.map_pages(at(GIB), PhysAddr::new(PA), size, count, Prot::MEMORY).unwrap();
    machine.tlb.issued.take();
    machine.tlb.granule.set(0);
    let mut gather = Gather::new(&machine.tlb);
    let done = table.unmap_range(at(first), bytes, &mut gather);
    let (issued, range) = (machine.tlb.issued.take(), gather.range());
    if !issued.is_empty() {
        assert_eq!(machine.tlb.granule.get(), PAGE);
    }
    machine.tlb.granule.set(0);
    machine.finish(gather);
    assert_eq!(machine.tlb.granule.get(), if range.is_some() { PAGE } else { 0 });
    let end = GIB + size * count as u64;
    let step = PAGE as usize * if cfg!(miri) { 4999 } else { 7 };
    for va in (GIB..end).step_by(step).chain([first, first + bytes - 1, end - 1]) {
        let gone = done.is_ok() && (first..first + bytes).contains(&va);
        let found = table.iova_to_phys(at(va)).map(PhysAddr::get);
        assert_eq!(found, (!gone).then_some(PA + (va - GIB)), "{va:#x}");
    }
    let mut left = Vec::new();
    let mut visit = |leaf: palisade_pgtable::Leaf| left.push(leaf.size);
    table.leaves(at(GIB), size * count as u64, &mut visit).unwrap();
    machine.free(table);
    (done, issued, range, left)
}

#[test]
fn only_what_is_cut_is_invalidated() {
    for (nth, config) in halves(SplitPolicy::BreakBeforeMake, false).into_iter().enumerate() {
        let base = if nth == 0 { 0 } else { !0 << 40 };
        let walk = |va: u64, size: u64| Issued::Walk(base | va, size);
        let range =
            |va: u64, size: u64| Some((Iova::new(base | va), Iova::new(base | (va + size - 1))));
        // A page within a block; its first, its last.
        for page in [5, 0, 511] {
            let first = GIB + page * PAGE;
            let (done, issued, gathered, left) = cut(&config, (BLOCK, 1), (first, PAGE));
            assert_eq!((done, issued), (Ok(PAGE), vec![walk(GIB, BLOCK)]));
            assert_eq!((gathered, left), (range(first, PAGE), vec![PAGE; 511]));
        }
        // A page within a gigabyte: two levels.
        let first = GIB + 3 * BLOCK + 7 * PAGE;
        let (done, issued, gathered, left) = cut(&config, (GIB, 1), (first, PAGE));
        assert_eq!(done, Ok(PAGE));
        assert_eq!(issued, [walk(GIB, GIB), walk(GIB + 3 * BLOCK, BLOCK)]);
        assert_eq!(gathered, range(first, PAGE));
        let wanted = [vec![BLOCK; 3], vec![PAGE; 511], vec![BLOCK; 508]].concat();
        assert_eq!(left, wanted);
        // Both ends in blocks, with whole ones between; and no end in a block.
        let (first, size) = (GIB + BLOCK - PAGE, BLOCK + 3 * PAGE);
        let (done, issued, gathered, left) = cut(&config, (BLOCK, 4), (first, size));
        assert_eq!((done, gathered), (Ok(size), range(first, size)));
        assert_eq!(issued, [walk(GIB, BLOCK), walk(GIB + 2 * BLOCK, BLOCK)]);
        assert_eq!(left, [vec![PAGE; 511 + 510], vec![BLOCK]].concat());
        let (done, issued, _, left) = cut(&config, (BLOCK, 4), (GIB + BLOCK, 2 * BLOCK));
        assert_eq!((done, issued, left), (Ok(2 * BLOCK), vec![], vec![BLOCK; 2]));
    }
}

#[test]
fn what_is_cut_in_place_is_gathered() {
    for (nth, config) in halves(SplitPolicy::InPlace, false).into_iter().enumerate() {
        let base = if nth == 0 { 0 } else { !0 << 40 };
        let range =
            |va: u64, size: u64| Some((Iova::new(base | va), Iova::new(base | (va + size - 1))));
        let first = GIB + 3 * BLOCK + 7 * PAGE;
        let (done, issued, gathered, left) = cut(&config, (BLOCK, 8), (first, PAGE));
        assert_eq!((done, issued), (Ok(PAGE), vec![]));
        assert_eq!(gathered, range(GIB + 3 * BLOCK, BLOCK));
        assert_eq!(left, [vec![BLOCK; 3], vec![PAGE; 511], vec![BLOCK; 4]].concat());
        let (.., gathered, _) = cut(&config, (GIB, 2), (first, PAGE));
        assert_eq!(gathered, range(GIB, GIB));
        // What goes is a block, but what was cut may be known by any size: `cut` asks for the
        // smallest to be told.
        let (.., gathered, _) = cut(&config, (GIB, 1), (GIB + 3 * BLOCK, BLOCK));
        assert_eq!(gathered, range(GIB, GIB));
    }
    for (nth, config) in halves(SplitPolicy::InPlace, true).into_iter().enumerate() {
        let base = if nth == 0 { 0 } else { !0 << 40 };
        let (first, run) = (GIB + 37 * PAGE, GIB + 32 * PAGE);
        let (done, issued, gathered, left) = cut(&config, (PAGE, 64), (first, PAGE));
        assert_eq!((done, issued, left.len()), (Ok(PAGE), vec![], 63));
        let ends = (Iova::new(base | run), Iova::new(base | (run + 16 * PAGE - 1)));
        assert_eq!(gathered, Some(ends));
        let (.., gathered, _) = cut(&config, (BLOCK, 32), (GIB + 3 * BLOCK, BLOCK));
        let ends = (Iova::new(base | GIB), Iova::new(base | (GIB + 16 * BLOCK - 1)));
        assert_eq!(gathered, Some(ends));
    }
}

#[test]
fn a_run_that_is_cut_is_one_no_more() {
    for &granule in granules() {
        let shift = granule.trailing_zeros();
        let (page, run) = (
            1u64 << shift,
            if shift == 12 {
                16
            } else if shift == 14 {
                128
            } else {
                32
            },
        );
        for split in [SplitPolicy::BreakBeforeMake, SplitPolicy::InPlace] {
            let machine = Machine::new(1024);
            let plain = config(FormatId::Arm64LpaeS2, granule, 40, 44);
            let config = Config { split, contiguous: true, ..plain };
            let mut table = machine.alloc(&config).unwrap();
            let start = GIB;
            let (iova, pa) = (Iova::new(start), PhysAddr::new(PA));
            table.map_pages(iova, pa, page, run * 3, Prot::MEMORY).unwrap();
            machine.tlb.issued.take();
            let (first, bytes) = (start + (run as u64 + 5) * page, run as u64 * page);
            let mut gather = Gather::new(&machine.tlb);
            let at = Iova::new(first);
            assert_eq!(table.unmap_pages(at, page, 2, &mut gather), Ok(2 * page));
            let issued = machine.tlb.issued.take();
            if split == SplitPolicy::BreakBeforeMake {
                assert_eq!(issued, [Issued::Walk(start + bytes, bytes)]);
            } else {
                assert_eq!(issued, []);
            }
            machine.finish(gather);
            for nth in 0..run as u64 * 3 {
                let leaf = table.walk(Iova::new(start + nth * page)).leaf;
                if let 5..7 = nth.wrapping_sub(run as u64) {
                    assert_eq!(leaf, None);
                    continue;
                }
                let leaf = leaf.unwrap();
                let cut = nth / run as u64 == 1;
                assert_eq!((leaf.word >> 52 & 1 == 0, leaf.pa.get()), (cut, PA + nth * page));
            }
            machine.free(table);
        }
    }
}

#[test]
fn the_policy_may_refuse_to_cut() {
    for contiguous in [false, true] {
        for (nth, config) in halves(SplitPolicy::Refuse, contiguous).into_iter().enumerate() {
            let base = if nth == 0 { 0 } else { !0 << 40 };
            let refused = |va: u64| Err(Error::PartialBlock(Iova::new(base | va)));
            let mapped = if contiguous { (PAGE, 64) } else { (BLOCK, 3) };
            let unit = if contiguous { 16 * PAGE } else { BLOCK };
            for (first, size) in few([
                (GIB, PAGE),
                (GIB + PAGE, PAGE),
                (GIB + unit - PAGE, PAGE),
                (GIB + unit - PAGE, 2 * PAGE),
                (GIB, unit + PAGE),
                (GIB + PAGE, 2 * unit - PAGE),
                (GIB + PAGE, unit),
            ]) {
                let (done, issued, gathered, left) = cut(&config, mapped, (first, size));
                assert_eq!((done, issued), (refused(first), vec![]), "{first:#x} {size:#x}");
                assert_eq!((gathered, left.len()), (None, mapped.1));
            }
            for (first, size) in [(GIB, unit), (GIB + unit, 2 * unit), (GIB, 3 * unit)] {
                let (done, issued, ..) = cut(&config, mapped, (first, size));
                assert_eq!((done, issued), (Ok(size), vec![]));
            }
        }
    }
}

/// Every combination of permissions.
fn prots() -> impl Iterator<Item = Prot> {
    let all = (0..64).map(Prot::from_bits_truncate);
    all.filter(|prot| prot.intersects(Prot::READ | Prot::WRITE))
}

/// The words that a cut writes are those that mapping smaller pages writes, and the other way
/// round for a block that is made of pages.
fn same_words(config: &Config, large: u64, small: u64, back: bool) {
    let machine = Machine::new(256);
    let config = Config { split: SplitPolicy::BreakBeforeMake, ..*config };
    let mut table = machine.alloc(&config).unwrap();
    let (there, elsewhere) = (4 * large, 8 * large);
    // High bits of the output address too, where the format has them.
    let pa = (1u64 << config.oas) - 2 * large;
    for prot in prots() {
        let map = |table: &mut dyn PageTable, iova: u64, size: u64, count: usize| {
            table.map_pages(Iova::new(iova), PhysAddr::new(pa), size, count, prot).unwrap();
        };
        let word = |table: &dyn PageTable, at: u64| {
            let leaf = table.walk(Iova::new(at)).leaf.unwrap();
            (leaf.pa, leaf.word)
        };
        let count = (large / small) as usize;
        map(&mut *table, there, large, 1);
        map(&mut *table, elsewhere, small, count);
        // All but one.
        assert_eq!(machine.unmap(&mut *table, there + 3 * small, small, 1), small);
        // A section is cut into small pages, whatever is taken out of it.
        let alike = if (large, small) == (1 << 20, 1 << 16) { 0 } else { count as u64 };
        for nth in [0, 1, 2, 4, count as u64 / 2, count as u64 - 1] {
            if nth >= alike {
                continue;
            }
            let (left, right) = (there + nth * small, elsewhere + nth * small);
            assert_eq!(word(&*table, left), word(&*table, right), "{prot:?} {nth}");
        }
        let mut gather = Gather::new(&machine.tlb);
        assert_eq!(table.unmap_range(Iova::new(there), large, &mut gather), Ok(large - small));
        if back {
            map(&mut *table, there, large, 1);
            table.collapse(Iova::new(elsewhere), large, &mut gather).unwrap();
            assert_eq!(word(&*table, elsewhere), word(&*table, there), "{prot:?}");
            table.unmap_range(Iova::new(there), large, &mut gather).unwrap();
        }
        table.unmap_range(Iova::new(elsewhere), large, &mut gather).unwrap();
        machine.finish(gather);
    }
    machine.free(table);
}

#[test]
#[cfg_attr(miri, ignore = "every format, time and again")]
fn what_is_cut_says_what_it_said() {
    for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
        let plain = config(format, SIZES_4K, 40, 44);
        same_words(&plain, BLOCK, PAGE, true);
        let wide = Config { lpa2: true, ..config(format, SIZES_4K, 48, 52) };
        same_words(&wide, BLOCK, PAGE, true);
        same_words(&config(format, GRANULES[2], 48, 52), 1 << 29, 1 << 16, true);
    }
    let hd = Config {
        quirks: Quirks::HD | Quirks::NS,
        ..config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 44)
    };
    same_words(&hd, BLOCK, PAGE, true);
    let dirty = Config { s2_dirty: true, ..config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44) };
    same_words(&dirty, BLOCK, PAGE, true);
    same_words(&Config::new(FormatId::ArmMaliLpae), BLOCK, PAGE, true);
    let v7s = Config::new(FormatId::ArmV7s);
    let mtk = Quirks::NO_PERMS | Quirks::MTK_EXT;
    for config in [
        v7s,
        Config { quirks: Quirks::NS, ..v7s },
        Config { quirks: Quirks::NO_PERMS, ..v7s },
        Config { quirks: mtk, ias: 34, oas: 35, ..v7s },
    ] {
        same_words(&config, 1 << 16, 1 << 12, false);
        same_words(&config, 1 << 20, 1 << 12, true);
        same_words(&config, 1 << 20, 1 << 16, true);
        same_words(&config, 1 << 24, 1 << 20, false);
    }
}

/// A supersection cut down to a page: a run, a section, a large page, a small one.
#[test]
fn a_cut_goes_through_every_size() {
    let machine = Machine::new(64);
    let config = Config { split: SplitPolicy::BreakBeforeMake, ..Config::new(FormatId::ArmV7s) };
    let mut table = machine.alloc(&config).unwrap();
    let (start, pa) = (1u64 << 26, 1u64 << 30);
    table.map_pages(Iova::new(start), PhysAddr::new(pa), 1 << 24, 1, Prot::MEMORY).unwrap();
    machine.tlb.issued.take();
    let at = start + (5 << 20) + 0x7000;
    let mut gather = Gather::new(&machine.tlb);
    assert_eq!(table.unmap_pages(Iova::new(at), PAGE, 1, &mut gather), Ok(PAGE));
    let section = start + (5 << 20);
    let wanted = [Issued::Walk(start, 1 << 24), Issued::Walk(section, 1 << 20)];
    assert_eq!(machine.tlb.issued.take(), wanted);
    assert_eq!(gather.range(), Some((Iova::new(at), Iova::new(at + PAGE - 1))));
    machine.finish(gather);
    for va in (start..start + (1 << 24)).step_by(PAGE as usize) {
        let found = table.iova_to_phys(Iova::new(va)).map(PhysAddr::get);
        assert_eq!(found, (va != at).then_some(pa + (va - start)));
    }
    assert_eq!(machine.tables(), 4 + 1);
    machine.free(table);
}

/// Ruins the block at `va`, as a flipped bit in memory would: something is there, and says nothing.
fn ruin(machine: &Machine, table: &dyn PageTable, va: u64) {
    let steps = table.walk(Iova::new(va)).steps;
    let steps: Vec<_> = steps.into_iter().flatten().collect();
    let [.., (1, _, above), (2, index, _)] = steps[..] else { panic!("{va:#x} is no block") };
    let words = machine.memory.table::<[AtomicU64; 512]>(PhysAddr::new(above & !0xfff)).unwrap();
    words.words()[index].store(2, Ordering::Relaxed);
}

/// A request that comes to a ruined entry ends there, and everything that it did is gathered, by
/// the smallest page that the hardware may know it by.
#[test]
fn what_was_done_before_a_ruined_entry_is_gathered() {
    for (count, size) in [(1, PAGE), (16, BLOCK)] {
        let (unit, contiguous) = (count * BLOCK, count > 1);
        let plain = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 42);
        let config = Config { split: SplitPolicy::InPlace, contiguous, ..plain };
        // Four units: the first is a hole or is there, the second is ruined, the third is cut.
        for first_is_there in [false, true] {
            let machine = Machine::new(64);
            let mut table = machine.alloc(&config).unwrap();
            let from = if first_is_there { 0 } else { 1 };
            let (start, pages) = (GIB + from * unit, ((4 - from) * count) as usize);
            table
                .map_pages(Iova::new(start), PhysAddr::new(PA), BLOCK, pages, Prot::MEMORY)
                .unwrap();
            let ruined = GIB + unit;
            ruin(&machine, &*table, ruined);
            machine.tlb.granule.set(0);
            let mut gather = Gather::new(&machine.tlb);
            let done = table.unmap_range(Iova::new(GIB), 2 * unit + size, &mut gather);
            let corrupt = Error::Corrupt { iova: Iova::new(ruined), level: 2, word: 2 };
            let last = GIB + 3 * unit - 1;
            let first = if first_is_there { GIB } else { GIB + 2 * unit };
            assert_eq!(done, Err(corrupt));
            assert_eq!(gather.range(), Some((Iova::new(first), Iova::new(last))));
            machine.finish(gather);
            assert_eq!(machine.tlb.granule.get(), PAGE);
        }
    }
}

/// The same where nothing is cut, of both halves: what went before a hole, and what went behind it.
#[test]
fn what_went_before_a_ruined_entry_is_gathered_alone() {
    for (nth, config) in halves(SplitPolicy::Refuse, false).into_iter().enumerate() {
        let machine = Machine::new(64);
        let mut table = machine.alloc(&config).unwrap();
        let start = if nth == 0 { GIB } else { !0 << 40 | GIB };
        let [first, .., ruined] = [0, 2, 3].map(|block| {
            let at = Iova::new(start + block * BLOCK);
            table.map_pages(at, PhysAddr::new(PA), BLOCK, 1, Prot::MEMORY).unwrap();
            at
        });
        ruin(&machine, &*table, ruined.get());
        machine.tlb.granule.set(0);
        let mut gather = Gather::new(&machine.tlb);
        let done = table.unmap_range(first, 5 * BLOCK, &mut gather);
        assert_eq!(done, Err(Error::Corrupt { iova: ruined, level: 2, word: 2 }));
        assert_eq!(gather.range(), Some((first, Iova::new(ruined.get() - 1))));
        machine.finish(gather);
        assert_eq!(machine.tlb.granule.get(), PAGE);
    }
}

/// The same behind a hole in a large page of v7s.
#[test]
fn what_was_done_behind_a_hole_before_a_ruined_entry_is_gathered() {
    const LARGE: u64 = 1 << 16;
    const SECTION: u64 = 1 << 20;
    let machine = Machine::new(64);
    let mut table = machine.alloc(&Config::new(FormatId::ArmV7s)).unwrap();
    let (start, prot) = (5 * SECTION, Prot::MEMORY);
    // The second large page has a hole in it; of the next section, nothing is left but what is wrong.
    for (at, pages) in [(start, 19), (start + 20 * PAGE, 512 - 20)] {
        table.map_pages(Iova::new(at), PhysAddr::new(at), PAGE, pages, prot).unwrap();
    }
    let palisade_pgtable::Registers::V7s(regs) = *table.registers() else { unreachable!() };
    let root = PhysAddr::new(u64::from(regs.ttbr & !0xfff));
    let words = machine.memory.table::<[AtomicU64; 512]>(root).unwrap();
    let ruined = start + SECTION;
    let word = &words.words()[(ruined / SECTION / 2) as usize];
    assert_eq!(ruined / SECTION % 2, 0, "the lower half of the word");
    let link = word.load(Ordering::Relaxed);
    word.store(link >> 32 << 32 | 3, Ordering::Relaxed);
    let mut gather = Gather::new(&machine.tlb);
    let done = table.unmap_pages(Iova::new(start), LARGE, 40, &mut gather);
    assert_eq!(done, Err(Error::Corrupt { iova: Iova::new(ruined), level: 1, word: 3 }));
    assert_eq!(gather.range(), Some((Iova::new(start), Iova::new(ruined - 1))));
    machine.finish(gather);
    assert_eq!(machine.tlb.granule.get(), PAGE);
    word.store(link, Ordering::Relaxed);
    machine.free(table);
}
