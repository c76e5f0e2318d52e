//! What a failure leaves behind: nothing.
//!
//! 1. Memory that runs out at the k-th table, for every k: the request fails with
//!    ENOMEM, no live entry has changed at any instant, and the footprint is as before.
//! 2. An invalidation that fails while a block is split: the block stays.
//! 3. A refused request (overlap anywhere in the range, bad range) changes nothing.
//! 4. A corrupted entry is an error, never foreign memory.

use std::cell::RefCell;
use std::panic::Location;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::metered::Metered;
use crate::common::{Machine, config, few, granules, sizes};
use palisade_hal::fake::{Barrier, Observer, Op, observe};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Owner, TableMemory, Use};
use palisade_pgtable::{
    Config, Error, FormatId, Gather, PageTable, Prot, SIZES_4K, SplitPolicy, alloc,
};

/// Every word of every table, in order of addresses.
fn image(machine: &Machine) -> Vec<(u64, u64)> {
    let mut words = Vec::new();
    let map = machine.frames.map();
    let mut at = map.start();
    while at < map.end() {
        if let Some(frame) = machine.frames.words(at, 512, Use::Table, Owner::vm(1)) {
            for (nth, word) in frame.iter().enumerate() {
                let value = word.load(Ordering::Relaxed);
                if value != 0 {
                    words.push((at.get() + nth as u64 * 8, value));
                }
            }
        }
        at = PhysAddr::new(at.get() + 4096);
    }
    words
}

/// Calls `request` with ever more tables until it succeeds; answers how many it took.
fn for_every_k(
    machine: &Machine,
    config: &Config,
    prepare: impl Fn(&mut dyn PageTable),
    request: impl Fn(&mut dyn PageTable) -> Result<(), Error>,
) -> usize {
    for k in 0.. {
        let memory = Metered::new(machine, usize::MAX);
        let mut table = alloc(config, memory.clone()).unwrap();
        prepare(&mut *table);
        let (before, footprint) = (image(machine), machine.frames.footprint());
        memory.leave(k);
        let result = request(&mut *table);
        if result.is_err() {
            assert!(matches!(result, Err(Error::NoMemory(_))), "{result:?}");
            assert_eq!(image(machine), before, "after failing at table {k}");
            assert_eq!(machine.frames.footprint(), footprint, "after failing at table {k}");
        } else {
            // As many as were asked for are in use.
            let frames = sizes(table.config())[0] >> 12;
            assert_eq!(machine.tables(), footprint.table + k as u64 * frames);
        }
        machine.free(table);
        assert_eq!(machine.tables(), 0);
        if result.is_ok() {
            return k;
        }
    }
    unreachable!()
}

#[test]
#[cfg_attr(miri, ignore = "looks at all memory after every step")]
fn memory_runs_out_at_every_table() {
    let machine = Machine::new(if cfg!(miri) { 128 } else { 2048 });
    let at = |iova, pa| (Iova::new(iova), PhysAddr::new(pa));
    for &granule in granules() {
        for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
            let config = config(format, granule, 48, 48);
            let page = sizes(&config)[0];
            let span = page * (page / 8);
            let neighbour = |table: &mut dyn PageTable| {
                let (iova, pa) = at(span * 5, 0);
                table.map_pages(iova, pa, page, 1, Prot::READ).unwrap();
            };
            // One page; pages across three tables, the middle one there already; mixed sizes.
            let one = for_every_k(&machine, &config, neighbour, |table| {
                let (iova, pa) = at(1 << 46, 0);
                table.map_pages(iova, pa, page, 1, Prot::READ)
            });
            assert!(one >= 2);
            let (iova, pa) = at(span * 4 + page, page);
            let across = for_every_k(&machine, &config, neighbour, |table| {
                table.map_pages(iova, pa, page, 20, Prot::READ)
            });
            assert_eq!(across, 1);
            let long = for_every_k(
                &machine,
                &config,
                |_| {},
                |table| {
                    let pages = (span / page) as usize + 2;
                    table.map_pages(
                        Iova::new(span * 5 - page),
                        PhysAddr::new(0),
                        page,
                        pages,
                        Prot::READ,
                    )
                },
            );
            assert!(long >= 4, "{long}");
            for_every_k(&machine, &config, neighbour, |table| {
                let (iova, pa) = at(span * 6 - page, (1 << 40) - page);
                table.map_range(iova, pa, span * 2 + page * 2, Prot::READ)
            });
        }
    }
    let mut v7s = Config::new(FormatId::ArmV7s);
    v7s.ias = 32;
    let tables = for_every_k(
        &machine,
        &v7s,
        |_| {},
        |table| {
            table.map_range(Iova::new(0xf_f000), PhysAddr::new(0xf_f000), 0x20_2000, Prot::READ)
        },
    );
    assert_eq!(tables, 2);
}

