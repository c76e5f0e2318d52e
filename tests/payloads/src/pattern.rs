//! Numbers that look random and that the host knows as well.

/// The n-th 64-bit word for a seed (splitmix64).
pub fn word(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The checksum of nothing.
pub const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;

/// Adds a word to a checksum (FNV-1a, a word at a time).
pub fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Numbers for a test that wants many.
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    n: u64,
}

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, n: 0 }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.n = self.n.wrapping_add(1);
        word(self.seed, self.n)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }
}
