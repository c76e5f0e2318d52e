//! The battery itself: it finds what is wrong with a table, and says how much it looked at.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::FrameTables;
use palisade_pgtable::{
    Config, ConfigError, Error, FormatFns, FormatId, Gather, Leaf, PageTable, Prot, Registers,
    Registry, Report, SIZES_4K, SelfTest, SelfTestError, Walk, alloc,
};

use crate::common::{Machine, config};

const GIB: u64 = 1 << 30;

/// What is wrong with a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Translates this address though nothing is mapped.
    Ghost(u64),
    /// Maps what is beyond the end.
    Endless,
    /// Blames the wrong address for what is beyond the end.
    Blames,
    /// Refuses to map.
    Refuses,
    /// Translates this offset in a page to something else.
    Shifted(u64),
    /// Maps what is mapped already.
    Forgives,
    /// The second mapping replaces the first.
    Replaces,
    /// Unmaps half.
    Half,
    /// Keeps what was unmapped, if it was mapped here.
    Keeps(u64),
}

/// Input, output, size of a page.
type Page = (u64, u64, u64);
type Calls = Arc<Mutex<Vec<Page>>>;

/// A table with a fault, and what was mapped in it.
struct Faulty {
    inner: Box<dyn PageTable>,
    fault: Fault,
    calls: Calls,
    mapped: Option<Page>,
    replaced: bool,
}

impl PageTable for Faulty {
    fn config(&self) -> &Config {
        self.inner.config()
    }
    fn registers(&self) -> &Registers {
        self.inner.registers()
    }
    fn map_pages(
        &mut self,
        iova: Iova,
        pa: PhysAddr,
        size: u64,
        count: usize,
        prot: Prot,
    ) -> Result<(), Error> {
        assert_eq!((count, prot), (1, Prot::MEMORY));
        self.calls.lock().unwrap().push((iova.get(), pa.get(), size));
        let result = self.inner.map_pages(iova, pa, size, count, prot);
        match (self.fault, result) {
            (Fault::Endless, Err(Error::InputRange(_))) => Ok(()),
            (Fault::Blames, Err(Error::InputRange(at))) => {
                Err(Error::InputRange(Iova::new(at.get() + 1)))
            }
            (Fault::Refuses, Ok(())) => Err(Error::NoMemory(iova)),
            (Fault::Forgives, Err(Error::Exists(_))) => Ok(()),
            (Fault::Replaces, Err(Error::Exists(at))) => {
                self.replaced = true;
                Err(Error::Exists(at))
            }
            (_, Ok(())) => {
                self.mapped = Some((iova.get(), pa.get(), size));
                Ok(())
            }
            (_, result) => result,
        }
    }
    fn map_range(&mut self, _: Iova, _: PhysAddr, _: u64, _: Prot) -> Result<(), Error> {
        unreachable!()
    }
    fn unmap_pages(
        &mut self,
        iova: Iova,
        size: u64,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        let done = self.inner.unmap_pages(iova, size, count, gather)?;
        if self.fault != Fault::Keeps(iova.get()) {
            self.mapped = None;
        }
        Ok(if self.fault == Fault::Half { done / 2 } else { done })
    }
    fn unmap_range(&mut self, _: Iova, _: u64, _: &mut Gather<'_>) -> Result<u64, Error> {
        unreachable!()
    }
    fn collapse(&mut self, _: Iova, _: u64, _: &mut Gather<'_>) -> Result<(), Error> {
        unreachable!()
    }
    fn iova_to_phys(&self, iova: Iova) -> Option<PhysAddr> {
        let found = self.inner.iova_to_phys(iova);
        let (first, pa, _) = self.mapped.unwrap_or_default();
        let offset = iova.get().wrapping_sub(first);
        match self.fault {
            Fault::Ghost(at) if self.mapped.is_none() && iova.get() == at => Some(PhysAddr::new(0)),
            Fault::Shifted(at) if self.mapped.is_some() && offset == at => {
                found.map(|found| PhysAddr::new(found.get() + 1))
            }
            Fault::Replaces if self.replaced => found.map(|found| PhysAddr::new(found.get() ^ 64)),
            Fault::Keeps(at) if self.mapped.is_some() && at == first && offset == 42 => {
                Some(PhysAddr::new(pa + offset))
            }
            _ => found,
        }
    }
    fn read_and_clear_dirty(
        &mut self,
        _: Iova,
        _: u64,
        _: &mut Gather<'_>,
        _: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), Error> {
        unreachable!()
    }
    fn walk(&self, _: Iova) -> Walk {
        unreachable!()
    }
    fn leaves(&self, _: Iova, _: u64, _: &mut dyn FnMut(Leaf)) -> Result<(), Error> {
        unreachable!()
    }
    fn free(self: Box<Self>, gather: &mut Gather<'_>) {
        self.inner.free(gather);
    }
}

