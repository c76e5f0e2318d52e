//! Why the loader returns to the firmware.

use alloc::string::String;

/// What stands in the way, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The firmware runs applications below the hypervisor's level.
    #[error("this is EL{0}, and a hypervisor needs EL2: switch virtualisation on in the firmware")]
    Level(u64),
    /// A file cannot be read.
    #[error("{name} cannot be read ({why}): write the volume again")]
    File {
        /// The file.
        name: &'static str,
        /// What the firmware says.
        why: String,
    },
    /// A file is not the one that was packed.
    #[error("{0} is damaged or another one's: its SHA-256 is not the one in SHA256SUMS")]
    Sum(&'static str),
    /// A file that has no sum.
    #[error("{0} is not listed in SHA256SUMS: write the volume again")]
    NoSum(&'static str),
    /// The command line is no text.
    #[error("the command line is no ASCII text")]
    CommandLine,
    /// The hypervisor is no arm64 Image.
    #[error("the hypervisor is no arm64 Image: {0}")]
    Image(&'static str),
    /// Neither ACPI nor a device tree.
    #[error(
        "the firmware describes the machine neither by ACPI 2.0 nor by a device tree: see its settings"
    )]
    NoDescription,
    /// The tables cannot be used.
    #[error("{0}")]
    Tables(String),
    /// What the tables say has no device tree.
    #[error("{0}")]
    Tree(String),
    /// The memory at the hypervisor's own address is not free.
    #[error("no room for the hypervisor at {base:#x}, {size:#x} bytes: {why}")]
    Room {
        /// Where it is linked.
        base: u64,
        /// How much it takes.
        size: u64,
        /// What the firmware says.
        why: String,
    },
    /// The firmware has no memory left, or no memory map.
    #[error("the firmware gives no memory for {what}: {why}")]
    Memory {
        /// What for.
        what: &'static str,
        /// What the firmware says.
        why: String,
    },
    /// Registers that must be written before the hand-over are not mapped.
    #[error("the firmware has not mapped {what} at {at:#x}, so that it cannot be made quiet")]
    NotMapped {
        /// Whose registers.
        what: &'static str,
        /// Where.
        at: u64,
    },
}
