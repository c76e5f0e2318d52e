//! What a fake driver is registered with.

use alloc::sync::Arc;

use palisade_hal::PhysAddr;
use palisade_mem::{Agent, Arena, Frames};

use super::FakeDriver;
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
