//! A virtual machine: memory map, stage 2, vCPUs, exits, vGIC, timer, PSCI, PCI host, passthrough.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod its;
pub mod mmio;
pub mod vgic;
