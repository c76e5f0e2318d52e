//! A PCI Express hierarchy in memory, for tests.
//!
//! [`FakeBus`] answers behind an ECAM window: requests are routed by the bus
//! numbers that the code under test wrote into the bridges, BARs keep what
//! their size allows, resets take time by the clock, and a device can have a
//! transfer armed that fires as soon as its time has come *and* bus mastering is
//! on, whoever owns it then.

mod bus;
mod function;

pub use bus::{Event, FakeBus};
pub use function::FakeFunction;
