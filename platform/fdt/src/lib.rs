//! Flattened device tree bytes to BoardInfo, validated before anything trusts them.
//!
//! [`Tree::new`] checks every byte that the `fdt` crate will later take for
//! granted; [`board`] then reads the machine out of the tree. Three-cell
//! interrupts and the `*-map` properties, which the crate does not know, are
//! read here. What nobody needs and cannot be read is left out with a note;
//! [`conduit`] and [`console`] need no heap and cannot fail, so that a tree that
//! is refused can still be said so and the machine be turned off.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod blob;
mod board;
mod cells;
mod controllers;
mod cpu;
mod device;
mod error;
mod gic;
mod id_map;
mod interrupt;
mod map;
mod memory;
mod notes;
mod pcie;
mod power;
mod reserved;
mod smmu;
mod tree;
mod uart;
mod window;

pub use blob::{Fault, FaultKind, MAX_DEPTH, MAX_SIZE, compact, validate};
pub use board::{board, bootargs};
pub use cells::Cells;
pub use cpu::conduit;
pub use error::{Error, Path};
pub use palisade_board::Problem;
pub use tree::{Node, Tree, Visit};
pub use uart::console;