/// Runs the battery on a table with a fault; what it was told to map comes with the result.
fn run(
    machine: &Machine,
    config: &Config,
    fault: Fault,
) -> (Result<Report, SelfTestError>, Vec<Page>) {
    let test = SelfTest {
        memory: &machine.memory,
        tlb: &machine.tlb,
        release: &|flushed| machine.release(flushed),
    };
    let calls = Calls::default();
    let result = test.run_on(config, |config, memory: FrameTables| {
        let (inner, calls) = (alloc(config, memory)?, calls.clone());
        let faulty = Faulty { inner, fault, calls, mapped: None, replaced: false };
        Ok(Box::new(faulty) as Box<dyn PageTable>)
    });
    let calls = calls.lock().unwrap().clone();
    (result, calls)
}

#[test]
fn every_fault_is_found_and_named() {
    let machine = Machine::new(64);
    let config = config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 42);
    let (top, page) = (1u64 << 40, 1u64 << 12);
    let rows = [
        (Fault::Ghost(0), "an empty table translates nothing", 0),
        (Fault::Ghost(42), "an empty table translates nothing", 42),
        (Fault::Ghost(GIB + 42), "an empty table translates nothing", GIB + 42),
        (Fault::Ghost(top - 1), "an empty table translates nothing", top - 1),
        (Fault::Endless, "a range beyond the end is refused", top),
        (Fault::Blames, "a range beyond the end is refused", top),
        (Fault::Refuses, "a page maps", 0),
        (Fault::Shifted(42), "an offset translates", 0),
        (Fault::Shifted(page - 1), "the last byte translates", 0),
        (Fault::Shifted((1 << 21) - 1), "the last byte translates", GIB),
        (Fault::Shifted(GIB - 1), "the last byte translates", 2 * GIB),
        (Fault::Forgives, "an overlap is refused", 0),
        (Fault::Replaces, "the first mapping stays", 0),
        (Fault::Half, "unmapping answers the size", 0),
        (Fault::Keeps(0), "it is gone", 0),
        (Fault::Keeps(2 * GIB), "it is gone", 2 * GIB),
    ];
    for (fault, check, iova) in rows {
        let iova = Iova::new(iova);
        let wanted = SelfTestError { format: FormatId::Arm64LpaeS2, check, iova };
        assert_eq!(run(&machine, &config, fault).0, Err(wanted), "{fault:?}");
        if fault != Fault::Refuses {
            assert_eq!(machine.tables(), 0, "{fault:?}");
        }
    }
}

/// One of every size, a gigabyte apart where that fits; then the largest in the last corner.
#[test]
fn every_size_is_tried_where_it_fits() {
    let machine = Machine::new(2048);
    let tried = |config: &Config| {
        let (report, calls) = run(&machine, config, Fault::None);
        let report = report.unwrap();
        // The first is beyond the end; each page is mapped, and mapped again elsewhere.
        assert_eq!(calls[0].0, 1 << config.ias);
        let pages: Vec<_> = calls[1..]
            .chunks(2)
            .map(|twice| {
                let (iova, pa, size) = twice[0];
                assert_eq!(twice[1], (iova, pa ^ size, size));
                twice[0]
            })
            .collect();
        assert_eq!(report.checks as usize, 4 + 1 + 7 * pages.len());
        assert_eq!(report.sizes as usize, pages.len() - 1);
        assert_eq!(report.instructions, None);
        assert_eq!(machine.tables(), 0);
        pages
    };
    let (page, block) = (1u64 << 12, 1u64 << 21);
    let s2 = |ias, oas| config(FormatId::Arm64LpaeS2, SIZES_4K, ias, oas);
    let last = (1 << 40) - GIB;
    let whole = [(0, 0, page), (GIB, GIB, block), (2 * GIB, 2 * GIB, GIB), (last, 0, GIB)];
    assert_eq!(tried(&s2(40, 40)), whole);
    // Output addresses end before input addresses do.
    let short = config(FormatId::ArmMaliLpae, SIZES_4K, 40, 32);
    assert_eq!(tried(&short), whole);
    let narrow = Config { oas: 20, ..Config::new(FormatId::ArmV7s) };
    let last = (1 << 32) - (1 << 16);
    assert_eq!(tried(&narrow), [(0, 0, page), (GIB, 0, 1 << 16), (last, 0, 1 << 16)]);
    // There is one gigabyte only: all go where it begins, and the largest is all there is.
    let small = config(FormatId::ArmMaliLpae, SIZES_4K, 30, 40);
    assert_eq!(tried(&small), [(0, 0, page), (0, 0, block), (0, 0, GIB), (0, 0, GIB)]);
    let smaller = config(FormatId::ArmMaliLpae, SIZES_4K, 29, 40);
    let last = (1 << 29) - block;
    assert_eq!(tried(&smaller), [(0, 0, page), (0, 0, block), (last, 0, block)]);
    // Two: the second is the last that fits.
    let two = config(FormatId::ArmMaliLpae, 1 << 12 | 1 << 30, 31, 40);
    assert_eq!(tried(&two), [(0, 0, page), (GIB, GIB, GIB), (GIB, 0, GIB)]);
    // What is larger than the distance has its own.
    let large = config(FormatId::Arm64LpaeS1, 1 << 16 | 1 << 42, 52, 52);
    let (size, last) = (1 << 42, (1 << 52) - (1 << 42));
    assert_eq!(tried(&large), [(0, 0, 1 << 16), (0, 0, size), (last, 0, size)]);
    let wide = Config { lpa2: true, ..config(FormatId::Arm64LpaeS1, SIZES_4K | 1 << 39, 52, 52) };
    assert_eq!(tried(&wide)[2..4], [(2 * GIB, 2 * GIB, GIB), (0, 0, 1 << 39)]);
}

