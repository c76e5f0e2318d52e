//! A ring in guest memory with its indices (§3.5.1).

use palisade_hal::Ipa;

/// Bits of a base register that hold the address, and its size (§6.3.25, §6.3.28).
const ADDRESS: u64 = 0x000f_ffff_ffff_ffe0;
const LOG2SIZE: u64 = 0x1f;

/// A queue: its base register and both indices, wrap bits included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Queue {
    /// The base register as the guest wrote it.
    pub(super) base: u64,
    pub(super) prod: u32,
    pub(super) cons: u32,
}

impl Queue {
    /// log2 of the entries: LOG2SIZE, capped at what the SMMU offers.
    pub(super) fn log2(&self, most: u32) -> u32 {
        ((self.base & LOG2SIZE) as u32).min(most).min(19)
    }

    /// Index and wrap bit, without the bits above them.
    pub(super) fn wrapped(&self, index: u32, most: u32) -> u32 {
        index & ((2 << self.log2(most)) - 1)
    }

    /// The index after `index`.
    pub(super) fn next(&self, index: u32, most: u32) -> u32 {
        self.wrapped(index.wrapping_add(1), most)
    }

    pub(super) fn is_empty(&self, most: u32) -> bool {
        self.wrapped(self.prod, most) == self.wrapped(self.cons, most)
    }

    /// Same place, other wrap bit.
    pub(super) fn is_full(&self, most: u32) -> bool {
        let size = 1 << self.log2(most);
        self.wrapped(self.prod, most) ^ self.wrapped(self.cons, most) == size
    }

    /// Where the entry at `index` lies. The base is aligned to the queue's size, or to 32 bytes:
    /// lower bits are ignored.
    pub(super) fn entry(&self, index: u32, bytes_log2: u32, most: u32) -> Ipa {
        let log2 = self.log2(most);
        let bytes = 1u64 << (log2 + bytes_log2).max(5);
        let base = self.base & ADDRESS & !(bytes - 1);
        let place = u64::from(index & ((1 << log2) - 1));
        Ipa::new(base + (place << bytes_log2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_indices_of_a_small_queue() {
        for log2 in 0..4u32 {
            let size = 1 << log2;
            for cons in 0..2 * size {
                for used in 0..=size {
                    let prod = (cons + used) % (2 * size);
                    let queue = Queue { base: u64::from(log2), prod, cons };
                    assert_eq!(queue.is_empty(8), used == 0);
                    assert_eq!(queue.is_full(8), used == size);
                    let place = u64::from(prod % size);
                    assert_eq!(queue.entry(prod, 4, 8).get(), place * 16);
                }
            }
        }
    }

    #[test]
    fn a_size_beyond_the_offer_is_cut_and_the_base_aligned() {
        let queue = Queue { base: 0x4000_0000_4000_1fff, prod: u32::MAX, cons: 0 };
        assert_eq!(queue.log2(8), 8);
        assert_eq!(queue.wrapped(u32::MAX, 8), 0x1ff);
        assert_eq!(queue.entry(0, 4, 8).get(), 0x4000_1000, "aligned to 4 KiB, hints are left out");
    }
}
