//! The IORT (DEN0049, E.e): which device is behind which SMMU and which ITS.

mod mapping;
mod node;
mod table;

pub use mapping::Mapping;
pub use node::{NamedComponent, Node, NodeKind, ReservedMemory, RootComplex, SmmuNode};
pub use table::Iort;
