//! What the frame allocator refuses.

use palisade_hal::PhysAddr;
use thiserror::Error;

/// Why frames could not be given or taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// No free block of this order.
    #[error("out of memory: no free block of 2^{order} frames")]
    OutOfMemory {
        /// log2 of the wanted length in frames.
        order: u8,
    },
    /// The address is not memory of this allocator, or not what it is said to be.
    #[error("{0} is not memory of that use and owner")]
    NotOurs(PhysAddr),
    /// A walker or device was told of the block: it needs a proof.
    #[error("{0} is exposed: it is released against a proof only")]
    Exposed(PhysAddr),
    /// The memory map has no usable range.
    #[error("no usable memory range")]
    NoMemory,
    /// What is free is set aside for others, or a reserve is used up.
    #[error("{wanted} frames are wanted, {available} are available")]
    TooFew {
        /// Frames wanted.
        wanted: u64,
        /// Frames available to who asks.
        available: u64,
    },
    /// All agents are registered.
    #[error("too many agents")]
    TooManyAgents,
}
