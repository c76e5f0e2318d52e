//! What a machine has and Palisade does without, and why: each is said once in the log.

use thiserror::Error;

/// Most notes that are kept; further ones are counted.
pub const MAX_NOTES: usize = 64;

/// A part of the machine that is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{node}: {part}: {reason}")]
pub struct Note<'a> {
    /// The node's name with its unit address, borrowed from the device tree.
    pub node: &'a str,
    /// What is left out.
    pub part: Part,
    /// Why.
    pub reason: Reason,
}

/// What is left out of a board.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Error)]
pub enum Part {
    /// A core: it stays off.
    #[error("this core stays off")]
    Core,
    /// PSCI: neither cores nor the machine are switched through it.
    #[error("PSCI is not used")]
    Psci,
    /// RAM.
    #[error("this RAM is not used")]
    Memory,
    /// A region with redistributors: its cores cannot be taken into service.
    #[error("these redistributors are not used, their cores stay off")]
    Redistributors,
    /// The maintenance interrupt's wire: the one of the architecture's recommendation is taken.
    #[error("its maintenance interrupt is not taken from here")]
    Maintenance,
    /// A translation service: what it serves sends no messages.
    #[error("no messages through it")]
    Messages,
    /// The serial line.
    #[error("it is no console")]
    Console,
    /// The serial line's interrupt: output only.
    #[error("the console takes no input")]
    ConsoleInput,
    /// The power manager.
    #[error("the power manager is not used")]
    Power,
    /// An SMMU that no `iommu-map` can name: every stream aborts, nothing behind it is assigned.
    #[error("all its streams abort, nothing behind it is assigned")]
    Smmu,
    /// An SMMU whose registers are unknown: nothing behind it is assigned.
    #[error("it CANNOT BE MADE TO ABORT, nothing behind it is assigned")]
    SmmuRegisters,
    /// Interrupts of an SMMU: its events are read when a device is taken back and at the end only.
    #[error("its events are read late, without an interrupt")]
    SmmuInterrupt,
    /// A PCIe host: nothing on it is assigned.
    #[error("no device of this PCIe host is assigned")]
    PcieHost,
    /// A window of a PCIe host.
    #[error("one of its address windows is not used")]
    PcieWindow,
    /// INTx wires of a PCIe host.
    #[error("its devices' wires of interrupts are not used")]
    PcieInterrupts,
    /// The `iommu-map` of a PCIe host: its devices are behind no SMMU that is known.
    #[error("its devices count as behind no SMMU")]
    PcieStreams,
    /// The `msi-map` of a PCIe host: its devices send no messages.
    #[error("its devices send no messages")]
    PcieMessages,
    /// The bundle.
    #[error("there is no bundle")]
    Bundle,
    /// The command line.
    #[error("the command line is not taken")]
    Arguments,
}

/// Why a part is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Reason {
    /// One of its properties cannot be used.
    #[error("property {property}: {problem}")]
    Property {
        /// The property's name.
        property: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A structure of one of the firmware's tables cannot be used.
    #[error("{what} at offset {offset:#x}: {problem}")]
    Entry {
        /// What it is.
        what: &'static str,
        /// Where it stands in the table.
        offset: u32,
        /// What is wrong with it.
        problem: Problem,
    },
    /// There are more than Palisade keeps.
    #[error("more than {0} are not kept")]
    TooMany(usize),
    /// Nothing can name it.
    #[error("it has no phandle, so that no device can be known to be behind it")]
    NoPhandle,
    /// Two have the same name.
    #[error("two nodes have its phandle")]
    Ambiguous,
    /// Palisade has no driver for it.
    #[error("no driver knows it")]
    Unknown,
    /// The node it names is not there, or is disabled.
    #[error("it names no node that is in use")]
    Dangling,
}

/// What is wrong with a property.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum Problem {
    #[error("missing")]
    Missing,
    #[error("its length does not fit the number of cells")]
    Length,
    #[error("a number of cells that cannot be read")]
    Cells,
    #[error("an empty range, or one that ends beyond 64 bits")]
    Range,
    #[error("no CPU address belongs to it")]
    Untranslatable,
    #[error("not a text")]
    Text,
    #[error("an interrupt that is not the GIC's")]
    Interrupt,
    #[error("a value that cannot be right")]
    Value,
    #[error("names a node that does not exist")]
    Phandle,
    #[error("overlaps another of its kind")]
    Overlap,
    #[error("counts N where the specification counts N - 1; the last of each is left out")]
    Count,
    #[error("firmware keeps some of its devices accessing memory; these are left out")]
    Reserved,
}
