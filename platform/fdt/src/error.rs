//! What can be wrong with a device tree whose bytes are well formed.

use arrayvec::ArrayString;
use palisade_board::{Problem, Reason};

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
    #[error("device tree: {node}: more than {most} {what}")]
    TooMany {
        /// The node.
        node: &'a str,
        /// Of what.
        what: &'static str,
        /// How many it keeps.
        most: usize,
    },
    /// There is no node of this path.
    #[error("device tree: {0}: no such node")]
    NoSuchNode(&'a str),
    /// The node of this path is disabled.
    #[error("device tree: {0}: the node is disabled")]
    Disabled(&'a str),
}

impl Error<'_> {
    /// The same as the reason why a part of a board is left out.
    pub(crate) fn reason(&self) -> Reason {
        match *self {
            Error::Property { property, problem, .. } => Reason::Property { property, problem },
            Error::TooMany { most, .. } => Reason::TooMany(most),
            _ => Reason::Dangling,
        }
    }
}
