//! A place for one reference, set and cleared without a lock.

use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An optional `&'static T` that is replaced by compare-and-exchange.
pub struct Slot<T: 'static> {
    pointer: AtomicPtr<T>,
    holds: PhantomData<&'static T>,
}

impl<T> Slot<T> {
    /// Empty.
    pub const fn new() -> Self {
        Self { pointer: AtomicPtr::new(ptr::null_mut()), holds: PhantomData }
    }

    /// What it holds.
    #[inline]
    pub fn get(&self) -> Option<&'static T> {
        let pointer = self.pointer.load(Ordering::Acquire);
        // SAFETY: the pointer is null or came from a `&'static T` in `fill`.
        unsafe { pointer.as_ref() }
    }

    /// Puts `value` into an empty slot; answers whether it was empty.
    pub fn fill(&self, value: &'static T) -> bool {
        let new = ptr::from_ref(value).cast_mut();
        let set = self.pointer.compare_exchange(
            ptr::null_mut(),
            new,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        set.is_ok()
    }

    /// Empties the slot if it holds exactly `value` (the same reference, not an
    /// equal one); answers whether it did.
    pub fn take(&self, value: &'static T) -> bool {
        let old = ptr::from_ref(value).cast_mut();
        let set = self.pointer.compare_exchange(
            old,
            ptr::null_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        set.is_ok()
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filled_once_and_taken_by_identity() {
        static ONE: [u8; 2] = [1, 0];
        static OTHER: [u8; 2] = [2, 0];
        let slot = Slot::new();
        assert!(slot.get().is_none());
        assert!(slot.fill(&ONE));
        assert!(!slot.fill(&OTHER));
        assert!(!slot.take(&OTHER));
        assert_eq!(slot.get(), Some(&ONE));
        assert!(slot.take(&ONE));
        assert!(!slot.take(&ONE));
        assert!(slot.get().is_none());
    }
}
