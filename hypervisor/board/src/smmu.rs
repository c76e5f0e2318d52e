//! An SMMUv3 as the device tree describes it.

use crate::{Interrupt, Range};

/// An SMMUv3. What it can do stands in its ID registers, not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Smmu {
    /// The node's phandle: its identity in every iommu-map. 0 where it has none of its own:
    /// then all its streams abort, and nothing is known to be behind it.
    pub phandle: u32,
    /// Register pages 0 and 1.
    pub registers: Range,
    /// Event queue not empty.
    pub eventq: Option<Interrupt>,
    /// Page request queue not empty.
    pub priq: Option<Interrupt>,
    /// CMD_SYNC completion.
    pub cmdq_sync: Option<Interrupt>,
    /// Global errors.
    pub gerror: Option<Interrupt>,
    /// One wire for all of the above.
    pub combined: Option<Interrupt>,
    /// Its table walks and queue accesses snoop the CPUs' caches.
    pub coherent: bool,
}
