//! What can be wrong with tables: which one, where in it, and what to do.

use core::fmt;

/// The four letters that a table begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl Signature {
    /// The root pointer, whose own signature is longer.
    pub const RSDP: Self = Self(*b"RSDP");
    /// The list of all tables.
    pub const XSDT: Self = Self(*b"XSDT");
    /// Fixed hardware description.
    pub const FADT: Self = Self(*b"FACP");
    /// Interrupt controllers and cores.
    pub const MADT: Self = Self(*b"APIC");
    /// The generic timer.
    pub const GTDT: Self = Self(*b"GTDT");
    /// PCIe configuration space.
    pub const MCFG: Self = Self(*b"MCFG");
    /// The console.
    pub const SPCR: Self = Self(*b"SPCR");
    /// Debug ports.
    pub const DBG2: Self = Self(*b"DBG2");
    /// Which device is behind which SMMU and ITS.
    pub const IORT: Self = Self(*b"IORT");

    /// The name that people use.
    pub const fn name(self) -> &'static str {
        match &self.0 {
            b"RSDP" => "RSDP",
            b"XSDT" => "XSDT",
            b"FACP" => "FADT",
            b"APIC" => "MADT",
            b"GTDT" => "GTDT",
            b"MCFG" => "MCFG",
            b"SPCR" => "SPCR",
            b"DBG2" => "DBG2",
            b"IORT" => "IORT",
            _ => "table",
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why the tables cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("ACPI {table}, offset {offset:#x}: {what}: {fault}; {}", fault.remedy())]
pub struct Error {
    /// The table.
    pub table: Signature,
    /// Where in it, in bytes.
    pub offset: u32,
    /// Which structure or field.
    pub what: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// Nothing can be read at the physical address that leads to it.
    #[error("no readable memory at {0:#x}")]
    Unreadable(u64),
    /// The bytes there are something else.
    #[error("another signature")]
    Signature,
    /// Its bytes do not add up to 0.
    #[error("its checksum is wrong")]
    Checksum,
    /// It ends before, or reaches beyond, what holds it.
    #[error("a length of {0} does not fit")]
    Length(u64),
    /// There are more than Palisade keeps.
    #[error("more than {0}")]
    TooMany(usize),
    /// A revision that lacks what is needed.
    #[error("revision {0} is too old")]
    Revision(u8),
    /// A value that cannot be right.
    #[error("a value of {0:#x} cannot be right")]
    Value(u64),
}

impl Fault {
    /// What can be done about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Missing | Self::Revision(_) => {
                "update the firmware, or let it hand over a device tree"
            }
            Self::TooMany(_) => "this machine is larger than Palisade supports",
            Self::Unreadable(_) | Self::Signature | Self::Checksum | Self::Length(_) => {
                "the firmware's tables are damaged: update it, or let it hand over a device tree"
            }
            Self::Value(_) => "report it to the firmware's vendor with the table's bytes",
        }
    }
}
