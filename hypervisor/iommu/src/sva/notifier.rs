//! Between one process and the devices of one context table.

use alloc::sync::Weak;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{ProcessKey, ProcessNotifier, Range};
use crate::pasid::{PasidError, Space, TableId};

/// Serials tell a notifier from its successor for the same pair.
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

/// The notifier of one pair of table and process. It does nothing once it was given back.
pub struct Notifier {
    space: Weak<Space>,
    table: TableId,
    key: ProcessKey,
    serial: u64,
}

impl Notifier {
    pub(crate) fn new(space: Weak<Space>, table: TableId, key: ProcessKey) -> Self {
        let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
        Self { space, table, key, serial }
    }

    /// The table.
    pub fn table(&self) -> TableId {
        self.table
    }

    /// The process.
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }
}

impl ProcessNotifier for Notifier {
    fn invalidate(&self, ranges: &[Range]) -> Result<(), PasidError> {
        self.space.upgrade().map_or(Ok(()), |space| space.invalidate(self, ranges))
    }

    fn release(&self) -> Result<(), PasidError> {
        self.space.upgrade().map_or(Ok(()), |space| space.release(self))
    }
}
