//! The Arm SMMUv3 driver (IHI 0070): registers, queues, stream and context-descriptor tables,
//! invalidation.
//!
//! It reads in the manual's order: [`features`] (§6.3.1), [`spec`] (§4, §5, §7 as types),
//! [`encode`] and [`used`] (§5 as pure functions), [`entry`] (§3.21), [`ring`] and the queues
//! (§3.5), [`range`] (§4.4).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command;
pub mod decode;
pub mod encode;
pub mod entry;
pub mod features;
pub mod range;
mod regs;
pub mod ring;
pub mod spec;
pub mod used;

pub use features::{Features, IdRegisters, Unsupported};
