//! An address space of a guest, as it told us of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::Asid;
use palisade_hal::lock::{Mutex, Rank};
use palisade_iommu::pasid::PasidError;
use palisade_iommu::sva::{AddressSpace, Process, ProcessKey, ProcessNotifier, Range};

/// One address space of a guest. It lives as long as anything is bound to it.
pub(super) struct GuestProcess {
    key: ProcessKey,
    asid: Asid,
    space: AddressSpace,
    /// Translation granule in bytes, from its TCR.
    granule: u64,
    gone: AtomicBool,
    notifiers: Mutex<Vec<Arc<dyn ProcessNotifier>>>,
}

impl GuestProcess {
    pub(super) fn new(key: u64, asid: Asid, space: AddressSpace, granule: u64) -> Arc<Self> {
        Arc::new(Self {
            key: ProcessKey(key),
            asid,
            space,
            granule,
            gone: AtomicBool::new(false),
            notifiers: Mutex::new(Rank::Notifiers, Vec::new()),
        })
    }

    /// It is this very address space, and has not gone.
    pub(super) fn is(&self, space: &AddressSpace) -> bool {
        self.space == *space && !self.gone.load(Ordering::Acquire)
    }

    /// Something is bound to it.
    pub(super) fn is_shared(&self) -> bool {
        !self.notifiers.lock().is_empty()
    }

    pub(super) fn granule(&self) -> u64 {
        self.granule
    }

    pub(super) fn asid(&self) -> Asid {
        self.asid
    }

    /// Its tables changed.
    pub(super) fn invalidate(&self, ranges: &[Range]) -> Result<(), PasidError> {
        self.all().iter().map(|one| one.invalidate(ranges)).fold(Ok(()), Result::and)
    }

    /// It goes.
    pub(super) fn exit(&self) -> Result<(), PasidError> {
        self.gone.store(true, Ordering::Release);
        self.all().iter().map(|one| one.release()).fold(Ok(()), Result::and)
    }

    /// The notifiers, copied out: they must not be called under the lock that `register` takes.
    fn all(&self) -> Vec<Arc<dyn ProcessNotifier>> {
        self.notifiers.lock().clone()
    }
}

impl Process for GuestProcess {
    fn key(&self) -> ProcessKey {
        self.key
    }

    fn pin(&self) -> Option<Asid> {
        (!self.gone.load(Ordering::Acquire)).then_some(self.asid)
    }

    // The guest keeps its ASIDs to itself; there is nothing to count on this side.
    fn unpin(&self) {}

    fn address_space(&self) -> AddressSpace {
        self.space
    }

    fn register(&self, notifier: Arc<dyn ProcessNotifier>) -> Result<(), PasidError> {
        let mut notifiers = self.notifiers.lock();
        if self.gone.load(Ordering::Acquire) {
            return Err(PasidError::NoProcess);
        }
        notifiers.try_reserve(1).map_err(|_| PasidError::Quota)?;
        notifiers.push(notifier);
        Ok(())
    }

    fn unregister(&self, notifier: &Arc<dyn ProcessNotifier>) {
        self.notifiers.lock().retain(|other| !Arc::ptr_eq(other, notifier));
    }
}
