//! The fault ring: shared memory in which a guest finds what its devices did wrong.
//!
//! The hypervisor writes records and the producer index, the guest writes the consumer index;
//! both only ever grow, and a record's place is its index modulo the capacity. The hypervisor
//! believes the consumer index so far only: a ring that looks full takes no record, and the
//! loss is counted.

/// First word of a ring: "PALFAULT".
pub const RING_MAGIC: u64 = u64::from_le_bytes(*b"PALFAULT");
/// Bytes of a [`RingHeader`].
pub const RING_HEADER_BYTES: usize = 64;
/// Bytes of a [`FaultRecord`].
pub const FAULT_BYTES: usize = 64;

/// Offsets, in bytes, of the words of the header.
#[derive(Clone, Copy, Debug)]
pub struct RingHeader;

impl RingHeader {
    /// [`RING_MAGIC`].
    pub const MAGIC: u64 = 0;
    /// Number of records that the ring holds.
    pub const CAPACITY: u64 = 8;
    /// Records written; by the hypervisor.
    pub const PRODUCER: u64 = 16;
    /// Records read; by the guest.
    pub const CONSUMER: u64 = 24;
    /// Records lost; by the hypervisor.
    pub const LOST: u64 = 32;
}

/// Flags of a [`FaultRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultFlags(pub u32);

impl FaultFlags {
    /// The access was a write.
    pub const WRITE: u32 = 1 << 0;
    /// The access was an instruction fetch.
    pub const EXECUTE: u32 = 1 << 1;
    /// The access was privileged.
    pub const PRIVILEGED: u32 = 1 << 2;
    /// The transaction stalls; answer with `RESUME`.
    pub const STALL: u32 = 1 << 3;
    /// The fault arose when the context descriptor was fetched.
    pub const CONTEXT: u32 = 1 << 4;
    /// The fault arose when a table was walked.
    pub const TABLE: u32 = 1 << 5;
}

/// One fault, 64 bytes little endian: kind u32, flags u32, device u32, substream u32, address
/// u64, stall tag u32, and zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRecord {
    /// Number of the event (IHI 0070 §7.3): 0x10 F_TRANSLATION, 0x13 F_PERMISSION, …
    pub kind: u32,
    /// See [`FaultFlags`].
    pub flags: FaultFlags,
    /// The device.
    pub device: u32,
    /// The substream, or [`NO_SUBSTREAM`](crate::NO_SUBSTREAM).
    pub substream: u32,
    /// The virtual address of the access.
    pub address: u64,
    /// The tag to answer with, where `STALL` is set.
    pub stall_tag: u32,
}

impl FaultRecord {
    /// The record as it is in memory.
    pub fn to_bytes(self) -> [u8; FAULT_BYTES] {
        let mut bytes = [0; FAULT_BYTES];
        let low = u64::from(self.kind) | u64::from(self.flags.0) << 32;
        let high = u64::from(self.device) | u64::from(self.substream) << 32;
        let words = [low, high, self.address, u64::from(self.stall_tag)];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The record that these bytes are.
    pub fn from_bytes(bytes: &[u8; FAULT_BYTES]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut value = [0; 8];
            value.copy_from_slice(chunk);
            *word = u64::from_le_bytes(value);
        }
        let [low, high, address, tag] = words;
        Self {
            kind: low as u32,
            flags: FaultFlags((low >> 32) as u32),
            device: high as u32,
            substream: (high >> 32) as u32,
            address,
            stall_tag: tag as u32,
        }
    }
}

/// Answers of `RESUME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum StallAnswer {
    /// Terminate the transaction with an abort.
    Abort = 0,
    /// Translate it again.
    Retry = 1,
    /// Terminate it; reads are zero where the hardware offers it.
    Terminate = 2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_memory_and_back() {
        let record = FaultRecord {
            kind: 0x10,
            flags: FaultFlags(FaultFlags::WRITE | FaultFlags::STALL),
            device: 0x8,
            substream: crate::NO_SUBSTREAM,
            address: 0xffff_0000_1234,
            stall_tag: 9,
        };
        assert_eq!(FaultRecord::from_bytes(&record.to_bytes()), record);
        assert_eq!(record.to_bytes()[..8], [0x10, 0, 0, 0, 9, 0, 0, 0]);
    }
}
