//! BoardInfo: what a machine has; types, and how its texts are divided.
//!
//! The reader (`palisade-fdt`) fills these in from the firmware's device tree;
//! everything above reads them and hard-codes nothing. Every list has a limit; what
//! exceeds it is left out with a [`Note`], or merged where it must not be lost.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cpu;
mod device;
mod gic;
mod info;
mod interrupt;
mod note;
mod pcie;
mod power;
mod range;
mod smmu;
pub mod text;
mod uart;

pub use cpu::{Conduit, Cpu, EnableMethod};
pub use device::{BusMaster, MAX_DEVICE_PATH, PlainDevice};
pub use gic::{Gic, Its, MAX_ITS, MAX_REDISTRIBUTOR_REGIONS, Version};
pub use info::{BoardInfo, Chosen, MAX_CPUS, MAX_MEMORY, MAX_PCIE, MAX_RESERVED, MAX_SMMUS};
pub use interrupt::{Interrupt, Timer, Trigger};
pub use note::{MAX_NOTES, Note, Part, Problem, Reason};
pub use pcie::{
    IdMap, IdMapEntry, InterruptMapEntry, MAX_ID_MAP, MAX_INTERRUPT_MAP, MAX_WINDOWS, PcieHost,
    Space, Window,
};
pub use power::PowerManager;
pub use range::{Range, Reservation};
pub use smmu::Smmu;
pub use uart::{Uart, UartKind};
