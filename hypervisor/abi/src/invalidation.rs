//! Records of `INVALIDATE_BATCH`.

/// Bytes of an [`InvalidationRecord`] in memory.
pub const INVALIDATION_BYTES: usize = 32;

/// One record, little endian: ASID, start, end, leaf, each as in the call `INVALIDATE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvalidationRecord {
    /// The address space.
    pub asid: u64,
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Size of the entries that changed, or 0.
    pub leaf: u64,
}

impl InvalidationRecord {
    /// The record as it is in memory.
    pub fn to_bytes(self) -> [u8; INVALIDATION_BYTES] {
        let mut bytes = [0; INVALIDATION_BYTES];
        let words = [self.asid, self.start, self.end, self.leaf];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The record that these bytes are.
    pub fn from_bytes(bytes: &[u8; INVALIDATION_BYTES]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut value = [0; 8];
            value.copy_from_slice(chunk);
            *word = u64::from_le_bytes(value);
        }
        let [asid, start, end, leaf] = words;
        Self { asid, start, end, leaf }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_memory_and_back() {
        let record = InvalidationRecord { asid: 7, start: 0x1000, end: u64::MAX, leaf: 4096 };
        assert_eq!(InvalidationRecord::from_bytes(&record.to_bytes()), record);
        assert_eq!(record.to_bytes()[8..10], [0x00, 0x10]);
    }
}
