//! Field extraction, with the manual's `[high:low]` order.

/// Bits `[high:low]` of `word`.
pub const fn field(word: u64, high: u32, low: u32) -> u64 {
    (word >> low) & (u64::MAX >> (63 - (high - low)))
}

/// Bit `n` of `word`.
pub const fn bit(word: u64, n: u32) -> bool {
    (word >> n) & 1 == 1
}

/// The mask of bits `[high:low]`.
pub const fn mask(high: u32, low: u32) -> u64 {
    (u64::MAX >> (63 - (high - low))) << low
}

/// `2^n - 1`, for n up to 64.
pub const fn ones(n: u32) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}
