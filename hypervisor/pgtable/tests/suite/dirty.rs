//! Leaves, and which of them were written.
//!
//! 1. What may be written counts as written until it is cleaned; cleaned, it counts again once
//!    hardware has written to it. Nothing else counts.
//! 2. The gather holds what was cleaned, and nothing if nothing was.
//! 3. Every leaf that overlaps a range is visited once, in order, and nothing beyond it.

use std::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{TableMemory, Words};
use palisade_pgtable::{Config, Error, FormatId, Gather, Leaf, PageTable, Prot, Quirks, SIZES_4K};

use crate::common::{GRANULES, Machine, config, few, granules, sizes};

type Written = Vec<(u64, u64)>;

/// What was written in the range, cleaned, and what has to be forgotten of it.
fn harvest(
    machine: &Machine,
    table: &mut dyn PageTable,
    iova: u64,
    size: u64,
) -> Result<(Written, Option<(Iova, Iova)>), Error> {
    let mut gather = Gather::new(&machine.tlb);
    let mut found = Vec::new();
    let mut record = |iova: Iova, size| found.push((iova.get(), size));
    let result = table.read_and_clear_dirty(Iova::new(iova), size, &mut gather, &mut record);
    assert_eq!(gather.is_empty(), found.is_empty());
    let range = gather.range();
    machine.tlb.granule.set(0);
    machine.finish(gather);
    if !found.is_empty() {
        assert_eq!(machine.tlb.granule.get(), sizes(table.config())[0]);
    }
    result.map(|()| (found, range))
}

/// As hardware does: clears `clear` and sets `set` in the entry for `iova`.
fn hardware<W: Words>(machine: &Machine, table: &dyn PageTable, iova: u64, clear: u64, set: u64) {
    let steps: Vec<_> = table.walk(Iova::new(iova)).steps.into_iter().flatten().collect();
    let regs = table.registers();
    let root = regs.stage1().map(|regs| regs.ttbr);
    let root = root.or(regs.stage2().map(|regs| regs.vttbr_baddr)).unwrap();
    let links = [root.get()].into_iter().chain(steps.iter().map(|step| step.2));
    let at = PhysAddr::new(links.take(steps.len()).last().unwrap() & 0xffff_ffff_f000);
    let words = machine.memory.table::<W>(at).unwrap();
    let word = &words.words()[steps.last().unwrap().1];
    word.store(word.load(Ordering::Relaxed) & !clear | set, Ordering::Relaxed);
}

