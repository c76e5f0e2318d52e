//! aarch64-paging.

use std::ptr::NonNull;

use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{PagingAttributes, PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{Constraints, MemoryRegion, PageTable, Stage2, Translation};

use crate::pool::Pool;
use crate::work::Subject;

struct Tables(Pool);

impl<A: PagingAttributes> Translation<A> for Tables {
    fn allocate_table(&mut self) -> (NonNull<PageTable<A>>, PhysicalAddress) {
        let page = self.0.take().expect("the pool is large enough");
        let pointer = std::ptr::with_exposed_provenance_mut(page);
        (NonNull::new(pointer).expect("not null"), PhysicalAddress(page))
    }

    unsafe fn deallocate_table(&mut self, table: NonNull<PageTable<A>>) {
        self.0.give(table.as_ptr().expose_provenance());
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<A>> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(pa.0)).expect("not null")
    }
}

/// aarch64-paging's table.
pub struct Paging(Mapping<Tables, Stage2>);

impl Paging {
    /// An empty stage-2 table of four levels.
    pub fn new() -> Self {
        Self(Mapping::new(Tables(Pool::new(8192)), 0, Stage2))
    }

    fn set(&mut self, iova: u64, pa: u64, bytes: u64, attributes: Stage2Attributes, size: u64) {
        let region = MemoryRegion::new(iova as usize, (iova + bytes) as usize);
        let mut constraints = Constraints::NO_CONTIGUOUS_HINT;
        if size == 4096 {
            constraints |= Constraints::NO_BLOCK_MAPPINGS;
        }
        let done = self.0.map_range(&region, PhysicalAddress(pa as usize), attributes, constraints);
        assert!(done.is_ok());
    }
}

impl Subject for Paging {
    #[inline(never)]
    fn map(&mut self, iova: u64, pa: u64, size: u64, count: usize) {
        let attributes = Stage2Attributes::VALID
            | Stage2Attributes::MEMATTR_NORMAL_OUTER_WB
            | Stage2Attributes::MEMATTR_NORMAL_INNER_WB
            | Stage2Attributes::S2AP_ACCESS_RW
            | Stage2Attributes::SH_INNER
            | Stage2Attributes::ACCESS_FLAG;
        self.set(iova, pa, size * count as u64, attributes, size);
    }

    #[inline(never)]
    fn unmap(&mut self, iova: u64, size: u64, count: usize) {
        // Blocks are allowed, so that whole tables can go at once.
        let _ = size;
        self.set(iova, 0, size * count as u64, Stage2Attributes::empty(), 1 << 21);
    }

    #[inline(always)]
    fn translate(&self, iova: u64) -> u64 {
        let region = MemoryRegion::new(iova as usize, iova as usize + 1);
        let mut found = 0;
        let done = self.0.walk_range(&region, &mut |_, descriptor, level| {
            let mask = (1usize << (12 + 9 * (3 - level))) - 1;
            found = descriptor.output_address().0 | iova as usize & mask;
            Ok(())
        });
        assert!(done.is_ok());
        found as u64
    }

    #[inline(never)]
    fn split(&mut self, iova: u64) -> bool {
        self.set(iova, 0, 4096, Stage2Attributes::empty(), 4096);
        true
    }
}
