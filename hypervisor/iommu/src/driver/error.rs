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

/// What a driver answers when it could not do what it was asked.
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
    /// The hardware cannot do it; the word names the missing feature.
    #[error("not supported by this IOMMU: {0}")]
    Unsupported(&'static str),
    /// An argument is malformed (alignment, width); the word names it.
    #[error("bad argument: {0}")]
    Argument(&'static str),
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