#[test]
#[cfg_attr(miri, ignore = "looks at all memory after every step")]
fn memory_runs_out_while_splitting() {
    let machine = Machine::new(64);
    let mut config = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44);
    config.split = SplitPolicy::BreakBeforeMake;
    // Of two blocks of 1 GiB: where, how much, and how many tables that takes.
    const PAGE: u64 = 1 << 12;
    const BLOCK: u64 = 1 << 21;
    const GIB: u64 = 1 << 30;
    let rows = [
        (PAGE, GIB + PAGE, 4),
        (0, PAGE, 2),
        (PAGE, PAGE, 2),
        (GIB - PAGE, PAGE, 2),
        (BLOCK, PAGE, 2),
        (5 * BLOCK + PAGE, 2 * PAGE, 2),
        (5 * BLOCK, BLOCK - PAGE, 2),
        (BLOCK - PAGE, 2 * PAGE, 3),
        (BLOCK - PAGE, BLOCK + 2 * PAGE, 3),
        (BLOCK, BLOCK, 1),
        (0, BLOCK, 1),
        (GIB - BLOCK, BLOCK, 1),
        (0, BLOCK + PAGE, 2),
        (BLOCK, 2 * BLOCK + PAGE, 2),
        (BLOCK - PAGE, BLOCK + PAGE, 2),
        (GIB - PAGE, PAGE, 2),
        (GIB - PAGE, 2 * PAGE, 4),
        (GIB - PAGE, GIB + PAGE, 2),
        (GIB - BLOCK, 2 * BLOCK, 2),
        (5 * BLOCK, GIB, 2),
        (0, GIB + PAGE, 2),
        (0, GIB + BLOCK, 1),
        (0, GIB, 0),
        (0, 2 * GIB, 0),
        (GIB, GIB, 0),
    ];
    for (first, size, wanted) in rows {
        let tables = for_every_k(
            &machine,
            &config,
            |table| {
                let (iova, pa) = (Iova::new(0), PhysAddr::new(0));
                table.map_pages(iova, pa, GIB, 2, Prot::MEMORY).unwrap();
                // One elsewhere, so that no table becomes empty.
                let (iova, pa) = (Iova::new(3 * GIB), PhysAddr::new(0));
                table.map_pages(iova, pa, GIB, 1, Prot::MEMORY).unwrap();
            },
            |table| {
                let mut gather = Gather::new(&machine.tlb);
                let done = table.unmap_range(Iova::new(first), size, &mut gather);
                machine.finish(gather);
                done.map(|_| ())
            },
        );
        assert_eq!(tables, wanted, "{first:#x} {size:#x}");
    }
}

#[test]
fn a_failed_invalidation_leaves_the_block() {
    for split in [SplitPolicy::BreakBeforeMake] {
        let machine = Machine::new(512);
        let mut config = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44);
        config.split = split;
        for contiguous in [false, true] {
            config.contiguous = contiguous;
            let mut table = machine.alloc(&config).unwrap();
            let (iova, pa) = (Iova::new(0x4000_0000), PhysAddr::new(0x8000_0000));
            let size = if contiguous { 0x1_0000 } else { 0x20_0000 };
            table.map_range(iova, pa, size, Prot::MEMORY).unwrap();
            let (before, footprint) = (image(&machine), machine.frames.footprint());
            machine.tlb.fails.set(true);
            let mut gather = Gather::new(&machine.tlb);
            let failed = table.unmap_pages(iova, 4096, 1, &mut gather);
            assert!(matches!(failed, Err(Error::Tlb(_))), "{failed:?}");
            assert!(gather.is_empty());
            machine.tlb.fails.set(false);
            assert_eq!(image(&machine), before);
            assert_eq!(machine.frames.footprint(), footprint);
            machine.free(table);
        }
    }
}

