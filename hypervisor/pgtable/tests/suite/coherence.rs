//! What a walker sees that does not snoop the CPU's caches: what was cleaned, and no more.
//!
//! 1. After every operation it sees every word of every table as it is.
//! 2. When a pointer to a table appears, all of that table is there already.
//! 3. Each clean is of words that changed, and is waited for. A walker that snoops needs none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::fake::{Barrier, Observer, Op, observe};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Owner, Use};
use palisade_pgtable::{Config, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, SplitPolicy};

use crate::common::{Machine, config, sizes};

/// Memory as the walker sees it.
struct Seen {
    machine: Machine,
    /// Host address less physical address.
    offset: u64,
    /// Whether descriptors have 32 bits.
    short: bool,
    words: RefCell<HashMap<u64, u64>>,
    cleans: Cell<usize>,
    waits: Cell<bool>,
}

impl Seen {
    fn new(short: bool) -> Self {
        let machine = Machine::new(256);
        let frame = machine.frames.alloc_zeroed(0, Use::Table, Owner::vm(1)).unwrap();
        let at = frame.start();
        let words = machine.frames.words(at, 512, Use::Table, Owner::vm(1)).unwrap();
        let offset = (words.as_ptr().addr() as u64).wrapping_sub(at.get());
        let frame = machine.frames.free(frame);
        assert!(frame.is_ok());
        let (words, cleans, waits) = Default::default();
        Self { machine, offset, short, words, cleans, waits }
    }

    /// The words of a frame that is a table.
    fn table(&self, at: u64) -> Option<&[AtomicU64]> {
        let at = PhysAddr::new(at & !0xfff);
        self.machine.frames.words(at, 512, Use::Table, Owner::vm(1))
    }

    /// The tables that a word points to.
    fn links(&self, word: u64) -> Vec<u64> {
        let links = if self.short {
            let halves = [word & 0xffff_ffff, word >> 32];
            halves.into_iter().filter(|half| half & 3 == 1).map(|half| half & !0x3ff).collect()
        } else if word & 3 == 3 {
            vec![word & 0xffff_ffff_f000]
        } else {
            vec![]
        };
        links.into_iter().filter(|&link| self.table(link).is_some()).collect()
    }

    /// All of a table is in memory.
    fn complete(&self, table: u64, why: &str) {
        for (nth, word) in self.table(table).unwrap().iter().enumerate() {
            let at = (table & !0xfff) + nth as u64 * 8;
            let seen = self.words.borrow().get(&at).copied();
            assert_eq!(seen, Some(word.load(Ordering::Relaxed)), "{why}: {at:#x}");
        }
    }

    fn cleaned(&self, start: u64, bytes: u64, invalidate: bool) {
        for at in (start..start + bytes).step_by(8) {
            let Some(table) = self.table(at) else { continue };
            let word = table[(at & 0xfff) as usize / 8].load(Ordering::Relaxed);
            let old = self.words.borrow_mut().insert(at, word);
            if !invalidate {
                assert_ne!(old, Some(word), "cleaned, but not changed: {at:#x}");
                for link in self.links(word) {
                    self.complete(link, "a pointer without its table");
                }
            }
        }
    }

    /// After an operation.
    fn settled(&self) {
        assert!(!self.waits.get(), "a clean that nobody waited for");
        let map = self.machine.frames.map();
        for at in (map.start().get()..map.end().get()).step_by(4096) {
            if self.table(at).is_some() {
                self.complete(at, "not cleaned");
            }
        }
    }
}

impl Observer for Seen {
    fn observe(&self, op: Op, _: &'static Location<'static>) {
        match op {
            Op::Clean { start, bytes, invalidate } => {
                let start = (start as u64).wrapping_sub(self.offset);
                // A new frame, when it is made: its zeroes are in memory by the time it is a table.
                assert!(bytes > 0);
                self.cleaned(start, bytes as u64, invalidate);
                if !invalidate {
                    self.cleans.set(self.cleans.get() + 1);
                    self.waits.set(true);
                }
            }
            Op::Barrier(Barrier::DsbSy) => self.waits.set(false),
            // Nothing is published before what was cleaned is there.
            Op::Barrier(Barrier::Publish) => assert!(!self.waits.get()),
            _ => {}
        }
    }
}

