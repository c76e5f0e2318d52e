//! One address space: a format, the memory of its tables, and the limits that
//! every operation checks first.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicUsize, Ordering};

use palisade_hal::{Iova, PhysAddr, barrier, cache};
use palisade_mem::{Table, TableMemory, Words};

use crate::cache::WalkCache;
use crate::config::Config;
use crate::error::{ConfigError, Error};
use crate::format::Format;
use crate::gather::Gather;
use crate::prot::Prot;
use crate::regs::Registers;
use crate::table::{Leaf, PageTable, Walk};

/// A page table of format `F` in memory `M`.
pub(crate) struct Space<F: Format, M: TableMemory> {
    pub format: F,
    pub memory: M,
    /// First root table.
    pub root: PhysAddr,
    /// log2 of the bytes that one root table covers.
    pub root_shift: u32,
    /// Number of root tables.
    pub roots: usize,
    /// Level of the root.
    pub start: i8,
    /// Whether stores need no cleaning.
    pub coherent: bool,
    /// Whether entries may belong to runs.
    pub runs: bool,
    /// Input address bits.
    pub mask: u64,
    /// What the bits above them must be: zeroes, or ones for TTBR1.
    pub base: u64,
    /// Output address bits.
    pub out_mask: u64,
    /// Largest address of a table.
    pub table_mask: u64,
    /// Supported page sizes.
    pub sizes: u64,
    pub cache: WalkCache,
    pub config: Config,
    pub registers: Registers,
    /// Counts the tables of this format, for the registry.
    pub users: Option<&'static AtomicUsize>,
}

/// What a format's own code decides about a new space.
pub(crate) struct Shape {
    pub start: i8,
    pub roots: usize,
    pub ias: u8,
    pub oas: u8,
    pub sizes: u64,
    /// Output address bits that a table may use.
    pub table_bits: u8,
    /// The table serves the upper half.
    pub upper: bool,
}

impl<F: Format, M: TableMemory> Space<F, M> {
    /// An empty table. `registers` is told the root.
    pub fn new(
        format: F,
        memory: M,
        mut config: Config,
        shape: &Shape,
        registers: impl FnOnce(&F, PhysAddr) -> Registers,
    ) -> Result<Self, ConfigError> {
        let no_memory = ConfigError::NoMemory(config.format);
        let root = memory.alloc::<F::Words>(shape.roots).ok_or(no_memory)?;
        let bytes = F::Words::BYTES * shape.roots as u64;
        let table_mask = (1 << shape.table_bits) - 1;
        if root.get().saturating_add(bytes - 1) > table_mask {
            memory.discard(root);
            return Err(no_memory);
        }
        for nth in 0..shape.roots as u64 {
            let at = PhysAddr::new(root.get() + nth * F::Words::BYTES);
            if let Some(table) = memory.table::<F::Words>(at) {
                table.expose();
            }
        }
        let mask = (1 << shape.ias) - 1;
        config.ias = shape.ias;
        config.oas = shape.oas;
        config.pgsize_bitmap = shape.sizes;
        let registers = registers(&format, root);
        Ok(Self {
            format,
            memory,
            root,
            root_shift: F::shift(shape.start) + F::bits(shape.start),
            roots: shape.roots,
            start: shape.start,
            coherent: config.coherent_walk,
            runs: F::REPEATS || config.contiguous,
            mask,
            base: if shape.upper { !mask } else { 0 },
            out_mask: (1 << shape.oas) - 1,
            table_mask,
            sizes: shape.sizes,
            cache: WalkCache::new(),
            config,
            registers,
            users: None,
        })
    }

    /// The address within the table, if all of `bytes` (at least 1) are in range.
    #[inline(always)]
    pub(crate) fn input(&self, iova: Iova, bytes: u64) -> Result<u64, Error> {
        // With the upper bits as they must be, this leaves none of them set.
        let va = iova.get() ^ self.base;
        if va > self.mask || bytes - 1 > self.mask - va {
            return Err(Error::InputRange(iova));
        }
        Ok(va)
    }

    /// The input address of `va`.
    #[inline(always)]
    pub(crate) fn iova(&self, va: u64) -> Iova {
        Iova::new(va | self.base)
    }

    /// Level and run of a page size, if it is supported.
    #[inline(always)]
    pub(crate) fn level_of(&self, size: u64) -> Option<(i8, bool)> {
        if self.sizes & size == 0 {
            return None;
        }
        let mut level = F::LAST;
        while level >= F::TOP {
            if size == 1 << F::shift(level) {
                return Some((level, false));
            }
            if F::REPEATS && size == 1 << (F::shift(level) + F::run(level)) {
                return Some((level, true));
            }
            level -= 1;
        }
        None
    }

    /// Makes `count` words from `index` visible to a walker that does not snoop.
    #[inline(always)]
    pub(crate) fn clean(&self, table: Table<'_, F::Words>, index: usize, count: usize) {
        if !self.coherent {
            self.clean_words(table, index, count);
        }
    }

