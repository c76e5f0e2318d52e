//! The only crate that knows the CPU: barriers, caches, TLBs, system registers,
//! the [`Mmio`](mmio::Mmio) pointer, addresses, ids and time.
//!
//! `aarch64/` and `fake/` are twins: the same modules with the same names, one
//! of which is chosen here and nowhere else. Code above this crate cannot tell
//! which one it runs on; the fake tells an observer ([`fake::observe`]) of every
//! barrier, cache operation and TLB invalidation, with its call site.
//!
//! For an application of UEFI, which runs before the hypervisor, there are addresses and ids only.
#![no_std]
// Opted in: this crate is where instructions that Rust cannot express live.
#![allow(unsafe_code)]

#[cfg(not(any(target_os = "uefi", all(target_arch = "aarch64", target_os = "none"))))]
extern crate std;

mod addr;
#[cfg(not(target_os = "uefi"))]
mod context;
#[cfg(not(target_os = "uefi"))]
pub mod controls;
#[cfg(not(target_os = "uefi"))]
mod env;
mod id;
#[cfg(not(target_os = "uefi"))]
pub mod lock;
#[cfg(not(target_os = "uefi"))]
pub mod machine;
#[cfg(not(target_os = "uefi"))]
mod reg;

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod aarch64;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
use aarch64 as twin;

#[cfg(not(any(target_os = "uefi", all(target_arch = "aarch64", target_os = "none"))))]
pub mod fake;
#[cfg(not(any(target_os = "uefi", all(target_arch = "aarch64", target_os = "none"))))]
use fake as twin;

pub use addr::{Iova, Ipa, PhysAddr};
#[cfg(not(target_os = "uefi"))]
pub use env::{Deadline, Env};
pub use id::{Asid, StreamId, SubstreamId, Vmid};
#[cfg(not(target_os = "uefi"))]
pub use twin::{barrier, cache, copy, cpu, gic, pmu, tlb};

#[cfg(not(target_os = "uefi"))]
/// Memory-mapped registers: the pointer and the typed offsets.
pub mod mmio {
    pub use crate::reg::{Reg, Word};
    pub use crate::twin::mmio::Mmio;
}

#[cfg(not(target_os = "uefi"))]
/// Guests: the world switch, what they see of the core, the virtual GIC CPU interface.
pub mod guest {
    pub use crate::context::{El1, Exit, ExitKind, GuestContext, Ich, Stage2, hcr};
    pub use crate::twin::guest::*;
}
