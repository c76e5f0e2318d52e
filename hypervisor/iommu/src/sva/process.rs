//! What can be shared with devices, and how it tells of its changes.

use alloc::sync::Arc;

use palisade_hal::{Asid, Iova};

use crate::driver::Context;
use crate::pasid::PasidError;

/// Identity of a process within its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey(pub u64);

/// Where an address space begins and how it is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// Root of the tables (TTB0): a PA, or an IPA under a stage 2.
    pub table: u64,
    /// TCR_EL1; the fields that [`Context`] names.
    pub tcr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// Faults stall.
    pub stalls: bool,
}

impl AddressSpace {
    pub(crate) fn context(&self, asid: Asid, private: bool) -> Context {
        let Self { table, tcr, mair, stalls } = *self;
        Context { asid, table, tcr, mair, stalls, record: true, private, quiet: false }
    }
}

/// A range of virtual addresses that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: Iova,
    /// One past the last byte; the length is `end − start`.
    pub end: Iova,
    /// Translation granule in bytes.
    pub granule: u64,
    /// Size of the leaf entries that changed, if one for all and no table was removed.
    pub leaf: Option<u64>,
}

impl Range {
    /// Every address.
    pub const ALL: Self =
        Self { start: Iova::new(0), end: Iova::new(u64::MAX), granule: 4096, leaf: None };

    /// Bytes; 0 for a range that ends before it starts.
    pub const fn size(&self) -> u64 {
        self.end.get().saturating_sub(self.start.get())
    }

    /// The range means the whole address space.
    pub const fn is_everything(&self) -> bool {
        self.start.get() == 0 && self.end.get() == u64::MAX
    }
}

/// Something with an address space that devices may share.
///
/// `key`, `pin`, `unpin`, `address_space`, `register` and `unregister` are called under the
/// lock of the space: they must not call back into it, nor call a notifier.
pub trait Process: Send + Sync {
    /// Its identity.
    fn key(&self) -> ProcessKey;

    /// Its ASID, which it keeps until unpinned as often; `None` if it has no address space.
    fn pin(&self) -> Option<Asid>;

    /// Undoes one [`pin`](Self::pin).
    fn unpin(&self);

    /// Its tables.
    fn address_space(&self) -> AddressSpace;

    /// From now on `notifier` is told of every change.
    ///
    /// # Errors
    /// [`PasidError::NoProcess`] if it has gone, or what else it refuses for.
    fn register(&self, notifier: Arc<dyn ProcessNotifier>) -> Result<(), PasidError>;

    /// Undoes one [`register`](Self::register).
    fn unregister(&self, notifier: &Arc<dyn ProcessNotifier>);
}

/// Is told of what happens to an address space. Must not be called under a lock that
/// [`Process::register`] or [`Process::unregister`] takes.
pub trait ProcessNotifier: Send + Sync {
    /// Tables changed in `ranges`: whoever caches must forget before this returns. All of them
    /// are one batch with one synchronisation.
    ///
    /// # Errors
    /// The driver's: what was mapped there must be treated as still reachable.
    fn invalidate(&self, ranges: &[Range]) -> Result<(), PasidError>;

    /// The address space goes. When this returns `Ok` no device can reach anything through it.
    /// Repeating it does nothing.
    ///
    /// # Errors
    /// The driver's: what was mapped must be treated as still reachable.
    fn release(&self) -> Result<(), PasidError>;
}
