//! Numbers that are the same in every run.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`, which is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `2^bits`, `bits` up to 63.
    pub fn bits(&mut self, bits: u32) -> u64 {
        // The upper bits are the better ones.
        (self.next() >> 1) >> (63 - bits)
    }

    /// Less than `end`, which is small.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end.max(1)
    }
}
