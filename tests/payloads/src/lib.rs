//! Bare-metal guests and what they share: a flat arm64 image that runs at EL1 with an identity
//! map, talks on its PL011, and powers off through PSCI. They run as Palisade's guests and, for
//! comparison, directly on QEMU's `virt` with `-kernel`.
//!
//! A payload says `ready NAME` when it takes commands: one line each on its console, answered by
//! one line that starts with `ok` or `err`.
#![no_std]
#![allow(unsafe_code)]

pub mod command;
pub mod console;
pub mod edu;
pub mod gic;
pub mod hypercall;
pub mod memory;
pub mod pattern;
pub mod pci;
pub mod platform;
pub mod power;
pub mod smmu;
pub mod stage1;
pub mod start;
pub mod time;
pub mod virtio;
