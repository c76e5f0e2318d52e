//! The spin locks of the whole hypervisor, and the one order in which its locks are taken.
//!
//! Every lock is made with its [`Rank`]. Whoever holds locks waits only for one of a higher rank
//! than all of them, so no two cores can wait for each other. The fake twin checks this in every
//! test: a wait in the wrong order panics, whether or not another thread was there to meet it.

pub(crate) mod fair;
mod rank;

pub use crate::twin::lock::{FairMutex, FairMutexGuard, Mutex, MutexGuard};
pub use rank::Rank;
