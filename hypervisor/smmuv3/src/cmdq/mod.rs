//! The command queue (§3.5, §4, §7.1).
//!
//! [`Producer`] is the state under the queue's lock, pure and checked by loom;
//! the `CommandQueue` joins it to memory, registers and time.

mod producer;
mod queue;

pub use producer::{Failure, Impossible, Producer};
pub(crate) use queue::CommandQueue;
pub use queue::{BATCH_COMMANDS_MAX, QueueCounts};
