//! What is remembered of walks: which table decides about an address.
//!
//! 1. What is known is reached by one look-up of a table, whatever is asked for.
//! 2. It is a hint: what is wrong with a request is found and named all the same.
//! 3. A table that was unlinked is forgotten, though its frame serves elsewhere by now.

use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Config, Error, FormatId, Gather, PageTable, Prot, Quirks, alloc};

use crate::common::metered::Metered;
use crate::common::{GRANULES, Machine, config};

const PAGE: u64 = 1 << 12;
const BLOCK: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

/// A table whose look-ups are counted, and where its addresses begin.
struct Counted<'m> {
    machine: &'m Machine,
    table: Box<dyn PageTable>,
    memory: Metered,
    base: u64,
}

impl<'m> Counted<'m> {
    fn new(machine: &'m Machine, config: &Config) -> Self {
        let memory = Metered::new(machine, usize::MAX);
        let table = alloc(config, memory.clone()).unwrap();
        let upper = config.quirks.contains(Quirks::TTBR1);
        let base = if upper { !0 << table.config().ias } else { 0 };
        Self { machine, table, memory, base }
    }

    fn at(&self, va: u64) -> Iova {
        Iova::new(self.base | va)
    }

    fn map(&mut self, va: u64, pa: u64, size: u64, count: usize) -> Result<usize, Error> {
        self.memory.looked_up();
        self.table.map_pages(self.at(va), PhysAddr::new(pa), size, count, Prot::MEMORY)?;
        Ok(self.memory.looked_up())
    }

    /// How many bytes were unmapped, and by how many look-ups.
    fn unmap(&mut self, va: u64, size: u64, count: usize) -> Result<(u64, usize), Error> {
        self.memory.looked_up();
        let mut gather = Gather::new(&self.machine.tlb);
        let done = self.table.unmap_pages(self.at(va), size, count, &mut gather);
        let looked_up = self.memory.looked_up();
        if let Ok(1..) = done {
            let last = self.at(va + done.unwrap() - 1);
            assert_eq!(gather.range(), Some((self.at(va), last)));
        }
        self.machine.tlb.granule.set(0);
        self.machine.finish(gather);
        if let Ok(1..) = done {
            let smallest = self.table.config().pgsize_bitmap.trailing_zeros();
            assert_eq!(self.machine.tlb.granule.get(), 1 << smallest);
        }
        Ok((done?, looked_up))
    }

    fn translate(&self, va: u64) -> (Option<u64>, usize) {
        self.memory.looked_up();
        let found = self.table.iova_to_phys(self.at(va)).map(PhysAddr::get);
        (found, self.memory.looked_up())
    }

    fn free(self) {
        self.machine.free(self.table);
        assert_eq!(self.machine.tables(), 0);
    }
}

/// Four levels, in the lower half and in the upper.
fn halves() -> [Config; 2] {
    let lower = Config::new(FormatId::Arm64LpaeS1);
    [lower, Config { quirks: Quirks::TTBR1, ..lower }]
}

#[test]
fn what_was_translated_is_translated_by_one_look_up() {
    let machine = Machine::new(256);
    for config in halves() {
        let mut counted = Counted::new(&machine, &config);
        // Two pages, which mapping them makes known; they are made unknown again.
        counted.map(5 * GIB, 0x5000, PAGE, 2).unwrap();
        counted.map(7 * GIB, GIB, BLOCK, 2).unwrap();
        counted.map(8 * GIB, 3 * GIB, GIB, 2).unwrap();
        counted.map(6 * GIB, BLOCK, BLOCK, 2).unwrap();
        counted.unmap(6 * GIB, BLOCK, 2).unwrap();
        // Four tables; then one. For a block three, and a look for a fourth.
        let page = 5 * GIB + PAGE;
        assert_eq!(counted.translate(page + 42), (Some(0x6000 + 42), 4));
        assert_eq!(counted.translate(page + 43), (Some(0x6000 + 43), 1));
        assert_eq!(counted.translate(5 * GIB), (Some(0x5000), 1));
        let block = 7 * GIB + BLOCK;
        assert_eq!(counted.translate(block + 42), (Some(GIB + BLOCK + 42), 4));
        assert_eq!(counted.translate(block + 43), (Some(GIB + BLOCK + 43), 1));
        // Another stretch of the same table is another matter, once.
        assert_eq!(counted.translate(7 * GIB + 1), (Some(GIB + 1), 4));
        assert_eq!(counted.translate(7 * GIB + 1), (Some(GIB + 1), 1));
        // A gigabyte's table is above those that are remembered: its second entry is for another.
        counted.map(GIB, 0, GIB, 1).unwrap();
        for offset in [0, BLOCK, BLOCK + 1, BLOCK + 2, GIB, GIB + BLOCK, GIB + BLOCK] {
            let found = counted.translate(8 * GIB + offset);
            assert_eq!(found, (Some(3 * GIB + offset), 3));
        }
        // What a known table does not map is looked for once more from the root.
        assert_eq!(counted.translate(page), (Some(0x6000), 4));
        assert_eq!(counted.translate(page + PAGE), (None, 5));
        assert_eq!(counted.translate(6 * GIB), (None, 3));
        assert_eq!(counted.translate(1 << 40), (None, 2));
        // Beyond the end, where nothing is looked up.
        counted.memory.looked_up();
        for beyond in [1 << config.ias, !0 << 63 >> 1, 1 << 63] {
            let at = Iova::new(counted.base ^ beyond);
            assert_eq!(counted.table.iova_to_phys(at), None);
        }
        assert_eq!(counted.memory.looked_up(), 0);
        counted.free();
    }
}

