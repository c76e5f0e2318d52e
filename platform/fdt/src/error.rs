//! What can be wrong with a device tree whose bytes are well formed.

use arrayvec::ArrayString;

use crate::Fault;

/// The path of a node, cut off where it is longer.
pub type Path = ArrayString<{ palisade_board::MAX_DEVICE_PATH }>;

/// Why a device tree cannot be used. Nodes are named by their own names with unit
/// address, borrowed from the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error<'a> {
    /// Its bytes are malformed.
    #[error(transparent)]
    Malformed(#[from] Fault),
    /// Something no machine can do without is missing.
    #[error("device tree: no {0}")]
    Missing(&'static str),
    /// A property cannot be used.
    #[error("device tree: {node}: property {property}: {problem}")]
    Property {
        /// The node.
        node: &'a str,
        /// The property's name.
        property: &'static str,
        /// What is wrong with it.
        problem: Problem,
    },
    /// There are more of them than Palisade keeps.
    #[error("device tree: {node}: too many {what}")]
    TooMany {
        /// The node.
        node: &'a str,
        /// Of what.
        what: &'static str,
    },
    /// Memory ranges overlap.
    #[error("device tree: memory ranges overlap at {0:#x}")]
    MemoryOverlap(u64),
    /// There is no node of this path.
    #[error("device tree: {0}: no such node")]
    NoSuchNode(&'a str),
    /// The node of this path is disabled.
    #[error("device tree: {0}: the node is disabled")]
    Disabled(&'a str),
}

/// What is wrong with a property.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum Problem {
    #[error("missing")]
    Missing,
    #[error("its length does not fit the number of cells")]
    Length,
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
}
