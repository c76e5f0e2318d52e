//! A driver without hardware, for the tests of every room above the driver's.
//!
//! It bites: it can fail at the k-th fallible call, keeps stale configuration and stale
//! translations until they are invalidated, notes every call in order, and notes as a *fault of
//! the core* whatever would be dangerous on hardware: an ASID published while another address
//! space is cached under it, a VMID reused while cached, a context used before it was prepared.

mod cache;
mod driver;
mod ops;
mod registration;

pub use cache::{Cached, Reach};
pub use driver::{Call, FakeDriver, Snapshot};
pub use registration::{agent, registration};
