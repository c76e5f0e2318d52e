//! The virtual Interrupt Translation Service of a VM (IHI 0069, 5.3 and 12.19).
//!
//! The guest programs it as it would the real one: tables (which are not looked at; their
//! contents are IMPLEMENTATION DEFINED and live here instead), a queue of commands in its own
//! memory, configuration bytes of LPIs. What a command means for the physical ITS and for the
//! virtual CPU interfaces goes through [`Backend`].
//!
//! A guest can name only DeviceIDs of its own devices, and only events of tables that fit them,
//! so it can raise only its own LPIs. A command that makes no sense is skipped and counted.
//!
//! One command can concern every LPI of the VM. So the queue is worked on in pieces, each with at
//! most one wait for the physical ITS, and an exit does as many as its [`Budget`] has room for. The
//! rest is done before the vCPUs go in again: interrupts, a stop and the operator come between.

mod backend;
mod budget;
mod device;
mod devices;
mod execute;
mod job;
mod messages;
mod registers;
mod world;
#[cfg(test)]
mod world_tests;

#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use budget::{Budget, WORK_PER_EXIT};
pub use device::{CONTROL_BYTES, ItsDevice};
pub use devices::{Event, MAX_EVENT_BITS, PIECE, Route};
pub use messages::Messages;
pub use registers::VirtualIts;
pub use world::Sender;

/// First LPI (IHI 0069, 2.2).
pub const FIRST_LPI: u32 = 8192;