#[test]
fn an_overlap_anywhere_changes_nothing() {
    let machine = Machine::new(if cfg!(miri) { 128 } else { 2048 });
    let config = Config::new(FormatId::Arm64LpaeS2);
    let mut table = machine.alloc(&config).unwrap();
    let prot = Prot::MEMORY;
    for taken in few([0u64, 1, 511, 512, 1000, 1535]) {
        let (iova, pa) = (Iova::new(taken << 12), PhysAddr::new(0x9000_0000));
        table.map_pages(iova, pa, 4096, 1, prot).unwrap();
        let (before, footprint) = (image(&machine), machine.frames.footprint());
        let result = table.map_pages(Iova::new(0), PhysAddr::new(0), 4096, 1536, prot);
        assert_eq!(result, Err(Error::Exists(iova)));
        let blocks = table.map_pages(Iova::new(0), PhysAddr::new(0), 1 << 21, 3, prot);
        assert!(matches!(blocks, Err(Error::Exists(_))));
        let best = table.map_range(Iova::new(0), PhysAddr::new(0), 1536 << 12, prot);
        assert!(matches!(best, Err(Error::Exists(_))));
        assert_eq!(image(&machine), before);
        assert_eq!(machine.frames.footprint(), footprint);
        machine.unmap(&mut *table, taken << 12, 4096, 1);
    }
    machine.free(table);
}

#[test]
fn bad_requests_are_typed() {
    let machine = Machine::new(512);
    let mut table = machine.alloc(&config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 40)).unwrap();
    let mut map = |iova: u64, pa: u64, size, count, prot| {
        let (iova, pa) = (Iova::new(iova), PhysAddr::new(pa));
        table.map_pages(iova, pa, size, count, prot).map_err(Error::errno)
    };
    let prot = Prot::READ;
    for size in [0, 1, 0x800, 0x3000, 0x4000, 1 << 39, 1 << 63, 0x20_1000] {
        assert_eq!(map(0, 0, size, 1, prot), Err(-22), "{size:#x}");
    }
    assert_eq!(map(0, 0, 4096, 0, prot), Err(-22));
    assert_eq!(map(0x800, 0, 4096, 1, prot), Err(-22));
    assert_eq!(map(0, 0x800, 4096, 1, prot), Err(-22));
    assert_eq!(map(0x1000, 0, 1 << 21, 1, prot), Err(-22));
    assert_eq!(map(0, 0, 4096, 1, Prot::CACHE | Prot::EXEC), Err(-22));
    assert_eq!(map(1 << 40, 0, 4096, 1, prot), Err(-34));
    assert_eq!(map((1 << 40) - 4096, 0, 4096, 2, prot), Err(-34));
    assert_eq!(map(0, (1 << 40) - 4096, 4096, 2, prot), Err(-34));
    assert_eq!(map(0, 1 << 40, 4096, 1, prot), Err(-34));
    assert_eq!(map(!0xfff, 0, 4096, 1, prot), Err(-34));
    assert_eq!(map(0, !0xfff, 4096, 2, prot), Err(-34));
    assert_eq!(map(0x1000, 0, 4096, usize::MAX, prot), Err(-34));
    assert_eq!(map(0x1000, 0, 4096, 1 << 52, prot), Err(-34));
    assert_eq!(map((1 << 40) - 4096, (1 << 40) - 4096, 4096, 1, prot), Ok(()));
    let mut gather = Gather::new(&machine.tlb);
    let mut unmap = |iova, size, count| {
        table.unmap_pages(Iova::new(iova), size, count, &mut gather).map_err(Error::errno)
    };
    assert_eq!(unmap(0, 0x3000, 1), Err(-22));
    assert_eq!(unmap(0x10, 4096, 1), Err(-22));
    assert_eq!(unmap(0, 4096, 0), Err(-22));
    assert_eq!(unmap((1 << 40) - 4096, 4096, 2), Err(-34));
    assert_eq!(unmap(!0xfff, 4096, 1), Err(-34));
    assert_eq!(unmap(0, 4096, 1), Ok(0));
    assert!(gather.is_empty(), "nothing unmapped, nothing to invalidate");
    machine.free(table);
}