/// A table of this granule (4 KiB of input per entry, or more) in which hardware writes.
fn rounds<W: Words>(config: &Config, clear: u64, set: u64) {
    let machine = Machine::new(1024);
    let mut table = machine.alloc(config).unwrap();
    let upper = if config.quirks.contains(Quirks::TTBR1) { !0 << table.config().ias } else { 0 };
    let (page, block) = (sizes(table.config())[0], sizes(table.config())[1]);
    let span = block + 8 * page;
    let start = upper | block;
    let mut map = |offset: u64, size, count, prot| {
        let (iova, pa) = (Iova::new(start + offset), PhysAddr::new(block + offset));
        table.map_pages(iova, pa, size, count, prot).unwrap();
    };
    // A block; pages, one of them read-only; a hole; the last of a table, and the one behind it.
    map(0, block, 1, Prot::MEMORY);
    map(block, page, 2, Prot::MEMORY);
    map(block + 2 * page, page, 1, Prot::READ);
    map(block + 4 * page, page, 1, Prot::WRITE);
    map(2 * block - page, page, 2, Prot::MEMORY);
    let first = start + block;
    let all = [
        (start, block),
        (first, page),
        (first + page, page),
        (first + 4 * page, page),
        (first + block - page, page),
        (first + block, page),
    ];
    let size = 2 * block + page;
    let ends = Some((Iova::new(start), Iova::new(start + size - 1)));
    assert_eq!(harvest(&machine, &mut *table, start, size), Ok((all.to_vec(), ends)));
    assert_eq!(harvest(&machine, &mut *table, start, size), Ok((vec![], None)));
    // Nothing has moved, and nothing is gone.
    assert_eq!(table.iova_to_phys(Iova::new(first + 42)), Some(PhysAddr::new(2 * block + 42)));
    for written in [1, 3, 5, 0] {
        let (at, size) = all[written];
        hardware::<W>(&machine, &*table, at, clear, set);
        let last = Iova::new(at + size - 1);
        let only = Ok((vec![all[written]], Some((Iova::new(at), last))));
        // Not beside it; by any part of it.
        assert_eq!(harvest(&machine, &mut *table, at + size, page), Ok((vec![], None)));
        assert_eq!(harvest(&machine, &mut *table, at + size - page, page), only);
        assert_eq!(harvest(&machine, &mut *table, start, span), Ok((vec![], None)));
    }
    // Two of them, with what lies between.
    hardware::<W>(&machine, &*table, all[1].0, clear, set);
    hardware::<W>(&machine, &*table, all[3].0, clear, set);
    let ends = Some((Iova::new(all[1].0), Iova::new(all[3].0 + page - 1)));
    let found = harvest(&machine, &mut *table, first, block);
    assert_eq!(found, Ok((vec![all[1], all[3]], ends)));
    // A page that may only be read stays as it is, whatever it looks like.
    let read_only = first + 2 * page;
    for _ in 0..2 {
        let word = table.walk(Iova::new(read_only)).leaf.unwrap().word;
        assert_eq!(harvest(&machine, &mut *table, read_only, page), Ok((vec![], None)));
        assert_eq!(table.walk(Iova::new(read_only)).leaf.unwrap().word, word);
        // Not even where writes are permitted: without DBM no hardware records them.
        hardware::<W>(&machine, &*table, read_only, clear, set);
    }
    let top = table.config().ias;
    let beyond = Iova::new(upper ^ 1 << top);
    let refused = harvest(&machine, &mut *table, beyond.get(), page);
    assert_eq!(refused, Err(Error::InputRange(beyond)));
    assert_eq!(harvest(&machine, &mut *table, start, 0), Ok((vec![], None)));
    machine.free(table);
}

#[test]
fn what_was_written_is_told_once() {
    let [small, middle, large] = GRANULES;
    let s1 = |sizes| Config { quirks: Quirks::HD, ..config(FormatId::Arm64LpaeS1, sizes, 40, 44) };
    let s2 = |sizes| Config { s2_dirty: true, ..config(FormatId::Arm64LpaeS2, sizes, 40, 44) };
    // Stage 1 clears AP[2] on a write (D8.5.5), stage 2 sets S2AP[1].
    rounds::<[AtomicU64; 512]>(&s1(small), 1 << 7, 0);
    rounds::<[AtomicU64; 512]>(&s2(small), 0, 1 << 7);
    let quirks = Quirks::HD | Quirks::TTBR1;
    rounds::<[AtomicU64; 512]>(&Config { quirks, ..s1(small) }, 1 << 7, 0);
    let short = Config { quirks: Quirks::HD, ..Config::new(FormatId::Arm32LpaeS1) };
    rounds::<[AtomicU64; 512]>(&short, 1 << 7, 0);
    if granules().len() > 1 {
        rounds::<[AtomicU64; 2048]>(&s1(middle), 1 << 7, 0);
        rounds::<[AtomicU64; 8192]>(&s1(large), 1 << 7, 0);
    }
}

#[test]
fn only_tables_in_which_hardware_records_can_tell() {
    let machine = Machine::new(64);
    for format in FormatId::ALL {
        let mut table = machine.alloc(&Config::new(format)).unwrap();
        let result = harvest(&machine, &mut *table, 0, 1 << 12);
        assert_eq!(result, Err(Error::Unsupported), "{format:?}");
        machine.free(table);
    }
}

