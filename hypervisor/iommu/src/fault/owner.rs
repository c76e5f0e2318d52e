//! Owners: VM slots with generations, each with its fault log.

use crate::error::Resource;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::lock::{Mutex, Rank};

use super::log::FaultLog;
use super::{Fault, LOG_CAPACITY};
use crate::error::Error;

/// A handle to the VM in a slot, good only for the generation it was opened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    index: u16,
    generation: u32,
}

impl Owner {
    /// The VM's index: its position in the manifest.
    pub const fn index(self) -> u16 {
        self.index
    }

    /// One word for an atomic; never 0.
    pub(super) const fn to_word(self) -> u64 {
        ((self.generation as u64) << 16) | self.index as u64
    }

    pub(super) const fn from_word(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        Some(Self { index: word as u16, generation: (word >> 16) as u32 })
    }
}

struct Slot {
    /// Odd while a VM lives in the slot; so an open handle's word is never 0.
    generation: AtomicU32,
    log: Mutex<FaultLog>,
}

/// The slots of all VMs that may own devices.
pub struct Owners {
    slots: Box<[Slot]>,
}

impl Owners {
    /// Slots for VMs `0..count`.
    pub fn new(count: u16) -> Self {
        let slot = |_| Slot {
            generation: AtomicU32::new(0),
            log: Mutex::new(Rank::FaultLog, FaultLog::new(LOG_CAPACITY)),
        };
        Self { slots: (0..count).map(slot).collect() }
    }

    /// Opens slot `index` for a VM.
    ///
    /// # Errors
    /// [`Error::Exhausted`] for an index beyond the slots; [`Error::Domain`] if it is open.
    pub fn open(&self, index: u16) -> Result<Owner, Error> {
        let slot =
            self.slots.get(usize::from(index)).ok_or(Error::Exhausted(Resource::OwnerSlot))?;
        let mut log = slot.log.lock();
        let now = slot.generation.load(Ordering::Relaxed);
        if now & 1 == 1 {
            return Err(Error::Domain);
        }
        log.clear();
        let generation = now.wrapping_add(1);
        slot.generation.store(generation, Ordering::Release);
        Ok(Owner { index, generation })
    }

    /// Closes a VM's slot: from now on its handle matches nothing.
    ///
    /// # Errors
    /// [`Error::StaleOwner`] if the handle is of another generation.
    pub fn close(&self, owner: Owner) -> Result<(), Error> {
        let slot = self.slot(owner).ok_or(Error::StaleOwner)?;
        let mut log = slot.log.lock();
        // Looked at again under the lock: two may close at once.
        if slot.generation.load(Ordering::Relaxed) != owner.generation {
            return Err(Error::StaleOwner);
        }
        slot.generation.store(owner.generation.wrapping_add(1), Ordering::Release);
        log.clear();
        Ok(())
    }

    /// The handle's VM still lives.
    pub fn is_open(&self, owner: Owner) -> bool {
        self.slot(owner).is_some()
    }

    /// Puts a fault into its owner's log; `false` if the owner has gone or the log is full.
    pub(crate) fn deliver(&self, owner: Owner, fault: Fault) -> bool {
        let Some(slot) = self.slot(owner) else { return false };
        let mut log = slot.log.lock();
        // The generation only moves under this lock, so the check holds for the push.
        slot.generation.load(Ordering::Relaxed) == owner.generation && log.push(fault)
    }

    /// Hands the owner's faults to `sink`, oldest first, and answers how many were lost since
    /// the last call. The log's lock is not held while `sink` runs.
    pub fn take(&self, owner: Owner, sink: &mut dyn FnMut(&Fault)) -> u64 {
        let Some(slot) = self.slot(owner) else { return 0 };
        for _ in 0..LOG_CAPACITY {
            let fault = {
                let mut log = slot.log.lock();
                if slot.generation.load(Ordering::Relaxed) != owner.generation {
                    return 0;
                }
                log.pop()
            };
            match fault {
                Some(fault) => sink(&fault),
                None => break,
            }
        }
        slot.log.lock().take_lost()
    }

    fn slot(&self, owner: Owner) -> Option<&Slot> {
        let slot = self.slots.get(usize::from(owner.index))?;
        (slot.generation.load(Ordering::Acquire) == owner.generation).then_some(slot)
    }
}
