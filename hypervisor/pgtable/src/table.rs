//! The one dynamic seam: a page table of whatever format.

use alloc::boxed::Box;

use palisade_hal::{Iova, PhysAddr};

use crate::config::Config;
use crate::error::Error;
use crate::gather::Gather;
use crate::prot::Prot;
use crate::regs::Registers;

/// One leaf of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// First input address.
    pub iova: Iova,
    /// First output address.
    pub pa: PhysAddr,
    /// Bytes that this entry maps.
    pub size: u64,
    /// Level of the entry, −1 to 3.
    pub level: i8,
    /// The entry itself.
    pub word: u64,
}

/// The entries that a walk meets, from the root down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walk {
    /// Level, index within its table, and word of each entry met.
    pub steps: [Option<(i8, usize, u64)>; 5],
    /// The leaf at the end, if the walk ends in one.
    pub leaf: Option<Leaf>,
    /// Whether it ended in something that is neither invalid nor a leaf nor a
    /// pointer to one of our tables.
    pub corrupt: bool,
}

/// A page table. `&mut self` is the domain's lock: one operation at a time,
/// translation included; the hardware's walker is the only reader beside it.
/// Every operation's work is bounded by its range, none waits except to split or
/// make a block with break-before-make, and none needs memory except to map and split.
///
/// A table carries its own operations: it is freed without looking anything up,
/// and what is dropped without [`free`](Self::free) stays allocated for good.
pub trait PageTable: Send + Sync {
    /// The configuration in effect: sizes as clipped to what the format has.
    fn config(&self) -> &Config;

    /// What the hardware's registers must hold.
    fn registers(&self) -> &Registers;

    /// Maps `count` pages of `pgsize` bytes from `iova` to the memory from `pa`.
    /// All or nothing, whatever the range. When it returns, the walker sees it.
    ///
    /// # Errors
    /// Bad size or alignment, nothing permitted (EINVAL); any part of either range
    /// out of bounds (ERANGE); anything mapped in the range already (EEXIST); no
    /// memory for tables (ENOMEM). Then no entry has changed.
    fn map_pages(
        &mut self,
        iova: Iova,
        pa: PhysAddr,
        pgsize: u64,
        count: usize,
        prot: Prot,
    ) -> Result<(), Error>;

    /// Maps `size` bytes by the largest pages that fit. All or nothing.
    ///
    /// # Errors
    /// As [`map_pages`](Self::map_pages); `size` and both addresses must be
    /// multiples of the smallest page.
    fn map_range(&mut self, iova: Iova, pa: PhysAddr, size: u64, prot: Prot) -> Result<(), Error>;

    /// Unmaps `count` pages of `pgsize` bytes and answers how many bytes: it stops
    /// at the first page with nothing mapped, 0 if that is the first of all. A page
    /// of `pgsize` that was mapped by smaller ones is unmapped whole. Tables
    /// that became empty go to the gather. The caller finishes the gather before it
    /// reuses anything.
    ///
    /// # Errors
    /// Bad size, alignment or range, or a block or run that would have to be split
    /// against the policy; then nothing has changed. A corrupt entry on the way: what
    /// was unmapped before it is in the gather, which is to be finished all the same.
    fn unmap_pages(
        &mut self,
        iova: Iova,
        pgsize: u64,
        count: usize,
        gather: &mut Gather<'_>,
    ) -> Result<u64, Error>;

    /// Unmaps whatever is mapped in `size` bytes, holes skipped; answers how many
    /// bytes were mapped.
    ///
    /// # Errors
    /// As [`unmap_pages`](Self::unmap_pages).
    fn unmap_range(&mut self, iova: Iova, size: u64, gather: &mut Gather<'_>)
    -> Result<u64, Error>;

    /// Makes one block of `size` bytes at `iova` of the leaves one level below, under
    /// the table's split policy: with break-before-make the range faults for the
    /// time of one invalidation. A block that is there already is left as it is. The
    /// table that held the leaves goes to the gather. Nothing else ever collapses.
    ///
    /// # Errors
    /// `size` is no block's, bad alignment or range, leaves that are missing, not
    /// contiguous or not alike ([`Error::NotUniform`]), the policy
    /// ([`Error::Refused`]), or an invalidation that did not complete; then
    /// everything is as it was.
    fn collapse(&mut self, iova: Iova, size: u64, gather: &mut Gather<'_>) -> Result<(), Error>;

    /// What `iova` translates to, if it is mapped.
    fn iova_to_phys(&self, iova: Iova) -> Option<PhysAddr>;

    /// Tells `record` of every leaf in the range that was written since it was
    /// last cleaned (address and bytes), and cleans it by one atomic operation
    /// each. Later writes are recorded only once the gather is finished.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without dirty tracking; bad ranges.
    fn read_and_clear_dirty(
        &mut self,
        iova: Iova,
        size: u64,
        gather: &mut Gather<'_>,
        record: &mut dyn FnMut(Iova, u64),
    ) -> Result<(), Error>;

    /// Every entry on the way to `iova`, for diagnosis and tests.
    fn walk(&self, iova: Iova) -> Walk;

    /// Tells `visit` of every leaf that overlaps the range, in order.
    ///
    /// # Errors
    /// A bad range, or a corrupt entry.
    fn leaves(&self, iova: Iova, size: u64, visit: &mut dyn FnMut(Leaf)) -> Result<(), Error>;

    /// Takes the table apart. It must no longer be reachable from any register or
    /// descriptor; TLBs may still hold it. All its tables go to `gather`, which
    /// will invalidate everything.
    fn free(self: Box<Self>, gather: &mut Gather<'_>);
}
