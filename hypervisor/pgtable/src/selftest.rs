//! The battery: the same checks for every format at every level. It gates
//! registration on the machine (at most 64 frames at a time, all given back), and
//! is the core of the host's test matrix.

use core::fmt;

use palisade_hal::{Iova, PhysAddr, pmu};
use palisade_mem::TableMemory;
use thiserror::Error;

use crate::config::{Config, FormatId};
use crate::error::{ConfigError, Error as TableError};
use crate::gather::{Flushed, Gather, TlbOps};
use crate::prot::Prot;
use crate::registry::FormatFns;
use crate::table::PageTable;

/// What the battery runs on.
pub struct SelfTest<'t, M> {
    /// Memory for the tables under test.
    pub memory: &'t M,
    /// Invalidates; nothing has walked these tables, but they were exposed.
    pub tlb: &'t dyn TlbOps,
    /// Gives tables back: [`palisade_mem::Frames::release`].
    pub release: &'t dyn Fn(Flushed),
}

/// What a passed battery did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Number of page sizes exercised.
    pub sizes: u32,
    /// Number of checks.
    pub checks: u32,
    /// Instructions that they took, where the CPU counts them.
    pub instructions: Option<u32>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "self-test passed, {} checks on {} page sizes, ", self.checks, self.sizes)?;
        match self.instructions {
            Some(count) => write!(f, "{count} instructions"),
            None => f.write_str("instructions not counted by this CPU"),
        }
    }
}

/// A failed check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{}: self-test: {check} at {iova}", .format.name())]
pub struct SelfTestError {
    /// Which format.
    pub format: FormatId,
    /// What did not hold.
    pub check: &'static str,
    /// For which address.
    pub iova: Iova,
}

/// Where the pages of a size are put: one stride apart.
const STRIDE: u64 = 1 << 30;

struct Battery<'b> {
    format: FormatId,
    table: &'b mut dyn PageTable,
    tlb: &'b dyn TlbOps,
    release: &'b dyn Fn(Flushed),
    report: Report,
}

impl Battery<'_> {
    fn check(&mut self, iova: u64, check: &'static str, holds: bool) -> Result<(), SelfTestError> {
        self.report.checks += 1;
        if holds {
            Ok(())
        } else {
            Err(SelfTestError { format: self.format, check, iova: Iova::new(iova) })
        }
    }

    fn translates(&self, iova: u64) -> Option<u64> {
        self.table.iova_to_phys(Iova::new(iova)).map(PhysAddr::get)
    }

    fn map(&mut self, iova: u64, pa: u64, size: u64) -> Result<(), TableError> {
        let prot = Prot::MEMORY;
        self.table.map_pages(Iova::new(iova), PhysAddr::new(pa), size, 1, prot)
    }

    fn unmap(&mut self, iova: u64, size: u64) -> Result<bool, SelfTestError> {
        let mut gather = Gather::new(self.tlb);
        let done = self.table.unmap_pages(Iova::new(iova), size, 1, &mut gather);
        match gather.finish() {
            Ok(Some(flushed)) => (self.release)(flushed),
            Ok(None) => {}
            Err(_) => self.check(iova, "the invalidation completes", false)?,
        }
        Ok(done == Ok(size))
    }

    /// Everything about one page of `size` bytes at `iova`.
    fn page(&mut self, iova: u64, pa: u64, size: u64) -> Result<(), SelfTestError> {
        let mapped = self.map(iova, pa, size).is_ok();
        self.check(iova, "a page maps", mapped)?;
        let hit = self.translates(iova + 42) == Some(pa + 42);
        self.check(iova, "an offset translates", hit)?;
        let last = self.translates(iova + (size - 1)) == Some(pa + (size - 1));
        self.check(iova, "the last byte translates", last)?;
        let again = self.map(iova, pa ^ size, size);
        self.check(
            iova,
            "an overlap is refused",
            again == Err(TableError::Exists(Iova::new(iova))),
        )?;
        let stays = self.translates(iova + 42) == Some(pa + 42);
        self.check(iova, "the first mapping stays", stays)?;
        let unmapped = self.unmap(iova, size)?;
        self.check(iova, "unmapping answers the size", unmapped)?;
        let gone = self.translates(iova + 42).is_none();
        self.check(iova, "it is gone", gone)
    }

    fn run(mut self) -> Result<Report, SelfTestError> {
        let config = *self.table.config();
        let top = 1u64 << config.ias;
        for iova in [0, 42, STRIDE + 42, top - 1] {
            let empty = self.translates(iova).is_none();
            self.check(iova, "an empty table translates nothing", empty)?;
        }
        let beyond = self.map(top, 0, config.pgsize_bitmap & config.pgsize_bitmap.wrapping_neg());
        let refused = beyond == Err(TableError::InputRange(Iova::new(top)));
        self.check(top, "a range beyond the end is refused", refused)?;
        let sizes = config.pgsize_bitmap;
        let fitting = |size: &u64| sizes & size != 0 && *size <= top && *size >> config.oas == 0;
        let (mut stride, mut largest) = (0, 0);
        for size in (0..u64::BITS).map(|bit| 1u64 << bit).filter(fitting) {
            self.report.sizes += 1;
            let iova = if stride + size <= top && stride & (size - 1) == 0 { stride } else { 0 };
            self.page(iova, iova & ((1 << config.oas) - 1), size)?;
            stride += STRIDE.max(size);
            largest = size;
        }
        // The last page of the address space: the far corner of concatenated roots.
        self.page(top - largest, 0, largest)?;
        Ok(self.report)
    }
}

impl<M: TableMemory + Clone + 'static> SelfTest<'_, M> {
    /// Runs the battery on a format: its smallest granule, the largest table of it.
    ///
    /// # Errors
    /// The first check that failed.
    pub(crate) fn run(&self, fns: &FormatFns<M>) -> Result<Report, SelfTestError> {
        let config = Config::new(fns.format());
        let run = || self.run_on(&config, |config, memory| fns.build(config, memory, None));
        let (result, instructions) = pmu::retired(run);
        result.map(|report| Report { instructions, ..report })
    }

    /// Runs the battery on a table of this configuration.
    ///
    /// # Errors
    /// The first check that failed; the table is given back all the same.
    pub fn run_on(
        &self,
        config: &Config,
        alloc: impl FnOnce(&Config, M) -> Result<alloc::boxed::Box<dyn PageTable>, ConfigError>,
    ) -> Result<Report, SelfTestError> {
        let format = config.format;
        let fail = |check| SelfTestError { format, check, iova: Iova::new(0) };
        let mut table =
            alloc(config, self.memory.clone()).map_err(|_| fail("a table is allocated"))?;
        let battery = Battery {
            format,
            table: &mut *table,
            tlb: self.tlb,
            release: self.release,
            report: Report::default(),
        };
        let result = battery.run();
        let mut gather = Gather::new(self.tlb);
        table.free(&mut gather);
        match gather.finish() {
            Ok(Some(flushed)) => (self.release)(flushed),
            Ok(None) => {}
            Err(_) => return Err(fail("the invalidation completes")),
        }
        result
    }
}
