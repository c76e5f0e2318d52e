//! Mapping. First everything that can fail (ranges, overlaps, memory), then the
//! stores: leaves into live tables, new tables filled before they are linked by
//! a store with release, one barrier at the end.

use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{Table, TableMemory};

use crate::error::Error;
use crate::format::{Entry, Format, first_used};
use crate::prot::Prot;
use crate::reserve::Reserve;
use crate::space::Space;
use crate::walk::Stop;

/// Leaves of one level that lie in one table.
#[derive(Clone, Copy)]
struct Chunk {
    va: u64,
    pa: u64,
    entries: usize,
    attributes: u64,
    run: bool,
}

/// A stretch of equal pages.
#[derive(Clone, Copy)]
struct Piece {
    va: u64,
    pa: u64,
    level: i8,
    run: bool,
    pages: u64,
}

/// The chunk before, for counting each missing table once.
#[derive(Clone, Copy)]
struct Before {
    va: u64,
    level: i8,
}

/// Calls a method for a level known at run time.
macro_rules! at_level {
    ($self:ident.$method:ident($level:expr; $($arg:expr),*)) => {
        match $level {
            3 if F::LAST == 3 => $self.$method::<3>($($arg),*),
            2 => $self.$method::<2>($($arg),*),
            1 => $self.$method::<1>($($arg),*),
            _ => $self.$method::<0>($($arg),*),
        }
    };
}

impl<F: Format, M: TableMemory> Space<F, M> {
    /// Maps one page of the last level, without runs.
    #[inline(always)]
    pub(crate) fn map_page(&self, iova: Iova, pa: PhysAddr, prot: Prot) -> Result<(), Error> {
        let va = iova.get() ^ self.base;
        let attributes = self.format.attributes(prot, F::LAST, false);
        // The walk cache holds only addresses that are in range.
        if pa.get() <= self.out_mask
            && attributes != 0
            && (va | pa.get()) & ((1 << F::shift(F::LAST)) - 1) == 0
            && let Some(table) = self.cached_last(va)
        {
            let index = Self::index(F::LAST, va);
            if F::load(table.words(), index) != 0 {
                return Err(Error::Exists(iova));
            }
            F::store(table.words(), index, self.format.leaf(attributes, pa.get()));
            table.add_live(1);
            self.clean(table, index, 1);
            self.sync();
            return Ok(());
        }
        self.map_page_by_walk(iova, pa, prot)
    }

    #[inline(never)]
    fn map_page_by_walk(&self, iova: Iova, pa: PhysAddr, prot: Prot) -> Result<(), Error> {
        match F::LAST {
            3 => self.map_at::<3>(iova, pa, 1, prot, false),
            _ => self.map_at::<2>(iova, pa, 1, prot, false),
        }
    }

    /// Maps pages of the last level, without runs, in a table that the walk cache
    /// knows; `None` for the general way, which also names what is wrong.
    #[inline(always)]
    pub(crate) fn map_known(
        &self,
        iova: Iova,
        pa: PhysAddr,
        count: usize,
        prot: Prot,
    ) -> Option<Result<(), Error>> {
        let va = iova.get() ^ self.base;
        let shift = F::shift(F::LAST);
        let attributes = self.format.attributes(prot, F::LAST, false);
        if attributes == 0 || (va | pa.get()) & ((1 << shift) - 1) != 0 {
            return None;
        }
        // The walk cache holds only addresses that are in range.
        let table = self.cached_last(va)?;
        let index = Self::index(F::LAST, va);
        // At least one, and all in one table: no sum below overflows but the last.
        let words = table.words().get(index..)?.get(..count)?;
        let last = pa.get().wrapping_add(((count as u64) << shift).wrapping_sub(1));
        if count == 0 || pa.get() | last > self.out_mask {
            return None;
        }
        if let Some(used) = first_used(words) {
            return Some(Err(Error::Exists(self.iova(va + ((used as u64) << shift)))));
        }
        self.format.fill_words(words, attributes, pa.get(), shift);
        table.add_live(count);
        self.clean(table, index, count);
        self.sync();
        Some(Ok(()))
    }

