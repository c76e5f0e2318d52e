//! Faults on their way from an event queue to the log of the VM that owns the stream.
//!
//! The way takes no lock but the log's own: [`Routes`] answers from atomics, an [`Owner`] handle
//! carries the generation of its VM, and a handle of a VM that has gone matches nothing any more.
//! A group whose devices fault more than they may is contained on the way: it aborts until the
//! operator ends that, whatever its owner asks for.

mod drain;
mod log;
mod owner;
mod routes;

pub(crate) use drain::Storms;
pub(crate) use log::FaultLog;
pub use log::{Fault, LOG_CAPACITY};
pub use owner::{Owner, Owners};
pub(crate) use routes::Routes;
