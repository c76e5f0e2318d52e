//! Errors of a driver.

use palisade_hal::StreamId;

/// Why plain words of a guest were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A configuration that a guest may not choose.
    #[error("configuration not allowed to a guest")]
    Configuration,
    /// A field holds a reserved or unsupported value.
    #[error("reserved or unsupported field value")]
    Field,
    /// A command that a guest may not give.
    #[error("command not allowed to a guest")]
    Opcode,
    /// The stream named is not one of the guest's.
    #[error("stream not owned by the guest")]
    Stream,
}

/// What an IOMMU may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum Feature {
    #[error("stage 1")]
    StageOne,
    #[error("stage 2")]
    StageTwo,
    #[error("substreams")]
    Substreams,
    #[error("nested translation")]
    Nested,
    #[error("stall")]
    Stall,
    #[error("ATS with forced stalls")]
    StalledAts,
    #[error("hardware update")]
    HardwareUpdate,
}

/// What an argument may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum Argument {
    #[error("VMID")]
    Vmid,
    #[error("ASID")]
    Asid,
    #[error("substream")]
    Substream,
    #[error("VTCR")]
    Vtcr,
    #[error("T0SZ")]
    T0sz,
    #[error("granule")]
    Granule,
    #[error("PS")]
    Ps,
    #[error("IPS")]
    Ips,
    #[error("output size")]
    OutputSize,
    #[error("root")]
    Root,
    #[error("root alignment")]
    RootAlignment,
}

/// What a driver answers when it could not do what it was asked. Eight bytes: it passes through
/// many hands, in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// A synchronisation ran into its deadline: the streams concerned abort, what they could
    /// reach stays quarantined, the device counts as dead.
    #[error("stream {0}: synchronisation timed out, stream aborts")]
    Timeout(StreamId),
    /// A synchronisation that concerned no single stream ran into its deadline.
    #[error("invalidation timed out")]
    InvalidationTimeout,
    /// The instance answers no more (service failure, time-out of a queue): everything behind
    /// it counts as aborting, nothing is clean.
    #[error("IOMMU is dead")]
    Dead,
    /// The StreamID is outside the stream table.
    #[error("stream {0} is outside the stream table")]
    UnknownStream(StreamId),
    /// The operation does not fit what the stream does now.
    #[error("stream {0}: operation does not fit its present configuration")]
    State(StreamId),
    /// The hardware cannot do it; the missing feature.
    #[error("not supported by this IOMMU: {0}")]
    Unsupported(Feature),
    /// An argument is malformed (alignment, width).
    #[error("bad argument: {0}")]
    Argument(Argument),
    /// What a guest said was refused; `word` is the index of the 64-bit word to blame.
    #[error("guest word {word}: {reason}")]
    Refused {
        /// Index of the word.
        word: u8,
        /// Why.
        reason: Refusal,
    },
    /// No memory for tables.
    #[error("out of table memory")]
    NoMemory,
}

const _: () = assert!(size_of::<Result<(), DriverError>>() == 8);
