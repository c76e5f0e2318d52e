//! The SMMUv3 architecture's words as types: structures, commands, events and registers with the
//! names, bit positions and offsets of the manual (IHI 0070). No algorithms.
//!
//! The driver of the physical SMMU and the virtual SMMU of a guest speak this language, and see
//! nothing else of each other.
#![no_std]
#![forbid(unsafe_code)]

mod cd;
mod cmd;
mod event;
mod field;
pub mod register;
mod ste;

pub use cd::{Cd, L1cd};
pub use cmd::{Cmd, Cs, Opcode, PriResponse, ResumeAction};
pub use event::{EventNumber, EventRecord, PageRequest};
pub use field::Field;
pub use ste::{Config, Eats, L1std, S1Dss, S1Fmt, Ste};

/// A configuration structure as hardware reads it: eight little-endian 64-bit words.
pub type Words = [u64; 8];
