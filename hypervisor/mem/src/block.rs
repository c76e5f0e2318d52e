//! A run of frames with one owner.

use core::fmt;

use palisade_hal::PhysAddr;

use crate::tag::FRAME_BYTES;

/// An owned run of 2^order frames, aligned to its length. Not freed on drop:
/// give it back by [`Frames::free`](crate::Frames::free) or [`Frames::detach`](crate::Frames::detach).
#[derive(PartialEq, Eq)]
#[must_use = "a dropped block is lost"]
pub struct Block {
    pub(crate) index: u32,
    pub(crate) order: u8,
    pub(crate) pa: PhysAddr,
}

impl Block {
    /// Its first byte.
    pub fn start(&self) -> PhysAddr {
        self.pa
    }

    /// log2 of its length in frames.
    pub fn order(&self) -> u8 {
        self.order
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        FRAME_BYTES << self.order
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} + {:#x})", self.pa, self.bytes())
    }
}