fn leaves(table: &dyn PageTable, iova: u64, size: u64) -> Result<Vec<(u64, u64)>, Error> {
    let mut found = Vec::new();
    let mut visit = |leaf: Leaf| {
        assert!(leaf.iova == Iova::new(leaf.pa.get()) && leaf.level >= -1);
        found.push((leaf.iova.get(), leaf.size));
    };
    table.leaves(Iova::new(iova), size, &mut visit)?;
    Ok(found)
}

#[test]
fn every_leaf_in_a_range_is_visited_once() {
    const BLOCK: u64 = 1 << 21;
    let machine = Machine::new(64);
    let mut table = machine.alloc(&config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40)).unwrap();
    let placed = [
        (0, 1 << 12),
        (0x5000, 1 << 12),
        (BLOCK - 0x1000, 1 << 12),
        (BLOCK, BLOCK),
        (4 * BLOCK, BLOCK),
        (5 * BLOCK, 1 << 12),
        (1 << 30, 1 << 30),
        ((1 << 40) - 0x1000, 1 << 12),
    ];
    for (at, size) in placed {
        let (iova, pa) = (Iova::new(at), PhysAddr::new(at));
        table.map_pages(iova, pa, size, 1, Prot::READ).unwrap();
    }
    assert_eq!(leaves(&*table, 0, 1 << 40), Ok(placed.to_vec()));
    let marks: Vec<u64> = placed
        .iter()
        .flat_map(|&(at, size)| [at, at + 1, at + size / 2, at + size - 1, at + size])
        .chain([0x3000, 3 * BLOCK, 6 * BLOCK + 5, 5 << 30])
        .filter(|&mark| mark < 1 << 40)
        .collect();
    let marks = few(marks);
    for &first in &marks {
        for &last in marks.iter().filter(|&&last| last >= first) {
            let overlaps = |&(at, size): &(u64, u64)| at <= last && at + size > first;
            let wanted: Vec<(u64, u64)> = placed.into_iter().filter(overlaps).collect();
            assert_eq!(
                leaves(&*table, first, last - first + 1),
                Ok(wanted),
                "{first:#x} {last:#x}"
            );
        }
    }
    assert_eq!(leaves(&*table, 0, 0), Ok(vec![]));
    for (first, size) in [(1 << 40, 1), ((1 << 40) - 1, 2), (0, (1 << 40) + 1), (1, u64::MAX)] {
        assert_eq!(leaves(&*table, first, size), Err(Error::InputRange(Iova::new(first))));
    }
    // An entry that is none of ours ends it, by the name of its address.
    let above = table.walk(Iova::new(0)).steps[1].unwrap().2 & 0xffff_ffff_f000;
    let words = machine.memory.table::<[AtomicU64; 512]>(PhysAddr::new(above)).unwrap();
    words.words()[9].store(2, Ordering::Relaxed);
    let corrupt = Error::Corrupt { iova: Iova::new(0x9000), level: 3, word: 2 };
    assert_eq!(leaves(&*table, 0, BLOCK), Err(corrupt));
    assert_eq!(leaves(&*table, 0, 0x9000), Ok(placed[..2].to_vec()));
    words.words()[9].store(0, Ordering::Relaxed);
    machine.free(table);
}

/// Large pages and supersections are told entry by entry, each with its own output address.
#[test]
fn leaves_of_a_run_have_addresses_of_their_own() {
    let machine = Machine::new(64);
    let mut table = machine.alloc(&Config::new(FormatId::ArmV7s)).unwrap();
    for size in [1 << 16, 1 << 24] {
        let (iova, pa) = (Iova::new(size), PhysAddr::new(size));
        table.map_pages(iova, pa, size, 1, Prot::MEMORY).unwrap();
        let each: Vec<(u64, u64)> = (0..16).map(|n| (size + n * (size / 16), size / 16)).collect();
        assert_eq!(leaves(&*table, size, size), Ok(each.clone()));
        assert_eq!(leaves(&*table, size + size / 2, 1), Ok(vec![each[8]]));
    }
    machine.free(table);
}
