//! ACPI tables to [`BoardInfo`](palisade_board::BoardInfo), and to a device tree that says the same.
//!
//! [`Tables::new`] finds the tables from the root pointer, through a seam that gives bytes at
//! physical addresses, and checks each one's length and checksum; [`board`] reads the machine out
//! of them; [`tree`] writes it down as the device tree that the hypervisor takes. Nothing here
//! trusts a length, a count or an offset: every structure is read through [`Bytes`], which knows
//! its end. What nobody needs and cannot be read is left out with a note.
//!
//! Sections are those of ACPI 6.5 where nothing else is said; the IORT's are those of DEN0049
//! (revision E.e).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod board;
mod bytes;
mod console;
mod cores;
mod error;
mod fadt;
mod gic;
mod interrupt;
mod iort;
mod map;
mod mcfg;
mod memory;
mod notes;
mod pcie;
mod resources;
mod tables;
mod timer;
mod tree;

pub use board::{Firmware, board};
pub use bytes::Bytes;
pub use error::{Error, Fault, Signature};
pub use iort::{
    Iort, Mapping, NamedComponent, Node, NodeKind, ReservedMemory, RootComplex, SmmuNode,
};
pub use memory::{EfiMemory, usable};
pub use resources::windows;
pub use tables::{MAX_TABLE, MAX_TABLES, Physical, Tables};
pub use tree::{TreeError, tree};
