//! PCI Express: ECAM, topology, capabilities, BARs, resets, requester groups; no notion of a VM.
//!
//! [`Topology::enumerate`] numbers the buses, places every BAR and opens the
//! bridges' windows, or keeps them as firmware set them, as the host says. Everything that
//! a device says is taken with distrust: lists are bounded, sizes checked, waits
//! have deadlines.
//!
//! Register names and sections are those of the PCI Express Base Specification,
//! revision 5.0.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
extern crate std;

mod address;
mod ats;
mod bar;
mod bridge;
mod capability;
mod ecam;
mod enumerate;
mod error;
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
pub mod fake;
mod function;
mod group;
mod idle;
mod interrupt;
mod keep;
mod msix;
mod place;
pub mod regs;
mod reset;
mod topology;

pub use address::Address;
pub use ats::{set_ats, translates};
pub use bar::{Bar, BarKind, MAX_BARS};
pub use capability::{Capability, ExtendedCapability, MAX_CAPABILITIES};
pub use ecam::{Config, Ecam};
pub use error::{Error, Room};
pub use function::{Express, Function, Header, PortType};
pub use group::Streams;
pub use idle::{IdleProof, TRANSACTIONS_MS};
pub use msix::MsixTable;
pub use reset::{READY_MS, RESET_WAIT_MS, ResetMethod};
pub use topology::{MAX_FUNCTIONS, Topology};
