//! One space of IOASIDs.

use alloc::sync::Arc;

use palisade_hal::lock::{Mutex, Rank};

use super::allocator::Allocators;
use super::slots::Slots;
use super::{IoasidAllocator, IoasidError};

/// Who a number belongs to: below 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Set(pub u32);

struct State {
    allocators: Allocators,
    out: u32,
    orphans: u64,
}

/// One space of IOASIDs, see the module's text.
///
/// ```
/// use palisade_iommu::ioasid::{IoasidError, Scope, Set};
/// let scope = Scope::new(64, 2);
/// let mine = Set(1);
/// let id = scope.alloc(mine, 1, 63, 0xabc)?;
/// assert_eq!(scope.find(id, Some(mine)), Ok(0xabc));
/// assert_eq!(scope.find(id, Some(Set(2))), Err(IoasidError::WrongSet(id)));
/// scope.free(mine, id)?;
/// # Ok::<(), IoasidError>(())
/// ```
pub struct Scope {
    slots: Slots,
    quota: u32,
    state: Mutex<State>,
}

impl Scope {
    /// A space of the numbers `0..capacity`, at most `quota` of them out at once.
    pub fn new(capacity: u32, quota: u32) -> Self {
        let state = State { allocators: Allocators::default(), out: 0, orphans: 0 };
        Self { slots: Slots::new(capacity), quota, state: Mutex::new(Rank::Ids, state) }
    }

    /// Registers an allocator; the first one becomes active.
    ///
    /// # Errors
    /// [`IoasidError::Exists`] for one that is registered; [`IoasidError::Again`] for the first
    /// while the default has numbers out. The list is then as it was.
    pub fn register(&self, allocator: Arc<dyn IoasidAllocator>) -> Result<(), IoasidError> {
        let mut state = self.state.lock();
        if state.allocators.contains(&allocator) {
            return Err(IoasidError::Exists);
        }
        if state.allocators.is_empty() && state.out > 0 {
            return Err(IoasidError::Again(state.out));
        }
        state.allocators.add(allocator)
    }

    /// Takes an allocator out and answers how many numbers are orphaned by it: those that its
    /// family still had out when its last member went. One that is not registered orphans none.
    pub fn unregister(&self, allocator: &Arc<dyn IoasidAllocator>) -> u32 {
        let mut state = self.state.lock();
        if !state.allocators.contains(allocator) || !state.allocators.remove(allocator) {
            return 0;
        }
        let orphans = core::mem::take(&mut state.out);
        if orphans > 0 {
            self.slots.clear();
            state.orphans = state.orphans.saturating_add(u64::from(orphans));
        }
        orphans
    }

    /// A number in `min..=max` for `set`, carrying `private`.
    ///
    /// # Errors
    /// [`IoasidError::Quota`], [`IoasidError::Exhausted`]; [`IoasidError::Store`] when a
    /// registered allocator answers a number that is out of bounds or in use: it gets it back.
    pub fn alloc(&self, set: Set, min: u32, max: u32, private: u32) -> Result<u32, IoasidError> {
        if set.0 >> 31 != 0 {
            return Err(IoasidError::Set);
        }
        let mut state = self.state.lock();
        if state.out >= self.quota {
            return Err(IoasidError::Quota(self.quota));
        }
        let exhausted = IoasidError::Exhausted(min, max);
        let id = match state.allocators.active() {
            None => {
                let id = self.slots.first_free(min, max).ok_or(exhausted)?;
                self.slots.insert(id, set, private)?;
                id
            }
            Some(allocator) => {
                let id = allocator.alloc(min, max).ok_or(exhausted)?;
                // Exactly the number that was answered, or none.
                let stored = if (min..=max).contains(&id) {
                    self.slots.insert(id, set, private)
                } else {
                    Err(IoasidError::Store(id))
                };
                if let Err(error) = stored {
                    allocator.free(id);
                    return Err(error);
                }
                id
            }
        };
        state.out += 1;
        Ok(id)
    }

    /// Takes a number back. Allocates nothing.
    ///
    /// # Errors
    /// [`IoasidError::Unknown`] (orphans are), [`IoasidError::WrongSet`].
    pub fn free(&self, set: Set, id: u32) -> Result<(), IoasidError> {
        let mut state = self.state.lock();
        self.find(id, Some(set))?;
        self.slots.remove(id);
        state.out = state.out.saturating_sub(1);
        if let Some(allocator) = state.allocators.active() {
            allocator.free(id);
        }
        Ok(())
    }

    /// The private data of `id`, which must belong to `set` if one is named. Takes no lock.
    ///
    /// # Errors
    /// [`IoasidError::Unknown`], [`IoasidError::WrongSet`].
    pub fn find(&self, id: u32, set: Option<Set>) -> Result<u32, IoasidError> {
        let (owner, private) = self.slots.load(id).ok_or(IoasidError::Unknown(id))?;
        if set.is_some_and(|set| set != owner) {
            return Err(IoasidError::WrongSet(id));
        }
        Ok(private)
    }

    /// Changes the private data of a number.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn set_private(&self, set: Set, id: u32, private: u32) -> Result<(), IoasidError> {
        let _state = self.state.lock();
        self.find(id, Some(set))?;
        self.slots.replace(id, set, private);
        Ok(())
    }

    /// Numbers that are out.
    pub fn used(&self) -> u32 {
        self.state.lock().out
    }

    /// Numbers ever orphaned.
    pub fn orphans(&self) -> u64 {
        self.state.lock().orphans
    }
}
