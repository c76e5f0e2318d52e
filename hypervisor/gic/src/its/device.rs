//! A device's interrupt translation table.

use alloc::sync::Arc;

use palisade_mem::{DmaBuffer, Frames};

use super::ItsError;

/// The table of one DeviceID; the hardware owns its contents while it is mapped.
#[derive(Debug)]
pub(super) struct DeviceTable {
    pub(super) device: u32,
    pub(super) event_bits: u8,
    /// Kept when the device is unmapped: the next mapping of the same size uses it again, since
    /// memory that the ITS once wrote is not given to anybody else.
    pub(super) memory: DmaBuffer,
    pub(super) mapped: bool,
}

impl DeviceTable {
    pub(super) fn new(
        frames: &Arc<Frames>,
        device: u32,
        event_bits: u8,
        entry_bytes: u64,
    ) -> Result<Self, ItsError> {
        let bytes = entry_bytes << event_bits;
        let memory = DmaBuffer::new(frames, bytes.max(256), true)?;
        Ok(Self { device, event_bits, memory, mapped: false })
    }

    /// Zeroes the table, as MAPD wants it (5.13.11).
    pub(super) fn wipe(&self) {
        let words = (self.memory.bytes() / 8) as usize;
        for word in 0..words {
            self.memory.store(word, 0);
        }
        self.memory.publish(0, words);
    }
}
