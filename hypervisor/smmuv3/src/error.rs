//! Errors of the driver's own making.

use palisade_hal::StreamId;
use thiserror::Error;

use crate::features::Unsupported;

/// Why an SMMU could not be brought up. It aborts every stream then, as far as it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BringUpError {
    /// The SMMU lacks something.
    #[error("unsupported SMMU: {0}")]
    Unsupported(#[from] Unsupported),
    /// A register did not reach the value written to it in time.
    #[error("{0} did not acknowledge in time")]
    Register(&'static str),
    /// The first invalidations failed.
    #[error("initial invalidation: {0}")]
    Invalidation(QueueError),
    /// No memory for tables or queues.
    #[error("out of memory for tables and queues")]
    NoMemory,
    /// Memory for a table or a queue lies beyond what the SMMU can address (§3.4).
    #[error("{0}: its memory lies beyond the output size, IDR5.OAS")]
    OutputSize(&'static str),
    /// The ledger of proofs has no room for one more IOMMU.
    #[error("more IOMMUs than the ledger of proofs has room for")]
    Agents,
    /// The register block is shorter than the two pages of §6.2.
    #[error("register block is too short")]
    Registers,
}

/// Why commands did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum QueueError {
    /// CMD_SYNC was not passed by its deadline; what it should have completed is unknown.
    #[error("CMD_SYNC timed out")]
    Timeout,
    /// CERROR_ILL: the command with this opcode was refused and replaced by a CMD_SYNC.
    #[error("illegal command {0:#04x}")]
    Illegal(u8),
    /// A device TLB did not complete an invalidation: CERROR_ATC_INV_SYNC, or the deadline. The
    /// stream is that of the first such device.
    #[error("device TLB of stream {0} did not complete an invalidation in time")]
    DeviceTlb(StreamId),
    /// The queue is beyond repair: aborts on every fetch, impossible indexes, service failure.
    #[error("command queue is dead")]
    Dead,
}