    #[cold]
    fn clean_words(&self, table: Table<'_, F::Words>, index: usize, count: usize) {
        if count == 0 {
            return;
        }
        // v7s packs two entries in a word; cleaning from the half is enough.
        let per_word = if F::REPEATS { 2 } else { 1 };
        let (first, last) = (index / per_word, (index + count).div_ceil(per_word));
        if let Some(words) = table.words().get(first..last) {
            cache::clean(words.as_ptr().cast(), size_of_val(words));
            // What was cleaned is in memory before the entry that leads to it.
            barrier::dsb_sy();
        }
    }

    /// The end of a map request: all entries are with the walker.
    #[inline(always)]
    pub(crate) fn sync(&self) {
        barrier::dsb_ishst();
    }

    /// Number of entries in a table of `level`.
    #[inline(always)]
    pub(crate) fn entries(level: i8) -> usize {
        1 << F::bits(level)
    }
}

/// The general ways, for pages of any size.
impl<F: Format, M: TableMemory> Space<F, M> {
    #[inline(never)]
    fn map_sized(
        &self,
        iova: Iova,
        pa: PhysAddr,
        pgsize: u64,
        count: usize,
        prot: Prot,
    ) -> Result<(), Error> {
        match self.level_of(pgsize) {
            Some((3, _)) if F::LAST == 3 => self.map_at::<3>(iova, pa, count, prot, false),
            Some((2, run)) => self.map_at::<2>(iova, pa, count, prot, run),
            Some((1, run)) => self.map_at::<1>(iova, pa, count, prot, run),
            Some((0, _)) if F::TOP <= 0 => self.map_at::<0>(iova, pa, count, prot, false),
            _ => Err(Error::PageSize(pgsize)),
        }
    }

    #[inline(never)]
    fn unmap_sized(
        &self,
        iova: Iova,
        pgsize: u64,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        match self.level_of(pgsize) {
            Some((3, _)) if F::LAST == 3 => self.unmap_at::<3>(iova, count, false, gather),
            Some((2, run)) => self.unmap_at::<2>(iova, count, run, gather),
            Some((1, run)) => self.unmap_at::<1>(iova, count, run, gather),
            Some((0, _)) if F::TOP <= 0 => self.unmap_at::<0>(iova, count, false, gather),
            _ => Err(Error::PageSize(pgsize)),
        }
    }
}

impl<F: Format, M: TableMemory> Drop for Space<F, M> {
    fn drop(&mut self) {
        if let Some(users) = self.users {
            users.fetch_sub(1, Ordering::Release);
        }
    }
}

impl<F: Format, M: TableMemory + 'static> PageTable for Space<F, M> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn registers(&self) -> &Registers {
        &self.registers
    }

    fn map_pages(
        &mut self,
        iova: Iova,
        pa: PhysAddr,
        pgsize: u64,
        count: usize,
        prot: Prot,
    ) -> Result<(), Error> {
        if pgsize == 1 << F::shift(F::LAST) && !self.runs {
            if count == 1 {
                return self.map_page(iova, pa, prot);
            }
            if let Some(done) = self.map_known(iova, pa, count, prot) {
                return done;
            }
        }
        self.map_sized(iova, pa, pgsize, count, prot)
    }

    fn map_range(&mut self, iova: Iova, pa: PhysAddr, size: u64, prot: Prot) -> Result<(), Error> {
        self.map_best(iova, pa, size, prot)
    }

    fn unmap_pages(
        &mut self,
        iova: Iova,
        pgsize: u64,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        if pgsize == 1 << F::shift(F::LAST) && !self.runs {
            let done = match count {
                1 => self.unmap_page(iova, gather),
                _ => self.unmap_known(iova, count, gather),
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        self.unmap_sized(iova, pgsize, count, gather)
    }

    fn unmap_range(
        &mut self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error> {
        self.unmap_all(iova, size, gather)
    }

    fn collapse(&mut self, iova: Iova, size: u64, gather: &mut Gather<'_>) -> Result<(), Error> {
        self.collapse_at(iova, size, gather)
    }

    fn iova_to_phys(&self, iova: Iova) -> Option<PhysAddr> {
        // With the upper bits as they must be, this leaves none of them set.
        self.translate(iova.get() ^ self.base)
    }

    fn read_and_clear_dirty(
        &mut self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
        record: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), Error> {
        self.harvest(iova, size, gather, record)
    }

    fn walk(&self, iova: Iova) -> Walk {
        match self.input(iova, 1) {
            Ok(va) => self.walk_to(va),
            Err(_) => Walk::default(),
        }
    }

    fn leaves(&self, iova: Iova, size: u64, visit: &mut dyn FnMut(Leaf)) -> Result<(), Error> {
        self.each_leaf(iova, size, |found, va| visit(self.leaf(va, found.level, found.word)))
    }

    fn free(self: Box<Self>, gather: &mut Gather<'_>) {
        self.take_apart(gather);
    }
}