/// Everything that writes to a table.
fn everything(config: &Config) -> usize {
    let seen = Rc::new(Seen::new(config.format == FormatId::ArmV7s));
    let machine = &seen.machine;
    observe(seen.clone(), || {
        let mut table = machine.alloc(config).unwrap();
        let sizes = sizes(table.config());
        let (page, block) = (sizes[0], if seen.short { 1 << 20 } else { sizes[1] });
        let pa = 1 << 30;
        let settled = |_: &mut dyn PageTable| {
            if !config.coherent_walk {
                seen.settled();
            }
        };
        let map = |table: &mut dyn PageTable, iova: u64, size: u64, count: usize| {
            let to = PhysAddr::new(pa + (iova & (block - 1)));
            table.map_pages(Iova::new(iova), to, size, count, Prot::MEMORY).unwrap();
            settled(table);
        };
        let unmap = |table: &mut dyn PageTable, iova: u64, size: u64, count: usize| {
            machine.unmap(table, iova, size, count);
            settled(table);
        };
        settled(&mut *table);
        // One page, one more beside it, some, some over the end of a table, a block.
        map(&mut *table, block, page, 1);
        map(&mut *table, block + page, page, 1);
        map(&mut *table, block + 3 * page, page, 4);
        map(&mut *table, 2 * block - 3 * page, page, 7);
        map(&mut *table, 4 * block, block, 1);
        for &size in &sizes {
            map(&mut *table, size.max(8 * block), size, 1);
            unmap(&mut *table, size.max(8 * block), size, 1);
        }
        // Sizes that mix.
        let (iova, to) = (Iova::new(6 * block - 5 * page), PhysAddr::new(pa - 5 * page));
        table.map_range(iova, to, block + 12 * page, Prot::MEMORY).unwrap();
        settled(&mut *table);
        unmap(&mut *table, block, page, 1);
        unmap(&mut *table, block + page, page, 1);
        unmap(&mut *table, block + 4 * page, page, 2);
        if config.split != SplitPolicy::Refuse {
            // Part of a block; part of a run; and a block again.
            unmap(&mut *table, 4 * block + 2 * page, page, 3);
            map(&mut *table, 4 * block + 2 * page, page, 3);
            let count = (block / page) as usize;
            map(&mut *table, 9 * block, page, count);
            unmap(&mut *table, 9 * block + 17 * page, page, 1);
            map(&mut *table, 9 * block + 17 * page, page, 1);
            let mut gather = Gather::new(&machine.tlb);
            table.collapse(Iova::new(9 * block), block, &mut gather).unwrap();
            machine.finish(gather);
            settled(&mut *table);
            // What cannot be done is undone where the walker sees it.
            machine.tlb.fails.set(true);
            let mut gather = Gather::new(&machine.tlb);
            let failed = table.unmap_pages(Iova::new(9 * block), page, 1, &mut gather);
            assert_eq!(failed.is_err(), config.split == SplitPolicy::BreakBeforeMake);
            machine.tlb.fails.set(false);
            machine.finish(gather);
            settled(&mut *table);
        }
        if config.quirks.contains(Quirks::HD) {
            let mut gather = Gather::new(&machine.tlb);
            let mut count = 0;
            let mut record = |_, _| count += 1;
            let start = Iova::new(block);
            table.read_and_clear_dirty(start, 8 * block, &mut gather, &mut record).unwrap();
            machine.finish(gather);
            assert!(count > 3);
            settled(&mut *table);
        }
        // Whole tables, and all that is left.
        map(&mut *table, 16 * block, page, (block / page) as usize * 2);
        unmap(&mut *table, 16 * block, page, (block / page) as usize * 2);
        let mut gather = Gather::new(&machine.tlb);
        table.unmap_range(Iova::new(0), 32 * block, &mut gather).unwrap();
        machine.finish(gather);
        settled(&mut *table);
        machine.free(table);
    });
    seen.cleans.get()
}

fn configurations() -> Vec<Config> {
    let mut all = Vec::new();
    for split in [SplitPolicy::Refuse, SplitPolicy::BreakBeforeMake, SplitPolicy::InPlace] {
        let s1 = Config { split, ..config(FormatId::Arm64LpaeS1, SIZES_4K, 40, 44) };
        let s2 = Config { split, ..config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44) };
        let v7s = Config { split, ..Config::new(FormatId::ArmV7s) };
        all.extend([s1, Config { quirks: Quirks::HD, ..s1 }, s2]);
        all.extend([Config { contiguous: true, ..s2 }, v7s]);
    }
    all
}

#[test]
#[cfg_attr(miri, ignore = "looks at all memory after every step")]
fn what_does_not_snoop_sees_every_change() {
    for config in configurations() {
        assert!(everything(&Config { coherent_walk: false, ..config }) > 20, "{config:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "looks at all memory after every step")]
fn what_snoops_needs_no_cleaning() {
    for config in configurations() {
        assert_eq!(everything(&config), 0, "{config:?}");
    }
}
