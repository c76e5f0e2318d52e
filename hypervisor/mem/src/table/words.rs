//! The words of one table, and the count of its live entries.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::Tag;

mod sealed {
    pub trait Sealed {
        /// Which size it is, for the tag of the first frame: 1, 2 or 3.
        const CLASS: u64;
    }
}
pub(super) use sealed::Sealed;

/// The words of a table: 512 (4 KiB), 2048 (16 KiB) or 8192 (64 KiB) of them.
pub trait Words: Sealed + 'static {
    /// Number of 64-bit words.
    const COUNT: usize;
    /// Size in bytes, which is also the alignment.
    const BYTES: u64 = (Self::COUNT * 8) as u64;

    /// All words, in order.
    fn words(&self) -> &[AtomicU64];
}

macro_rules! words {
    ($($count:literal $class:literal)*) => {$(
        impl Sealed for [AtomicU64; $count] {
            const CLASS: u64 = $class;
        }
        impl Words for [AtomicU64; $count] {
            const COUNT: usize = $count;

            #[inline(always)]
            fn words(&self) -> &[AtomicU64] {
                self
            }
        }
    )*};
}
words!(512 1 2048 2 8192 3);

/// A live table: its words, and the tag of its first frame.
pub struct Table<'a, W> {
    words: &'a W,
    tag: &'a AtomicU64,
}

impl<W> Clone for Table<'_, W> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Table<'_, W> {}

impl<'a, W: Words> Table<'a, W> {
    /// A table whose tag was compared by the memory that hands it out.
    #[inline(always)]
    pub(super) fn new(words: &'a W, tag: &'a AtomicU64) -> Self {
        Self { words, tag }
    }

    /// The words.
    #[inline(always)]
    pub fn words(self) -> &'a [AtomicU64] {
        self.words.words()
    }

    /// How many entries are in use.
    #[inline(always)]
    pub fn live(self) -> usize {
        (self.tag.load(Ordering::Relaxed) >> Tag::COUNT_SHIFT) as usize
    }

    /// Counts `entries` more in use. The domain's lock makes this one writer.
    #[inline(always)]
    pub fn add_live(self, entries: usize) {
        let tag = self.tag.load(Ordering::Relaxed);
        self.tag.store(tag.wrapping_add((entries as u64) << Tag::COUNT_SHIFT), Ordering::Relaxed);
    }

    /// Counts `entries` fewer in use and answers how many are left.
    #[inline(always)]
    pub fn sub_live(self, entries: usize) -> usize {
        let tag = self.tag.load(Ordering::Relaxed);
        let tag = tag.wrapping_sub((entries as u64) << Tag::COUNT_SHIFT);
        self.tag.store(tag, Ordering::Relaxed);
        (tag >> Tag::COUNT_SHIFT) as usize
    }

    /// Notes that the table is about to be linked where a walker can see it:
    /// from now on it comes back against a proof only.
    #[inline(always)]
    pub fn expose(self) {
        let tag = self.tag.load(Ordering::Relaxed);
        self.tag.store(tag | Tag::EXPOSED, Ordering::Relaxed);
    }
}