#[test]
fn a_walk_looks_at_each_table_once() {
    let machine = Machine::new(256);
    for config in halves() {
        let mut counted = Counted::new(&machine, &config);
        counted.map(5 * GIB, 0x5000, PAGE, 2).unwrap();
        counted.memory.looked_up();
        let walk = counted.table.walk(counted.at(5 * GIB + PAGE + 42));
        assert_eq!(counted.memory.looked_up(), 4);
        let leaf = walk.leaf.unwrap();
        assert_eq!((leaf.iova, leaf.pa.get()), (counted.at(5 * GIB + PAGE), 0x6000));
        // Looking at leaves, and unmapping a range, is by as many.
        let at = counted.at(5 * GIB);
        let mut seen = Vec::new();
        counted.table.leaves(at, 2 * PAGE, &mut |leaf| seen.push(leaf.iova)).unwrap();
        assert_eq!(seen, [counted.at(5 * GIB), counted.at(5 * GIB + PAGE)]);
        assert_eq!(counted.memory.looked_up(), 4);
        counted.free();
    }
}

#[test]
fn a_known_table_is_changed_by_one_look_up() {
    let machine = Machine::new(256);
    for config in halves() {
        let mut counted = Counted::new(&machine, &config);
        let first = 5 * GIB;
        assert!(counted.map(first + PAGE, PAGE, PAGE, 1).unwrap() > 4);
        for nth in [2, 3] {
            let page = nth * PAGE;
            assert_eq!(counted.map(first + page, page, PAGE, 1), Ok(1));
            assert_eq!(counted.translate(first + page + 1), (Some(page + 1), 1));
        }
        assert_eq!(counted.map(first + 4 * PAGE, PAGE, PAGE, 8), Ok(1));
        assert_eq!(counted.map(first + 13 * PAGE, PAGE, PAGE, 7), Ok(1));
        assert_eq!(counted.translate(first + 19 * PAGE), (Some(7 * PAGE), 1));
        for nth in [2, 3] {
            assert_eq!(counted.unmap(first + nth * PAGE, PAGE, 1), Ok((PAGE, 1)));
            assert_eq!(counted.unmap(first + nth * PAGE, PAGE, 1), Ok((0, 1)));
        }
        assert_eq!(counted.unmap(first + 4 * PAGE, PAGE, 8), Ok((8 * PAGE, 1)));
        // As far as there is something.
        assert_eq!(counted.unmap(first + 13 * PAGE, PAGE, 30), Ok((7 * PAGE, 1)));
        let (none, _) = counted.unmap(first + 13 * PAGE, PAGE, 30).unwrap();
        assert_eq!(none, 0);
        // To the end of the table, and over it.
        let last = first + BLOCK - PAGE;
        assert_eq!(counted.map(last - PAGE, PAGE, PAGE, 2), Ok(1));
        assert!(counted.map(last + PAGE, 3 * PAGE, PAGE, 1).unwrap() > 1);
        assert_eq!(counted.unmap(last - PAGE, PAGE, 2), Ok((2 * PAGE, 1)));
        assert_eq!(counted.map(last - PAGE, PAGE, PAGE, 2), Ok(1));
        let (done, looked_up) = counted.unmap(last - PAGE, PAGE, 3).unwrap();
        assert!(done == 3 * PAGE && looked_up > 1);
        // The highest output address.
        let top = (1 << config.oas) - 2 * PAGE;
        assert_eq!(counted.map(first + 2 * PAGE, top, PAGE, 2), Ok(1));
        assert_eq!(counted.map(first + 4 * PAGE, top + PAGE, PAGE, 1), Ok(1));
        counted.free();
    }
}

