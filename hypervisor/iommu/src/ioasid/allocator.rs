//! Allocators that a platform may register.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::IoasidError;

/// Allocators that share their helpers, and so one space of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Family(pub u32);

/// A source of numbers. Called under the scope's lock: it must not wait, nor call back.
pub trait IoasidAllocator: Send + Sync {
    /// The family whose helpers these are.
    fn family(&self) -> Family;

    /// A number in `min..=max` that is not out.
    fn alloc(&self, min: u32, max: u32) -> Option<u32>;

    /// Takes a number back that this family gave out. Must not allocate.
    fn free(&self, id: u32);
}

/// The registered allocators, in order of registration.
#[derive(Default)]
pub(super) struct Allocators {
    list: Vec<Arc<dyn IoasidAllocator>>,
    active: Option<Arc<dyn IoasidAllocator>>,
}

impl Allocators {
    /// The active one; `None` is the default.
    pub(super) fn active(&self) -> Option<&Arc<dyn IoasidAllocator>> {
        self.active.as_ref()
    }

    pub(super) fn contains(&self, allocator: &Arc<dyn IoasidAllocator>) -> bool {
        self.list.iter().any(|other| same(other, allocator))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn add(&mut self, allocator: Arc<dyn IoasidAllocator>) -> Result<(), IoasidError> {
        self.list.try_reserve(1).map_err(|_| IoasidError::NoMemory)?;
        if self.active.is_none() {
            self.active = Some(allocator.clone());
        }
        self.list.push(allocator);
        Ok(())
    }

    /// Takes one out; answers whether the space of numbers changes hands with it.
    pub(super) fn remove(&mut self, allocator: &Arc<dyn IoasidAllocator>) -> bool {
        self.list.retain(|other| !same(other, allocator));
        if !self.active.as_ref().is_some_and(|active| same(active, allocator)) {
            return false;
        }
        // A relative inherits the numbers; else the next in order starts with none.
        let family = allocator.family();
        let relative = self.list.iter().find(|other| other.family() == family);
        let inherits = relative.is_some();
        self.active = relative.or(self.list.first()).cloned();
        !inherits
    }
}

fn same(a: &Arc<dyn IoasidAllocator>, b: &Arc<dyn IoasidAllocator>) -> bool {
    // The data address is the identity; tables of functions may be duplicated or merged.
    core::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}
