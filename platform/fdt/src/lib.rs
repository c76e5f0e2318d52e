//! Flattened device tree bytes to BoardInfo, validated before anything trusts them.
//!
//! [`Tree::new`] checks every byte that the `fdt` crate will later take for
//! granted; [`board`] then reads the machine out of the tree. Three-cell
//! interrupts and the `*-map` properties, which the crate does not know, are
//! read here.
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod blob;
mod board;
mod cells;
mod cpu;
mod device;
mod error;
mod gic;
mod interrupt;
mod memory;
mod pcie;
mod power;
mod smmu;
mod tree;
mod uart;

pub use blob::{Fault, FaultKind, MAX_DEPTH, MAX_SIZE, compact, validate};
pub use board::board;
pub use cells::Cells;
pub use error::{Error, Path, Problem};
pub use tree::{Node, Tree, Visit};
