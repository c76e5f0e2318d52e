//! The hypervisor's own main line: init order, per-CPU data, IRQ dispatch, log, panic, posture report.
//!
//! [`start`] is where the first core enters, [`secondary`] every other. The
//! order of things is a list that can be read: see `init`.
#![no_std]
// Opted in: the UART pointer, the heap's memory, the direct map over RAM and
// the walk along frame pointers, each in one place.
#![allow(unsafe_code)]

extern crate alloc;

mod machine;
mod operator;
mod panic;
mod start;
mod vms;
mod wire;

pub use panic::fatal::fatal;
pub use start::init::{start, start_with_all_formats};
pub use start::refuse::refuse;
pub use start::secondaries::secondary;
pub use wire::mux;
