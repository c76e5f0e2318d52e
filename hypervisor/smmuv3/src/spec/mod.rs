//! The architecture's data structures as types: fields with the names and the bit positions of
//! the manual (IHI 0070), no algorithms.

mod cd;
mod cmd;
mod event;
mod field;
mod ste;

pub use cd::{Cd, L1cd};
pub use cmd::{Cmd, Cs, Opcode, PriResponse, ResumeAction};
pub use event::{EventRecord, PageRequest};
pub use field::Field;
pub use ste::{Config, Eats, L1std, S1Dss, S1Fmt, Ste};

/// A configuration structure as hardware reads it: eight little-endian 64-bit words.
pub type Words = [u64; 8];
