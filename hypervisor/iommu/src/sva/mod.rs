//! Shared virtual addressing: a device translates by the tables of a process.
//!
//! A [`Process`] is whatever has an address space that devices may share: a guest's process,
//! bound by a hypercall. [`bind`] lets one substream of a device translate by it and answers a
//! [`Bond`]; [`unbind`] ends that; [`rebind`] moves a substream from one process to another
//! without an instant in which it translates by neither rule. Between the process and its
//! devices stands a [`Notifier`], one per pair of context table and process, through which the
//! process tells of changed tables and of its own end, at any moment.

mod bind;
mod notifier;
mod process;

pub use bind::{Bond, bind, rebind, unbind};
pub use notifier::Notifier;
pub use process::{AddressSpace, Process, ProcessKey, ProcessNotifier, Range};
