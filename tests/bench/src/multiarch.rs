//! page_table_multiarch, with entries of stage 2.

use std::sync::Mutex;

use memory_addr::{PhysAddr, VirtAddr};
use page_table_multiarch::{
    GenericPTE, MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData,
};

use crate::pool::Pool;
use crate::work::Subject;

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

struct Handler;

impl PagingHandler for Handler {
    fn alloc_frames(_num: usize, _align: usize) -> Option<PhysAddr> {
        POOL.lock().ok()?.as_mut()?.take().map(PhysAddr::from)
    }
    fn dealloc_frames(paddr: PhysAddr, _num: usize) {
        if let Ok(mut pool) = POOL.lock()
            && let Some(pool) = pool.as_mut()
        {
            pool.give(paddr.as_usize());
        }
    }
    #[inline(always)]
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        VirtAddr::from(paddr.as_usize())
    }
}

struct Stage2;

impl PagingMetaData for Stage2 {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 48;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = VirtAddr;
    fn flush_tlb(_vaddr: Option<VirtAddr>) {}
}

const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Entry(u64);

impl GenericPTE for Entry {
    #[inline(always)]
    fn new_page(paddr: PhysAddr, _flags: MappingFlags, is_huge: bool) -> Self {
        Self(paddr.as_usize() as u64 | 0x7fd | if is_huge { 0 } else { 2 })
    }
    #[inline(always)]
    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 | 3)
    }
    #[inline(always)]
    fn paddr(&self) -> PhysAddr {
        PhysAddr::from((self.0 & ADDRESS) as usize)
    }
    #[inline(always)]
    fn flags(&self) -> MappingFlags {
        MappingFlags::READ | MappingFlags::WRITE
    }
    #[inline(always)]
    fn set_paddr(&mut self, paddr: PhysAddr) {
        self.0 = self.0 & !ADDRESS | paddr.as_usize() as u64;
    }
    fn set_flags(&mut self, _flags: MappingFlags, _is_huge: bool) {}
    #[inline(always)]
    fn bits(self) -> usize {
        self.0 as usize
    }
    #[inline(always)]
    fn is_unused(&self) -> bool {
        self.0 == 0
    }
    #[inline(always)]
    fn is_present(&self) -> bool {
        self.0 & 1 != 0
    }
    #[inline(always)]
    fn is_huge(&self) -> bool {
        self.0 & 3 == 1
    }
    #[inline(always)]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

/// page_table_multiarch's table.
pub struct Multiarch(PageTable64<Stage2, Entry, Handler>);

impl Multiarch {
    /// An empty table of four levels.
    pub fn new() -> Self {
        *POOL.lock().expect("one thread") = Some(Pool::new(8192));
        Self(PageTable64::try_new().expect("a table"))
    }
}

impl Subject for Multiarch {
    #[inline(never)]
    fn map(&mut self, iova: u64, pa: u64, size: u64, count: usize) {
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        let mut cursor = self.0.cursor();
        let iova = VirtAddr::from(iova as usize);
        let pa = pa as usize;
        let done = if count == 1 {
            let size = if size == 4096 { PageSize::Size4K } else { PageSize::Size2M };
            cursor.map(iova, PhysAddr::from(pa), size, flags)
        } else {
            let target = |at: VirtAddr| PhysAddr::from(at.as_usize() - iova.as_usize() + pa);
            cursor.map_region(iova, target, size as usize * count, flags, size > 4096)
        };
        assert!(done.is_ok());
    }

    #[inline(never)]
    fn unmap(&mut self, iova: u64, size: u64, count: usize) {
        let mut cursor = self.0.cursor();
        let iova = VirtAddr::from(iova as usize);
        if count == 1 {
            assert!(cursor.unmap(iova).is_ok());
        } else {
            assert!(cursor.unmap_region(iova, size as usize * count).is_ok());
        }
    }

    #[inline(always)]
    fn translate(&self, iova: u64) -> u64 {
        self.0.query(VirtAddr::from(iova as usize)).map_or(0, |(pa, _, _)| pa.as_usize() as u64)
    }

    #[inline(never)]
    fn split(&mut self, _iova: u64) -> bool {
        false
    }
}
