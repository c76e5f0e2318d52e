//! Inputs of a seeded generator: the checked-in corpus is made of them.

/// `count` inputs of up to `bytes` bytes for a target whose first byte chooses among `kinds` ways.
pub fn seeds(seed: u64, count: usize, bytes: usize, kinds: u8) -> Vec<Vec<u8>> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let one = |nth: usize| {
        let mut input: Vec<u8> = (0..bytes * (nth + 1) / count).map(|_| next()).collect();
        if let Some(first) = input.first_mut() {
            *first = nth as u8 % kinds;
        }
        input
    };
    (0..count).map(one).collect()
}
