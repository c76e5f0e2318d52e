//! A virtual machine: memory map, stage 2, vCPUs, exits, vGIC, timer, PSCI, PCI host, passthrough.
//!
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod hypercall;
pub mod its;
pub mod layout;
pub mod load;
pub mod memory;
pub mod mmio;
pub mod passthrough;
pub mod pci;
pub mod pl011;
pub mod psci;
mod rate;
pub mod sysreg;
pub mod vgic;

