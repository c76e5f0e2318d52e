//! Ranges of physical addresses.

use palisade_hal::PhysAddr;

/// A range of physical addresses, in bytes. Its end never exceeds 2^64 − 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    base: u64,
    size: u64,
}

impl Range {
    /// A range of `size` bytes from `base`; `None` if it is empty or its end
    /// does not fit 64 bits.
    pub const fn new(base: u64, size: u64) -> Option<Self> {
        if size == 0 || base.checked_add(size).is_none() {
            return None;
        }
        Some(Self { base, size })
    }

    /// First address.
    pub const fn base(&self) -> PhysAddr {
        PhysAddr::new(self.base)
    }

    /// First address, as a number.
    pub const fn start(&self) -> u64 {
        self.base
    }

    /// Length in bytes, at least 1.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// One past the last address.
    pub const fn end(&self) -> u64 {
        // Cannot wrap: checked by `new`.
        self.base.wrapping_add(self.size)
    }

    /// Whether `address` lies inside.
    pub const fn contains(&self, address: u64) -> bool {
        self.base <= address && address < self.end()
    }

    /// Whether all of `other` lies inside.
    pub const fn encloses(&self, other: &Range) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }

    /// Whether the two share an address.
    pub const fn overlaps(&self, other: &Range) -> bool {
        self.base < other.end() && other.base < self.end()
    }
}

/// Memory that must not be given to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Where it is.
    pub range: Range,
    /// The device tree says `no-map`: it must not even be mapped.
    pub no_map: bool,
}
