//! The real CPU. Same modules and names as `fake/`.

pub mod barrier;
pub mod cache;
pub(crate) mod controls;
pub mod copy;
pub mod cpu;
pub mod gic;
pub mod guest;
pub mod lock;
pub mod mmio;
pub mod pmu;
pub mod tlb;
