//! The guest's stream table (§3.3.1, §5.1, §6.3.23, §6.3.24), read by value.

use palisade_hal::Ipa;
use palisade_spec::{L1std, Words};

use super::backend::Backend;
use super::identity::Identity;

/// STRTAB_BASE.ADDR, bits \[51:6\].
const ADDRESS: u64 = 0x000f_ffff_ffff_ffc0;
/// log2 of an entry's and of a level 1 descriptor's bytes.
const ENTRY: u32 = 6;
const DESCRIPTOR: u32 = 3;
/// Largest Span that means something: 2^10 entries (§5.1).
const SPAN_MAX: u64 = 11;

/// What the table says of a StreamID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry.
    Entry(Words),
    /// The StreamID is outside the table, or its second level is not there (C_BAD_STREAMID).
    Outside,
    /// The table is not in RAM (F_STE_FETCH).
    Nowhere,
}

/// The registers that say where the table is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamTable {
    pub(super) base: u64,
    pub(super) config: u32,
}

impl StreamTable {
    /// Reads the entry of `stream`, each level once.
    pub(super) fn find(
        &self,
        stream: u32,
        identity: &Identity,
        backend: &mut dyn Backend,
    ) -> Found {
        let log2 = (self.config & 0x3f).min(identity.stream_bits());
        if stream >> log2 != 0 {
            return Found::Outside;
        }
        // FMT: reserved values, and two levels where they are not offered, are linear.
        if self.config >> 16 & 3 != 1 || !identity.two_levels() {
            let base = aligned(self.base & ADDRESS & identity.address_mask(), log2 + ENTRY);
            return entry(base, stream, backend);
        }
        // SPLIT: 6, 8 or 10; reserved values behave as 6.
        let split = match self.config >> 6 & 0x1f {
            split @ (8 | 10) => split,
            _ => 6,
        };
        let first = aligned(
            self.base & ADDRESS & identity.address_mask(),
            log2.saturating_sub(split) + DESCRIPTOR,
        );
        let mut bytes = [0; 8];
        let at = first + (u64::from(stream >> split) << DESCRIPTOR);
        if !backend.read(Ipa::new(at), &mut bytes) {
            return Found::Nowhere;
        }
        let descriptor = [u64::from_le_bytes(bytes)];
        let span = L1std::SPAN.get(&descriptor);
        let index = stream & ((1 << split) - 1);
        if !(1..=SPAN_MAX).contains(&span) || u64::from(index) >> (span - 1) != 0 {
            return Found::Outside;
        }
        let second = L1std::L2_PTR.get_address(&descriptor) & identity.address_mask();
        entry(aligned(second, span as u32 - 1 + ENTRY), index, backend)
    }
}

/// An address with the bits below 2^`log2` ignored; at least 64 bytes are aligned.
const fn aligned(address: u64, log2: u32) -> u64 {
    let log2 = if log2 < ENTRY { ENTRY } else { log2 };
    address & !((1 << log2) - 1)
}

fn entry(base: u64, index: u32, backend: &mut dyn Backend) -> Found {
    let mut bytes = [0; 64];
    if !backend.read(Ipa::new(base + (u64::from(index) << ENTRY)), &mut bytes) {
        return Found::Nowhere;
    }
    let mut words = [0; 8];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = chunk.try_into().map_or(0, u64::from_le_bytes);
    }
    Found::Entry(words)
}
