//! The hypervisor's own main line: init order, per-CPU data, IRQ dispatch, log, panic, posture report.
//!
//! [`start`] is where the first core enters, [`secondary`] every other. The
//! order of things is a list that can be read: see `init`.
#![no_std]
// Opted in: the UART pointer, the heap's memory, the direct map over RAM and
// the walk along frame pointers, each in one place.
#![allow(unsafe_code)]

extern crate alloc;

mod backtrace;
mod bundle;
mod console;
mod context;
mod devices;
mod devicetree;
mod error;
mod fault;
mod footprint;
mod formats;
mod heap;
mod host;
mod hotplug;
mod init;
mod interface;
mod interrupts;
mod logger;
mod memory;
mod messages;
pub mod mux;
mod operator;
mod panic;
mod pcie;
mod placement;
mod plain;
mod posture;
mod provoke;
mod refuse;
mod report;
mod secondaries;
mod slot;
mod smmus;
mod system;
mod unit;
mod watchdog;
mod work;

pub use init::{start, start_with_all_formats};
pub use panic::fatal;
pub use refuse::refuse;
pub use secondaries::secondary;
