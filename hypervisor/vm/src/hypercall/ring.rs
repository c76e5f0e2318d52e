//! The fault ring of a guest.

use palisade_abi::{FAULT_BYTES, FaultRecord, RING_HEADER_BYTES, RING_MAGIC, RingHeader};
use palisade_hal::Ipa;

use super::ram::{GuestRam, OutsideRam};

/// Where the ring is, and what was written to it. The hypervisor's own counters are kept here;
/// those in memory are for the guest, and only its consumer index is read back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    base: Ipa,
    capacity: u64,
    producer: u64,
    lost: u64,
}

impl Ring {
    /// A ring of `bytes` at `base`, both checked by the caller; writes its header.
    pub(super) fn new(base: Ipa, bytes: u64, ram: &dyn GuestRam) -> Result<Self, OutsideRam> {
        let capacity = bytes.saturating_sub(RING_HEADER_BYTES as u64) / FAULT_BYTES as u64;
        let mut header = [0; RING_HEADER_BYTES];
        for (offset, value) in [(RingHeader::MAGIC, RING_MAGIC), (RingHeader::CAPACITY, capacity)] {
            if let Some(word) = header.get_mut(offset as usize..offset as usize + 8) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        ram.write(base, &header)?;
        Ok(Self { base, capacity, producer: 0, lost: 0 })
    }

    /// Appends a record, or counts it as lost: a ring that is full, or whose consumer index is
    /// ahead of what was ever written, takes none.
    pub(super) fn push(
        &mut self,
        record: &FaultRecord,
        ram: &dyn GuestRam,
    ) -> Result<bool, OutsideRam> {
        let mut word = [0; 8];
        ram.read(self.at(RingHeader::CONSUMER)?, &mut word)?;
        let pending = self.producer.wrapping_sub(u64::from_le_bytes(word));
        if self.capacity == 0 || pending >= self.capacity {
            self.lose(1, ram)?;
            return Ok(false);
        }
        let index = self.producer % self.capacity;
        let offset = RING_HEADER_BYTES as u64 + index * FAULT_BYTES as u64;
        ram.write(self.at(offset)?, &record.to_bytes())?;
        // The record is complete before the index that shows it.
        palisade_hal::barrier::dmb_ish();
        self.producer = self.producer.wrapping_add(1);
        ram.write(self.at(RingHeader::PRODUCER)?, &self.producer.to_le_bytes())?;
        Ok(true)
    }

    /// Counts records that never came here.
    pub(super) fn lose(&mut self, count: u64, ram: &dyn GuestRam) -> Result<(), OutsideRam> {
        self.lost = self.lost.saturating_add(count);
        ram.write(self.at(RingHeader::LOST)?, &self.lost.to_le_bytes())
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn at(&self, offset: u64) -> Result<Ipa, OutsideRam> {
        self.base.checked_add(offset).ok_or(OutsideRam(self.base))
    }
}