    /// Remembers the table of the last level for `va`, if there is one.
    pub(crate) fn remember_table(&self, va: u64) {
        if self.start < F::LAST
            && let Some(above) = self.table_at(va, F::LAST - 1)
        {
            let word = F::load(above.words(), Self::index(F::LAST - 1, va));
            if self.next(word).is_some() {
                self.remember(va, self.format.linked(word), true);
            }
        }
    }

    /// Maps `count` pages of level `T` (or runs of them).
    #[inline(always)]
    pub(crate) fn map_at<const T: i8>(
        &self,
        iova: Iova,
        pa: PhysAddr,
        count: usize,
        prot: Prot,
        run: bool,
    ) -> Result<(), Error> {
        let shift = F::shift(T) + if run { F::run(T) } else { 0 };
        if count == 0 {
            return Err(Error::PageSize(0));
        }
        if count as u64 - 1 > self.mask >> shift {
            return Err(Error::InputRange(iova));
        }
        let bytes = (count as u64) << shift;
        let va = self.input(iova, bytes)?;
        if pa.get() > self.out_mask || bytes - 1 > self.out_mask - pa.get() {
            return Err(Error::OutputRange(pa));
        }
        if (va | pa.get()) & ((1 << shift) - 1) != 0 {
            return Err(Error::Unaligned(iova));
        }
        let attributes = self.format.attributes(prot, T, run);
        if attributes == 0 {
            return Err(Error::NoPermission(iova));
        }
        let entries = count << if run { F::run(T) } else { 0 };
        let chunk = Chunk { va, pa: pa.get(), entries, attributes, run };
        let index = Self::index(T, va);
        if index + entries > Self::entries(T) {
            let piece = Piece { va, pa: pa.get(), level: T, run, pages: count as u64 };
            return self.map_pieces(|each| each(piece), prot);
        }
        self.map_chunk::<T>(chunk)
    }

    /// Maps a chunk whose table the walk cache does not know.
    #[inline(never)]
    fn map_chunk<const T: i8>(&self, chunk: Chunk) -> Result<(), Error> {
        match self.descend::<T>(chunk.va) {
            Ok(reached) => {
                self.check_free::<T>(reached.table, chunk)?;
                self.fill::<T>(reached.table, chunk);
            }
            Err(stop) => self.map_below::<T>(&stop, chunk)?,
        }
        if T == F::LAST {
            self.remember_table(chunk.va);
        }
        self.sync();
        Ok(())
    }

    /// Refuses a chunk in which anything is mapped. A table with nothing live
    /// needs no look.
    #[inline(always)]
    fn check_free<const T: i8>(
        &self,
        table: Table<'_, F::Words>,
        chunk: Chunk,
    ) -> Result<(), Error> {
        if table.live() == 0 {
            return Ok(());
        }
        let index = Self::index(T, chunk.va);
        match F::first_used(table.words(), index, chunk.entries) {
            None => Ok(()),
            Some(used) => {
                let va = chunk.va + ((used - index) as u64) * (1 << F::shift(T));
                Err(Error::Exists(self.iova(va)))
            }
        }
    }

    /// Writes the leaves of a chunk into a table.
    #[inline(always)]
    fn fill<const T: i8>(&self, table: Table<'_, F::Words>, chunk: Chunk) {
        let index = Self::index(T, chunk.va);
        if self.runs {
            self.fill_runs::<T>(table, chunk);
        } else {
            let shift = F::shift(T);
            self.format.fill(
                table.words(),
                index,
                chunk.entries,
                chunk.attributes,
                chunk.pa,
                shift,
            );
        }
        table.add_live(chunk.entries);
        self.clean(table, index, chunk.entries);
    }