#[test]
fn what_it_needs_is_missing() {
    let machine = Machine::new(64);
    let config = Config::new(FormatId::Arm64LpaeS2);
    let test = SelfTest {
        memory: &machine.memory,
        tlb: &machine.tlb,
        release: &|flushed| machine.release(flushed),
    };
    let missing = test.run_on(&config, |config, _| Err(ConfigError::NoMemory(config.format)));
    assert_eq!(missing.unwrap_err().check, "a table is allocated");
    // An invalidation that fails: with the first unmap, or when the table is given back.
    let quarantined = Rc::new(Cell::new(0));
    for fails in [1, 2] {
        let released = RefCell::new(0);
        let test = SelfTest {
            memory: &machine.memory,
            tlb: &machine.tlb,
            release: &|flushed| {
                *released.borrow_mut() += 1;
                // One for each page; then the table itself.
                machine.tlb.fails.set(fails == 2 && *released.borrow() == 4);
                machine.release(flushed);
            },
        };
        machine.tlb.fails.set(fails == 1);
        let failed = test.run_on(&config, alloc).unwrap_err();
        assert_eq!(failed.check, "the invalidation completes");
        assert_eq!(
            failed.to_string(),
            "arm-64-lpae-s2: self-test: the invalidation completes at 0x0"
        );
        assert_eq!(*released.borrow(), if fails == 1 { 0 } else { 4 });
        machine.tlb.fails.set(false);
        quarantined.set(quarantined.get() + 1);
    }
}

#[test]
fn a_report_says_how_much() {
    let report = Report { sizes: 3, checks: 33, instructions: None };
    let text = "self-test passed, 33 checks on 3 page sizes, instructions not counted by this CPU";
    assert_eq!(report.to_string(), text);
    let counted = Report { instructions: Some(1234), ..report };
    assert_eq!(
        counted.to_string(),
        "self-test passed, 33 checks on 3 page sizes, 1234 instructions"
    );
}

/// What a registry makes of it: the tables that live are counted, one by one.
#[test]
fn living_tables_are_counted() {
    static STAGE2: [FormatFns<FrameTables>; 1] = FormatFns::stage2_4k();
    static LPAE64: [FormatFns<FrameTables>; 2] = FormatFns::lpae64();
    let machine = Machine::new(64);
    let config = Config::new(FormatId::Arm64LpaeS2);
    let registry: &'static Registry<FrameTables> = Box::leak(Box::default());
    assert_eq!(LPAE64[0].format(), FormatId::Arm64LpaeS1);
    for fns in [&STAGE2[0], &LPAE64[1]] {
        registry.register(fns).unwrap();
        let first = registry.alloc(&config, machine.memory.clone()).unwrap();
        let second = registry.alloc(&config, machine.memory.clone()).unwrap();
        assert_eq!(registry.tables(FormatId::Arm64LpaeS2), 2);
        assert_eq!(registry.tables(FormatId::Arm64LpaeS1), 0);
        machine.free(first);
        assert_eq!(registry.tables(FormatId::Arm64LpaeS2), 1);
        machine.free(second);
        assert_eq!(registry.tables(FormatId::Arm64LpaeS2), 0);
        registry.unregister(fns).unwrap();
    }
}