#[test]
fn unmapping_makes_a_table_known() {
    let machine = Machine::new(256);
    let mut counted = Counted::new(&machine, &halves()[0]);
    counted.map(GIB, 0, PAGE, 512).unwrap();
    // One slot for both: the other table takes it.
    let far = GIB + 512 * BLOCK;
    counted.map(far, 0, PAGE, 1).unwrap();
    let (done, looked_up) = counted.unmap(GIB, PAGE, 2).unwrap();
    assert!(done == 2 * PAGE && looked_up > 1);
    assert_eq!(counted.unmap(GIB + 2 * PAGE, PAGE, 2), Ok((2 * PAGE, 1)));
    assert!(counted.translate(far).1 > 1);
    assert_eq!(counted.translate(far), (Some(0), 1));
    counted.free();
}

#[test]
fn what_is_wrong_is_named_in_a_known_table() {
    let machine = Machine::new(256);
    for config in halves() {
        let mut counted = Counted::new(&machine, &config);
        let first = 5 * GIB;
        counted.map(first + 5 * PAGE, 0, PAGE, 1).unwrap();
        let used = Err(Error::Exists(counted.at(first + 5 * PAGE)));
        assert_eq!(counted.map(first + 5 * PAGE, 0, PAGE, 1), used);
        for (start, count) in [(5, 2), (4, 2), (0, 6), (0, 20), (3, 509)] {
            assert_eq!(counted.map(first + start * PAGE, 0, PAGE, count), used);
        }
        for count in [1, 2] {
            for odd in [1, 42, 0x800, PAGE - 1] {
                let at = counted.at(first + odd);
                let unaligned = Err(Error::Unaligned(at));
                assert_eq!(counted.map(first + odd, 0, PAGE, count), unaligned);
                assert_eq!(counted.map(first + odd, odd, PAGE, count), unaligned);
                let unaligned = Err(Error::Unaligned(counted.at(first)));
                assert_eq!(counted.map(first, odd, PAGE, count), unaligned);
                let unaligned = Err(Error::Unaligned(counted.at(first + 5 * PAGE + odd)));
                assert_eq!(counted.unmap(first + 5 * PAGE + odd, PAGE, count), unaligned);
            }
            let bytes = count as u64 * PAGE;
            for pa in [1 << config.oas, (1 << config.oas) - bytes + PAGE, 1 << 60, !(PAGE - 1)] {
                let beyond = Err(Error::OutputRange(PhysAddr::new(pa)));
                assert_eq!(counted.map(first, pa, PAGE, count), beyond);
            }
            let (at, to) = (counted.at(first), PhysAddr::new(0));
            let none = counted.table.map_pages(at, to, PAGE, count, Prot::CACHE);
            assert_eq!(none, Err(Error::NoPermission(at)));
        }
        assert_eq!(counted.map(first, 0, PAGE, 0), Err(Error::PageSize(0)));
        assert_eq!(counted.unmap(first + 5 * PAGE, PAGE, 0), Err(Error::PageSize(0)));
        // Nothing of it happened.
        for nth in 0..20 {
            let found = (nth == 5).then_some(0);
            assert_eq!(counted.translate(first + nth * PAGE).0, found);
        }
        counted.free();
    }
}

/// What is remembered is by level: a gigabyte's table and a root are not what they seem.
#[test]
fn a_block_of_a_concatenated_root_is_found_in_its_own_piece() {
    const SIZE: u64 = 1 << 25;
    let machine = Machine::new(1024);
    let config = config(FormatId::Arm64LpaeS2, GRANULES[1], 40, 40);
    let mut counted = Counted::new(&machine, &config);
    let piece = SIZE << 11;
    let places = [(0, SIZE), (piece, 2 * SIZE), (5 * piece, 3 * SIZE), (15 * piece, 4 * SIZE)];
    for (va, pa) in places {
        counted.map(va, pa, SIZE, 1).unwrap();
    }
    for (va, pa) in places {
        for offset in [42, 43] {
            assert_eq!(counted.translate(va + offset), (Some(pa + offset), 2));
        }
    }
    for (va, _) in places {
        assert_eq!(counted.unmap(va, SIZE, 1).unwrap().0, SIZE);
        assert_eq!(counted.translate(va).0, None);
    }
    counted.free();
}

