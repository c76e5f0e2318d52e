//! The CPU that tests run on. Same modules and names as `aarch64/`.
//!
//! Nothing here pretends to work: a barrier, a clean or a TLB invalidation is
//! reported to the observer of the current thread, with the place that asked for
//! it, and the observer decides what it means (copy stores to a device's view,
//! count it, or drop it to see who notices).

mod clock;
mod observer;

pub mod barrier;
pub mod cache;
pub mod controls;
pub mod copy;
pub mod cpu;
pub mod gic;
pub mod guest;
pub mod lock;
pub mod mmio;
pub mod pmu;
pub mod tlb;

pub use clock::SteppedClock;
pub use mmio::{Device, Width, install};
pub use observer::{Barrier, Observer, Op, Tlbi, observe};
