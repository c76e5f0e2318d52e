//! The numbers that are out: one word each.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{IoasidError, Set};

/// Largest capacity of a scope: PASIDs have 20 bits.
pub const MAX_CAPACITY: u32 = 1 << 20;

const PRESENT: u64 = 1 << 63;

/// A table from number to set and private data. One word per number, so a reader needs no
/// lock and can never see half of an entry.
pub(super) struct Slots(Box<[AtomicU64]>);

impl Slots {
    pub(super) fn new(capacity: u32) -> Self {
        Self((0..capacity.min(MAX_CAPACITY)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn capacity(&self) -> u32 {
        self.0.len() as u32
    }

    /// Set and private data of `id`.
    pub(super) fn load(&self, id: u32) -> Option<(Set, u32)> {
        let word = self.0.get(id as usize)?.load(Ordering::Acquire);
        (word & PRESENT != 0).then_some((Set(((word & !PRESENT) >> 32) as u32), word as u32))
    }

    /// Stores exactly `id`, which must be free.
    pub(super) fn insert(&self, id: u32, set: Set, private: u32) -> Result<(), IoasidError> {
        let slot = self.0.get(id as usize).ok_or(IoasidError::Store(id))?;
        slot.compare_exchange(0, word(set, private), Ordering::Release, Ordering::Relaxed)
            .map(|_| ())
            .map_err(|_| IoasidError::Store(id))
    }

    pub(super) fn replace(&self, id: u32, set: Set, private: u32) {
        if let Some(slot) = self.0.get(id as usize) {
            slot.store(word(set, private), Ordering::Release);
        }
    }

    pub(super) fn remove(&self, id: u32) {
        if let Some(slot) = self.0.get(id as usize) {
            slot.store(0, Ordering::Release);
        }
    }

    /// The lowest free number in `min..=max`.
    pub(super) fn first_free(&self, min: u32, max: u32) -> Option<u32> {
        let last = self.capacity().checked_sub(1)?.min(max);
        (min..=last).find(|&id| self.load(id).is_none())
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Ordering::Release));
    }
}

fn word(set: Set, private: u32) -> u64 {
    PRESENT | u64::from(set.0) << 32 | u64::from(private)
}
