//! A driver without hardware, for the tests of every room above the driver's.
//!
//! It bites: it can fail at the k-th fallible call, keeps stale configuration and stale
//! translations until they are invalidated, notes every call in order, and notes as a *fault of
//! the core* whatever would be dangerous on hardware: an ASID published while another address
//! space is cached under it, a VMID reused while cached, a context used before it was prepared.

mod cache;
mod driver;
mod ops;

pub use cache::{Cached, Reach};
pub use driver::{Call, FakeDriver, Snapshot};

use alloc::sync::Arc;

use palisade_hal::PhysAddr;
use palisade_mem::{Agent, Arena, Frames};

use crate::instance::Registration;

/// An agent of a ledger of its own.
///
/// # Panics
/// If the small arena behind it cannot be made.
pub fn agent(name: &'static str) -> Agent {
    let arena = Arena::new(PhysAddr::new(0x8000_0000), 16);
    let frames = Frames::new(arena.map(), &[arena.range()]).expect("arena");
    frames.register_agent(name).expect("first agent")
}

/// A registration with an agent of its own.
pub fn registration(phandle: u32, driver: Arc<FakeDriver>) -> Registration {
    Registration { phandle, driver, agent: agent("fake") }
}