/// A table of one level: it is the root.
#[test]
fn a_root_of_pages_is_not_remembered() {
    let machine = Machine::new(256);
    let config = config(FormatId::Arm64LpaeS1, GRANULES[1], 25, 40);
    let mut counted = Counted::new(&machine, &config);
    let page = 1 << 14;
    assert_eq!(counted.map(page, page, page, 1), Ok(1));
    assert_eq!(counted.map(2 * page, page, page, 2), Ok(1));
    assert_eq!(counted.translate(3 * page + 1), (Some(2 * page + 1), 1));
    assert_eq!(counted.unmap(page, page, 3), Ok((3 * page, 1)));
    counted.free();
}

/// Makes a table known, unlinks it by `unlink`, and maps elsewhere until every frame is a table,
/// the one that was unlinked too; then nothing of this is seen where it was.
fn forgotten(size: u64, unlink: impl Fn(&mut Counted<'_>)) {
    let machine = Machine::new(32);
    let config = Config::new(FormatId::Arm64LpaeS1);
    let mut counted = Counted::new(&machine, &config);
    let level = if size == PAGE { 2 } else { 1 };
    let link = |counted: &Counted<'_>, va: u64| {
        let walk = counted.table.walk(counted.at(va));
        walk.steps[level].unwrap().2 & 0xffff_ffff_f000
    };
    let place = |nth: u64| GIB + nth * (size << 9);
    // One elsewhere, which the tables above stay for.
    counted.map(place(500), 0, size, 1).unwrap();
    counted.map(GIB, 0, size, 2).unwrap();
    for nth in [0, 1] {
        counted.translate(GIB + nth * size);
        assert_eq!(counted.translate(GIB + nth * size), (Some(nth * size), 1), "it is known");
    }
    let frame = link(&counted, GIB);
    unlink(&mut counted);
    assert_eq!(counted.translate(GIB).0, None);
    let mapped = |va: &u64| counted.map(*va, 4 * GIB, size, 2).is_ok();
    let places: Vec<u64> = (1..32).map(place).take_while(mapped).collect();
    assert!(places.len() < 31, "all memory is used");
    assert!(places.iter().any(|&va| link(&counted, va) == frame));
    assert_eq!(counted.translate(GIB).0, None);
    assert_eq!(counted.translate(GIB + size).0, None);
    // What is mapped goes where it belongs, or nowhere.
    assert_eq!(counted.map(GIB, GIB, size, 1), Err(Error::NoMemory(counted.at(GIB))));
    assert_eq!(counted.unmap(GIB, size, 1).map(|done| done.0), Ok(0));
    for va in places {
        assert_eq!(counted.translate(va).0, Some(4 * GIB));
    }
    counted.free();
}

#[test]
fn what_was_unlinked_is_forgotten() {
    // The last pages, one by one and at once, and a range.
    forgotten(PAGE, |counted| {
        assert_eq!(counted.unmap(GIB + PAGE, PAGE, 1).unwrap().0, PAGE);
        assert_eq!(counted.unmap(GIB, PAGE, 1).unwrap().0, PAGE);
    });
    forgotten(PAGE, |counted| assert_eq!(counted.unmap(GIB, PAGE, 2).unwrap().0, 2 * PAGE));
    forgotten(PAGE, |counted| {
        let mut gather = Gather::new(&counted.machine.tlb);
        assert_eq!(counted.table.unmap_range(Iova::new(GIB), BLOCK, &mut gather), Ok(2 * PAGE));
        counted.machine.finish(gather);
    });
    // A full table, and one below an entry that is unmapped as a block.
    forgotten(PAGE, |counted| {
        counted.map(GIB + 2 * PAGE, PAGE, PAGE, 510).unwrap();
        assert_eq!(counted.unmap(GIB, PAGE, 512).unwrap().0, BLOCK);
    });
    forgotten(PAGE, |counted| assert_eq!(counted.unmap(GIB, BLOCK, 1).unwrap().0, BLOCK));
    // Tables of blocks, which are known for each of them.
    forgotten(BLOCK, |counted| assert_eq!(counted.unmap(GIB, BLOCK, 2).unwrap().0, 2 * BLOCK));
    forgotten(BLOCK, |counted| assert_eq!(counted.unmap(GIB, GIB, 1).unwrap().0, GIB));
    forgotten(BLOCK, |counted| {
        assert_eq!(counted.unmap(GIB, PAGE, 1024).unwrap().0, 2 * BLOCK);
    });
    forgotten(BLOCK, |counted| {
        assert_eq!(counted.unmap(GIB + BLOCK, BLOCK, 1).unwrap().0, BLOCK);
        assert_eq!(counted.unmap(GIB, BLOCK, 1).unwrap().0, BLOCK);
    });
}
