//! Queue arithmetic (§3.5.1), pure.
//!
//! An index register holds an index below 2^log2 and, one bit above it, a wrap bit that toggles
//! each time the index passes the end. Equal indexes mean empty with equal wrap bits, full with
//! different ones: without the wrap bit a full queue cannot be told from an empty one.

/// The geometry of a queue of 2^log2 entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ring {
    log2: u32,
}

/// PROD or CONS: index and wrap bit, nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pointer(u32);

/// The largest queue the index registers can describe (§6.3.26: LOG2SIZE ≤ 19).
pub const MAX_LOG2: u32 = 19;

impl Ring {
    /// A queue of 2^log2 entries; log2 is cut to 19.
    pub const fn new(log2: u32) -> Self {
        Self { log2: if log2 > MAX_LOG2 { MAX_LOG2 } else { log2 } }
    }

    /// log2 of the number of entries.
    pub const fn log2(self) -> u32 {
        self.log2
    }

    /// The number of entries.
    #[inline(always)]
    pub const fn entries(self) -> u32 {
        1 << self.log2
    }

    /// Index and wrap bit together count modulo twice the entries.
    #[inline(always)]
    const fn mask(self) -> u32 {
        (2 << self.log2) - 1
    }

    /// The pointer in a register that may hold more (an error code, an overflow flag).
    #[inline(always)]
    pub const fn pointer(self, register: u32) -> Pointer {
        Pointer(register & self.mask())
    }

    /// The entry a pointer points at.
    #[inline(always)]
    pub const fn index(self, pointer: Pointer) -> u32 {
        pointer.0 & (self.entries() - 1)
    }

    /// The pointer `count` entries on.
    pub const fn advance(self, pointer: Pointer, count: u32) -> Pointer {
        Pointer(pointer.0.wrapping_add(count) & self.mask())
    }

    /// How far `to` is ahead of `from`, modulo twice the entries.
    pub const fn distance(self, from: Pointer, to: Pointer) -> u32 {
        to.0.wrapping_sub(from.0) & self.mask()
    }

    /// How many entries wait between CONS and PROD; `None` when the pair is impossible, which
    /// only a broken device shows.
    pub const fn used(self, prod: Pointer, cons: Pointer) -> Option<u32> {
        let used = self.distance(cons, prod);
        if used <= self.entries() { Some(used) } else { None }
    }

    /// How many entries can still be produced; 0 for an impossible pair.
    pub const fn space(self, prod: Pointer, cons: Pointer) -> u32 {
        match self.used(prod, cons) {
            Some(used) => self.entries() - used,
            None => 0,
        }
    }

    /// Whether nothing waits.
    pub const fn is_empty(self, prod: Pointer, cons: Pointer) -> bool {
        prod.0 == cons.0
    }

    /// Whether nothing more fits.
    pub const fn is_full(self, prod: Pointer, cons: Pointer) -> bool {
        self.distance(cons, prod) == self.entries()
    }
}

impl Pointer {
    /// Index and wrap bit as a register holds them.
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reachable state of every queue of up to 32 entries, against counters that never wrap.
    #[test]
    fn agrees_with_unbounded_counters_in_every_state() {
        for log2 in 0..=5 {
            let ring = Ring::new(log2);
            let entries = u64::from(ring.entries());
            for cons in 0..4 * entries {
                for used in 0..=entries {
                    let prod = cons + used;
                    let modulo = |count: u64| ring.pointer((count % (2 * entries)) as u32);
                    let (p, c) = (modulo(prod), modulo(cons));
                    assert_eq!(ring.used(p, c), Some(used as u32));
                    assert_eq!(ring.space(p, c), (entries - used) as u32);
                    assert_eq!(ring.is_empty(p, c), used == 0);
                    assert_eq!(ring.is_full(p, c), used == entries);
                    assert_eq!(u64::from(ring.index(p)), prod % entries);
                    for step in 0..=entries {
                        assert_eq!(ring.advance(p, step as u32), modulo(prod + step));
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_queue_is_not_an_empty_one() {
        let ring = Ring::new(3);
        let cons = ring.pointer(5);
        let prod = ring.advance(cons, 8);
        assert_eq!(ring.index(prod), ring.index(cons));
        assert!(ring.is_full(prod, cons) && !ring.is_empty(prod, cons));
    }

    #[test]
    fn flags_beside_the_pointer_are_ignored_and_nonsense_is_no_space() {
        let ring = Ring::new(3);
        assert_eq!(ring.pointer(0x8100_000b).get(), 0xb);
        assert_eq!(ring.used(ring.pointer(0), ring.pointer(3)), None);
        assert_eq!(ring.space(ring.pointer(0), ring.pointer(3)), 0);
    }
}
