//! Return addresses, along the chain of frame pointers (AAPCS64, 6.4.6).

use core::ops::Range;

/// Most addresses that are printed.
const DEPTH: usize = 24;

/// Calls `each` with every return address from the frame record at `pointer`
/// on, as long as records lie in `stack`, ascend, and are few.
pub(crate) fn walk(pointer: u64, stack: Range<u64>, mut each: impl FnMut(u64)) {
    let mut at = pointer;
    for _ in 0..DEPTH {
        let inside = at >= stack.start && at.checked_add(16).is_some_and(|end| end <= stack.end);
        if !inside || !at.is_multiple_of(16) {
            return;
        }
        let record = at as *const u64;
        // SAFETY: 16 aligned bytes inside this core's own stack, which is mapped
        // as a whole; whatever they hold, reading them changes nothing.
        let (next, back) = unsafe { (record.read_volatile(), record.add(1).read_volatile()) };
        if back == 0 {
            return;
        }
        each(back);
        if next <= at {
            return;
        }
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn addresses(stack: &[u64], start: usize) -> Vec<u64> {
        let base = stack.as_ptr() as u64;
        let mut found = Vec::new();
        walk(base + start as u64 * 8, base..base + stack.len() as u64 * 8, |a| found.push(a));
        found
    }

    #[repr(align(16))]
    struct Stack([u64; 8]);

    #[test]
    fn follows_the_chain_and_stops_at_its_end() {
        let mut stack = Stack([0; 8]);
        let base = stack.0.as_ptr() as u64;
        stack.0[..6].copy_from_slice(&[base + 32, 0x1000, 0, 0, 0, 0x2000]);
        assert_eq!(addresses(&stack.0, 0), [0x1000, 0x2000]);
    }

    #[test]
    fn a_broken_chain_ends_the_walk() {
        let mut stack = Stack([0; 8]);
        let base = stack.0.as_ptr() as u64;
        for next in [base, base + 8, base + 64, u64::MAX - 8, base - 16] {
            stack.0[..2].copy_from_slice(&[next, 0x1000]);
            assert_eq!(addresses(&stack.0, 0), [0x1000]);
        }
    }
}
