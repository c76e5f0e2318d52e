//! What no driver may do, even where hardware would let it pass.

/// One thing the driver did wrong, with the values that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverFault {
    /// A base address whose low bits the hardware ignores (6.3.24, 6.3.26, 5.2, 3.5).
    MisalignedBase {
        /// The structure.
        what: &'static str,
        /// The address as programmed.
        address: u64,
        /// The alignment it needs, in bytes.
        alignment: u64,
    },
    /// A table or queue outside the implemented output address size (3.4.3).
    OutOfRange {
        /// The structure.
        what: &'static str,
        /// The address as programmed.
        address: u64,
    },
    /// Bits that must be written as zero were not.
    Res0 {
        /// The register, structure or command.
        what: &'static str,
        /// The offending bits.
        bits: u64,
    },
    /// A reserved value of a field.
    Reserved {
        /// The register or structure and its field.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// A register written while it was read-only because something is enabled.
    WrittenWhileEnabled {
        /// The register's offset.
        offset: u64,
    },
    /// A register that is always read-only was written.
    ReadOnly {
        /// The register's offset.
        offset: u64,
    },
    /// An access to no register.
    NoRegister {
        /// The offset.
        offset: u64,
    },
    /// A 32-bit register accessed with another width, or a misaligned access.
    Width {
        /// The register's offset.
        offset: u64,
        /// The width in bytes.
        width: u32,
    },
    /// A CR0 or IRQ_CTRL field changed before its last change was acknowledged (6.3.9).
    UpdateInProgress {
        /// The register's offset.
        offset: u64,
        /// The fields still in flux.
        bits: u32,
    },
    /// GBPA written without Update, or while Update was 1 (6.3.14).
    GbpaUpdate {
        /// The value written.
        value: u32,
    },
    /// GERRORN acknowledged an error that is not active (6.3.20).
    AcknowledgedNothing {
        /// The bits.
        bits: u32,
    },
    /// A queue index that makes the queue hold more than its size, or less than nothing.
    QueueIndex {
        /// The queue.
        what: &'static str,
        /// The producer index with its wrap bit.
        prod: u32,
        /// The consumer index with its wrap bit.
        cons: u32,
    },
    /// A command that the implementation refuses; CERROR_ILL follows (4.1.3).
    IllegalCommand {
        /// The command.
        command: [u64; 2],
        /// Why.
        why: &'static str,
    },
    /// A range invalidation whose alignment makes its effect UNPREDICTABLE (4.4.1.1).
    UnpredictableRange {
        /// The command.
        command: [u64; 2],
    },
    /// A parameter out of range: the command may do nothing (4.1.7).
    OutOfRangeParameter {
        /// The command.
        command: [u64; 2],
        /// Which.
        what: &'static str,
    },
    /// Two TLB entries of different size answer for one address (3.17, BBML).
    BreakBeforeMake {
        /// The input address.
        address: u64,
    },
    /// A feature switched on without what it needs.
    Sequence {
        /// What was missed.
        what: &'static str,
    },
    /// CMD_RESUME or CMD_STALL_TERM for a stall that does not exist (4.7.1).
    NoSuchStall {
        /// The stream.
        stream: u32,
        /// The tag.
        tag: u16,
    },
    /// A reserved bit in a translation table descriptor.
    Descriptor {
        /// Where the descriptor is.
        address: u64,
        /// The descriptor.
        value: u64,
    },
}