#[test]
fn a_corrupted_entry_is_an_error() {
    let machine = Machine::new(512);
    let mut table = machine.alloc(&Config::new(FormatId::Arm64LpaeS2)).unwrap();
    let (iova, pa) = (Iova::new(0x4000_0000), PhysAddr::new(0x8000_0000));
    table.map_pages(iova, pa, 4096, 1, Prot::MEMORY).unwrap();
    let (_, index, link) = table.walk(iova).steps[1].unwrap();
    let above = table.walk(iova).steps[0].unwrap().2 & !3;
    let words = machine.memory.table::<[AtomicU64; 512]>(PhysAddr::new(above)).unwrap();
    let entry = &words.words()[index];
    // Somebody else's frame, no frame at all, beyond the machine, a type that is none.
    let foreign = machine.frames.alloc_zeroed(0, Use::Guest, Owner::vm(1)).unwrap();
    for bad in [foreign.start().get() | 3, 0x1003, 0xffff_ffff_f003, link ^ 1, link + (64 << 12)] {
        entry.store(bad, Ordering::Relaxed);
        // An address next to it, which the walk cache has never seen.
        let near = Iova::new(iova.get() + 0x20_0000);
        assert_eq!(table.iova_to_phys(near), None);
        assert!(table.walk(near).corrupt, "{bad:#x}");
        let map = table.map_pages(near, pa, 4096, 1, Prot::READ);
        assert!(matches!(map, Err(Error::Corrupt { .. })), "{bad:#x}: {map:?}");
        let mut gather = Gather::new(&machine.tlb);
        let unmap = table.unmap_pages(near, 4096, 1, &mut gather);
        assert!(matches!(unmap, Err(Error::Corrupt { .. })), "{bad:#x}: {unmap:?}");
        assert!(gather.is_empty());
    }
    entry.store(link, Ordering::Relaxed);
    machine.free(table);
}

#[test]
#[cfg_attr(miri, ignore = "looks at all memory after every step")]
fn contents_before_pointer_and_one_barrier() {
    let machine = Rc::new(Machine::new(if cfg!(miri) { 128 } else { 2048 }));
    /// What a walker could see at a barrier: addresses and where they lead.
    type Seen = (Barrier, Vec<(u64, u64)>);
    struct Watch(Rc<Machine>, RefCell<Vec<Seen>>);
    impl Observer for Watch {
        fn observe(&self, op: Op, _: &'static Location<'static>) {
            if let Op::Barrier(barrier) = op {
                self.1.borrow_mut().push((barrier, image(&self.0)));
            }
        }
    }
    let mut table = machine.alloc(&Config::new(FormatId::Arm64LpaeS2)).unwrap();
    let watch = Rc::new(Watch(machine.clone(), RefCell::default()));
    observe(watch.clone(), || {
        let (iova, pa) = (Iova::new(0x3fff_f000), PhysAddr::new(0x8000_0000));
        table.map_pages(iova, pa, 4096, 2 + 512 * 3, Prot::MEMORY).unwrap();
    });
    let seen = watch.1.borrow();
    let dsb = seen.iter().filter(|(barrier, _)| *barrier != Barrier::Publish).count();
    assert_eq!(dsb, 1, "one barrier for a request of any size");
    assert_eq!(seen.last().unwrap().0, Barrier::DsbIshst, "at its end");
    // Every table pointer became visible by a publishing store, one at a time: between
    // two of them no other live entry of a linked table changed but leaves.
    let last = &seen.last().unwrap().1;
    for (_, image) in seen.iter() {
        for &(at, word) in image.iter().filter(|(_, word)| word & 0x7ff == 3) {
            // A pointer once seen is final, and so is all that it points to.
            assert!(last.contains(&(at, word)));
            let child = word & !0xfff;
            let inside =
                |image: &[(u64, u64)]| image.iter().filter(|(at, _)| at & !0xfff == child).count();
            assert!(inside(image) > 0, "a pointer to a table without contents");
        }
    }
    drop(seen);
    machine.free(table);
}
