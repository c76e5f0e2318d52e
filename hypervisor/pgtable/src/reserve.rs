//! Tables set aside before anything is written, so that writing cannot fail.

use palisade_hal::PhysAddr;
use palisade_mem::{Table, TableMemory};

use crate::format::Format;
use crate::space::Space;

/// A stack of zeroed tables that no walker has seen, linked through their first
/// words. What is left over goes back when it is dropped.
pub(crate) struct Reserve<'s, F: Format, M: TableMemory> {
    space: &'s Space<F, M>,
    top: Option<PhysAddr>,
}

impl<'s, F: Format, M: TableMemory> Reserve<'s, F, M> {
    /// `count` tables, or `None` and nothing is taken.
    pub fn new(space: &'s Space<F, M>, count: usize) -> Option<Self> {
        let mut reserve = Self { space, top: None };
        for _ in 0..count {
            let at = space.memory.alloc::<F::Words>(1)?;
            if at.get() > space.table_mask {
                space.memory.discard(at);
                return None;
            }
            let Some(table) = space.memory.table::<F::Words>(at) else {
                space.memory.discard(at);
                return None;
            };
            if let (Some(word), Some(below)) = (table.words().first(), reserve.top) {
                word.store(below.get() | 1, core::sync::atomic::Ordering::Relaxed);
            }
            reserve.top = Some(at);
        }
        Some(reserve)
    }

    /// The next table, zeroed.
    pub fn take(&mut self) -> Option<(PhysAddr, Table<'s, F::Words>)> {
        let at = self.top.take()?;
        let table = self.space.memory.table::<F::Words>(at)?;
        let word = table.words().first()?;
        let below = word.swap(0, core::sync::atomic::Ordering::Relaxed);
        if below != 0 {
            self.top = Some(PhysAddr::new(below & !1));
        }
        Some((at, table))
    }
}

impl<F: Format, M: TableMemory> Drop for Reserve<'_, F, M> {
    fn drop(&mut self) {
        while let Some((at, _)) = self.take() {
            self.space.memory.discard(at);
        }
    }
}