    /// The same where entries may form runs: a format's large pages, or the
    /// contiguous hint on every aligned full run.
    fn fill_runs<const T: i8>(&self, table: Table<'_, F::Words>, chunk: Chunk) {
        let (shift, run) = (F::shift(T), F::run(T));
        let first = Self::index(T, chunk.va);
        let span = 1usize << run;
        let marked = self.format.with_run(chunk.attributes, T, !F::REPEATS);
        for nth in 0..chunk.entries {
            let pa = chunk.pa + ((nth as u64) << shift);
            let word = if F::REPEATS {
                let base = if chunk.run { pa & !((1 << (shift + run)) - 1) } else { pa };
                self.format.leaf(chunk.attributes, base)
            } else {
                // A run that is whole is no larger than the address space (D8.7.1).
                let start = (first + nth) & !(span - 1);
                let whole = run > 0 && start >= first && start + span <= first + chunk.entries;
                let aligned = pa >> shift & (span as u64 - 1) == (first + nth - start) as u64;
                self.format.leaf(if whole && aligned { marked } else { chunk.attributes }, pa)
            };
            F::store(table.words(), first + nth, word);
        }
    }

    /// Maps a chunk for which tables are missing.
    #[cold]
    fn map_below<const T: i8>(&self, stop: &Stop<'_, F::Words>, chunk: Chunk) -> Result<(), Error> {
        let missing = self.missing(stop, chunk.va)?;
        let depth = (T - missing) as usize;
        let no_memory = Error::NoMemory(self.iova(chunk.va));
        let mut reserve = Reserve::new(self, depth).ok_or(no_memory)?;
        self.build::<T>(stop, chunk, &mut reserve)
    }

    /// The level of the invalid entry at which a descent stopped.
    fn missing(&self, stop: &Stop<'_, F::Words>, va: u64) -> Result<i8, Error> {
        match *stop {
            Stop::Root => Err(self.root_lost(va)),
            Stop::Entry { word: 0, level, .. } => Ok(level),
            Stop::Entry { word, level, .. } => match self.format.entry(word, level) {
                Entry::Leaf(_) => Err(Error::Exists(self.iova(va))),
                _ => Err(self.corrupt(va, level, word)),
            },
        }
    }

    /// Builds the missing tables for a chunk from the bottom up, and links the
    /// topmost last.
    fn build<const T: i8>(
        &self,
        stop: &Stop<'_, F::Words>,
        chunk: Chunk,
        reserve: &mut Reserve<'_, F, M>,
    ) -> Result<(), Error> {
        let Stop::Entry { table: above, index, level, .. } = *stop else {
            return Err(self.root_lost(chunk.va));
        };
        let lost = || self.corrupt(chunk.va, T, 0);
        let (mut child, table) = reserve.take().ok_or_else(lost)?;
        self.fill::<T>(table, chunk);
        table.expose();
        let mut at = T - 1;
        while at > level {
            let (next, table) = reserve.take().ok_or_else(lost)?;
            let index = Self::index(at, chunk.va);
            F::store(table.words(), index, self.format.link(child.get(), at));
            table.add_live(1);
            table.expose();
            self.clean(table, index, 1);
            child = next;
            at -= 1;
        }
        F::publish(above.words(), index, self.format.link(child.get(), level));
        above.add_live(1);
        self.clean(above, index, 1);
        Ok(())
    }

    /// Maps `size` bytes by the largest pages that fit.
    pub(crate) fn map_best(
        &self,
        iova: Iova,
        pa: PhysAddr,
        size: u64,
        prot: Prot,
    ) -> Result<(), Error> {
        let smallest = 1u64 << self.sizes.trailing_zeros();
        if size == 0 || size & (smallest - 1) != 0 {
            return Err(Error::PageSize(size));
        }
        let va = self.input(iova, size)?;
        if pa.get() > self.out_mask || size - 1 > self.out_mask - pa.get() {
            return Err(Error::OutputRange(pa));
        }
        if self.format.attributes(prot, F::LAST, false) == 0 {
            return Err(Error::NoPermission(iova));
        }
        self.map_pieces(
            |each| {
                let (mut va, mut pa, mut left) = (va, pa.get(), size);
                while left > 0 {
                    let piece = self.best_piece(va, pa, left)?;
                    each(piece)?;
                    let run = if piece.run { F::run(piece.level) } else { 0 };
                    let bytes = piece.pages << (F::shift(piece.level) + run);
                    (va, pa, left) = (va + bytes, pa + bytes, left - bytes);
                }
                Ok(())
            },
            prot,
        )
    }

