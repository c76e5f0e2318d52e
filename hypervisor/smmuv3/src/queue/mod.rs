//! The queues (§3.5, §7.1, §7.4, §8).
//!
//! [`Producer`] is the state under the command queue's lock, pure and checked by loom;
//! the `CommandQueue` joins it to memory, registers and time.

mod command;
pub(crate) mod input;
pub(crate) mod limits;
mod producer;
pub mod ring;

pub use command::{BATCH_COMMANDS_MAX, QueueCounts};
pub(crate) use command::{CommandQueue, QueueLimits};
pub use producer::{Failure, Impossible, Producer};
