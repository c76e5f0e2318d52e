//! What can go wrong, with the address to blame.

use palisade_hal::{Iova, PhysAddr};
use thiserror::Error;

use crate::config::{FormatId, Quirks};

/// Why an operation on a table was refused. Nothing was changed; only an unmap that comes to a
/// corrupt entry ends there, and what it unmapped before is in its gather.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Error {
    /// The size is not one supported page size, or the count is zero.
    #[error("{0:#x} is no page size of this table")]
    PageSize(u64),
    /// The address is not a multiple of the page size.
    #[error("{0} and its target are not aligned to the page size")]
    Unaligned(Iova),
    /// Neither read nor write is permitted.
    #[error("the mapping of {0} permits nothing")]
    NoPermission(Iova),
    /// The input range leaves the table's address space, or wraps around.
    #[error("the range at {0} is outside the input address space")]
    InputRange(Iova),
    /// The output range is beyond the output address size, or wraps around.
    #[error("the range at {0} is outside the output address space")]
    OutputRange(PhysAddr),
    /// Something is mapped there already.
    #[error("{0} is mapped already")]
    Exists(Iova),
    /// No memory for tables.
    #[error("no memory for tables to map {0}")]
    NoMemory(Iova),
    /// The operation would touch part of a block or run, and the policy refuses.
    #[error("{0} lies in a block or run that may not be split")]
    PartialBlock(Iova),
    /// The pages there are not all there, or no block says what they say.
    #[error("the pages at {0} are no block")]
    NotUniform(Iova),
    /// The policy refuses to replace pages by a block.
    #[error("the pages at {0} may not be replaced by a block")]
    Refused(Iova),
    /// An entry is neither invalid nor a leaf nor a pointer to one of our tables.
    #[error("the entry for {iova} at level {level} is corrupt: {word:#x}")]
    Corrupt {
        /// Which address the walk was for.
        iova: Iova,
        /// At which level it stopped.
        level: i8,
        /// What it read there.
        word: u64,
    },
    /// An invalidation that had to complete before going on did not.
    #[error("break before make: {0}")]
    Tlb(#[from] TlbError),
    /// The format cannot do this.
    #[error("this format cannot do that")]
    Unsupported,
}

impl Error {
    /// The class in the numbers that IOMMU interfaces have used for decades:
    /// EINVAL −22, ERANGE −34, EEXIST −17, ENOMEM −12, EIO −5.
    pub const fn errno(self) -> i32 {
        match self {
            Self::PageSize(_)
            | Self::Unaligned(_)
            | Self::NoPermission(_)
            | Self::PartialBlock(_)
            | Self::NotUniform(_)
            | Self::Refused(_)
            | Self::Unsupported => -22,
            Self::InputRange(_) | Self::OutputRange(_) => -34,
            Self::Exists(_) => -17,
            Self::NoMemory(_) => -12,
            Self::Corrupt { .. } | Self::Tlb(_) => -5,
        }
    }
}

/// An invalidation did not complete: whatever it covered may still be cached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{agent} did not complete an invalidation in time")]
pub struct TlbError {
    /// Who did not answer.
    pub agent: &'static str,
}

/// Why there is no such table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// Nothing is registered for the format.
    #[error("{}: not registered", .0.name())]
    Unregistered(FormatId),
    /// The format does not know these quirks, or not in this combination.
    #[error("{}: quirks {:#x} not supported", .0.name(), .1.bits())]
    Quirks(FormatId, Quirks),
    /// No page size of the bitmap is a granule of the format.
    #[error("{}: no granule in {:#x}", .0.name(), .1)]
    PageSizes(FormatId, u64),
    /// The input address size is out of the format's range.
    #[error("{}: input size of {} bits", .0.name(), .1)]
    InputSize(FormatId, u8),
    /// The output address size is not one the format has.
    #[error("{}: output size of {} bits", .0.name(), .1)]
    OutputSize(FormatId, u8),
    /// An option that this format or granule does not have.
    #[error("{}: option not supported", .0.name())]
    Option(FormatId),
    /// No memory for the root.
    #[error("{}: no memory for the root table", .0.name())]
    NoMemory(FormatId),
}