    /// The largest page that fits at the start of a range, and how many of it
    /// before a still larger one fits.
    ///
    /// # Errors
    /// Addresses that no page is aligned to.
    fn best_piece(&self, va: u64, pa: u64, left: u64) -> Result<Piece, Error> {
        let fits = |size: u64| size <= left && (va | pa) & (size - 1) == 0;
        let sizes = self.sizes;
        let each = (0..u64::BITS).map(|bit| 1u64 << bit).filter(|size| sizes & size != 0);
        let best = each.clone().rfind(|&size| fits(size));
        let size = best.ok_or(Error::Unaligned(self.iova(va)))?;
        let mut bytes = left;
        for larger in each.filter(|&larger| larger > size) {
            // It fits later, at its next boundary, if both addresses get there together.
            let offset = larger - (va & (larger - 1));
            if (va ^ pa) & (larger - 1) == 0 && offset + larger <= left {
                bytes = bytes.min(offset);
                break;
            }
        }
        let (level, run) = self.level_of(size).ok_or(Error::PageSize(size))?;
        Ok(Piece { va, pa, level, run, pages: bytes / size })
    }

    /// Maps a sequence of pieces, all or nothing: `pieces` is called twice, once
    /// to check and count, once to write.
    fn map_pieces(
        &self,
        pieces: impl Fn(&mut dyn FnMut(Piece) -> Result<(), Error>) -> Result<(), Error>,
        prot: Prot,
    ) -> Result<(), Error> {
        let mut before: Option<Before> = None;
        let mut needed = 0;
        let mut first = 0;
        pieces(&mut |piece| {
            first = if before.is_none() { piece.va } else { first };
            self.each_chunk(piece, prot, &mut |level, chunk| {
                needed += at_level!(self.check_chunk(level; chunk, before))?;
                before = Some(Before { va: chunk.va, level });
                Ok(())
            })
        })?;
        let no_memory = Error::NoMemory(self.iova(first));
        let mut reserve = Reserve::new(self, needed).ok_or(no_memory)?;
        pieces(&mut |piece| {
            self.each_chunk(
                piece,
                prot,
                &mut |level, chunk| at_level!(self.commit_chunk(level; chunk, &mut reserve)),
            )
        })?;
        self.sync();
        Ok(())
    }

    /// Cuts a piece where tables end.
    fn each_chunk(
        &self,
        piece: Piece,
        prot: Prot,
        each: &mut dyn FnMut(i8, Chunk) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let level = piece.level;
        let attributes = self.format.attributes(prot, level, piece.run);
        let mut left = piece.pages << if piece.run { F::run(level) } else { 0 };
        let (mut va, mut pa) = (piece.va, piece.pa);
        while left > 0 {
            let room = Self::entries(level) - Self::index(level, va);
            let entries = room.min(left as usize);
            each(level, Chunk { va, pa, entries, attributes, run: piece.run })?;
            left -= entries as u64;
            let bytes = (entries as u64) << F::shift(level);
            (va, pa) = (va + bytes, pa + bytes);
        }
        Ok(())
    }

    /// Checks that a chunk is free, and counts the tables it will need that the
    /// chunk before does not.
    fn check_chunk<const T: i8>(
        &self,
        chunk: Chunk,
        before: Option<Before>,
    ) -> Result<usize, Error> {
        let stop = match self.descend::<T>(chunk.va) {
            Ok(reached) => return self.check_free::<T>(reached.table, chunk).map(|()| 0),
            Err(stop) => stop,
        };
        let missing = self.missing(&stop, chunk.va)?;
        let number = |level: i8, va: u64| va >> (F::shift(level) + F::bits(level));
        let shared = |level: i8| {
            before.is_some_and(|before| {
                level <= before.level && number(level, before.va) == number(level, chunk.va)
            })
        };
        Ok((missing + 1..=T).filter(|&level| !shared(level)).count())
    }

    /// Writes a chunk that was checked.
    fn commit_chunk<const T: i8>(
        &self,
        chunk: Chunk,
        reserve: &mut Reserve<'_, F, M>,
    ) -> Result<(), Error> {
        match self.descend::<T>(chunk.va) {
            Ok(reached) => {
                self.fill::<T>(reached.table, chunk);
                Ok(())
            }
            Err(stop) => self.build::<T>(&stop, chunk, reserve),
        }
    }
}
