//! A virtual machine: memory map, stage 2, vCPUs, exits, vGIC, timer, PSCI, PCI host, passthrough.
//!
//! A [`Vm`] is built on a [`GuestMemory`](memory::GuestMemory), loaded by [`load`](load::load),
//! started by [`Vm::boot`], and each of its cores calls [`vcpu::run`], which comes back when the
//! VM has ended. What the vCPUs need of the hypervisor around them is [`vcpu::Host`]. Everything
//! a guest says is hostile: nothing here panics, loops or logs without a bound.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod counters;
pub mod flash;
pub mod hypercall;
pub mod its;
pub mod layout;
pub mod load;
mod machine;
pub mod memory;
pub mod mmio;
pub mod passthrough;
pub mod pci;
pub mod pl011;
pub mod psci;
mod rate;
pub mod smmu;
pub mod sysreg;
pub mod vcpu;
pub mod vgic;
mod wire;

pub use counters::{CAUSES, Counters};
pub use machine::{Life, Vm, VmConfig, VmError, Wires};
pub use rate::RateLimit;
pub use wire::WireError;
