//! A VM's memory: one map that drives two page tables.
//!
//! The CPU view has the RAM and the registers of passed-through devices; the DMA view has the RAM
//! and, where there is a translation service, its doorbell page, and nothing else: no device
//! reaches another's registers. Both come from one format and one builder.
//!
//! RAM is zeroed before it is first used, and given back only against proof that the CPUs and
//! every IOMMU have forgotten it, and zeroed again then.
mod error;
mod guest;
mod map;
mod quota;
mod seams;
#[cfg(test)]
mod tests;
mod tlb;

pub use error::MemoryError;
pub use guest::{GuestMemory, Shape, TornDown};
pub use map::{Kind, Region};
