//! Sizes of the SMMU's own structures, as a guest hands them over.

/// Bytes of a stream table entry (IHI 0070 §5.2).
pub const STREAM_ENTRY_BYTES: usize = 64;

/// Bytes of a command (IHI 0070 §4.1.1).
pub const COMMAND_BYTES: usize = 16;
