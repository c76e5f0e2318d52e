//! Circular queues (3.5): indexes with a wrap bit above them.

use crate::bits::mask;

/// One queue's registers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Queue {
    /// The BASE register as written.
    pub base: u64,
    /// Producer index with its wrap bit; bit 31 is OVFLG of the output queues.
    pub prod: u32,
    /// Consumer index with its wrap bit; bit 31 is OVACKFLG of the output queues.
    pub cons: u32,
}

impl Queue {
    /// LOG2SIZE, capped at `max`.
    pub fn log2(&self, max: u32) -> u32 {
        (self.base as u32 & 0x1f).min(max)
    }

    /// The base address as hardware takes it: aligned to the queue's size (6.3.26).
    pub fn address(&self, log2: u32, entry_log2: u32) -> u64 {
        let raw = self.base & mask(51, 5);
        raw & !((1u64 << (log2 + entry_log2)) - 1)
    }

    /// Where entry `index` lies.
    pub fn entry(&self, index: u32, log2: u32, entry_log2: u32) -> u64 {
        let slot = u64::from(index) & ((1 << log2) - 1);
        self.address(log2, entry_log2) + (slot << entry_log2)
    }

    /// How many entries lie between consumer and producer; `None` if that makes no sense.
    pub fn used(&self, log2: u32) -> Option<u32> {
        let modulus = 1u32 << (log2 + 1);
        let used = (self.prod & (modulus - 1)).wrapping_sub(self.cons) & (modulus - 1);
        (used <= 1 << log2).then_some(used)
    }

    /// The index after `index`, keeping bit 31.
    pub fn next(index: u32, log2: u32) -> u32 {
        let modulus = 1u32 << (log2 + 1);
        (index & 1 << 31) | ((index & (modulus - 1)) + 1) & (modulus - 1)
    }
}
