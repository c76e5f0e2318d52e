//! The interrupt controller.

use arrayvec::ArrayVec;

use crate::{Interrupt, Range};

/// Most redistributor regions that are kept.
pub const MAX_REDISTRIBUTOR_REGIONS: usize = 32;
/// Most interrupt translation services that are kept.
pub const MAX_ITS: usize = 16;

/// The interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gic {
    /// The distributor's registers.
    pub distributor: Range,
    /// What GICv2 and GICv3 do not share.
    pub version: Version,
    /// Maintenance interrupt, where the device tree names it.
    pub maintenance: Option<Interrupt>,
    /// The node's phandle; 0 where it has none.
    pub phandle: u32,
}

/// The architecture version and what comes with it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lists of fixed capacity: a board is described before there is a heap"
)]
pub enum Version {
    /// GICv2: memory-mapped CPU interface.
    V2 {
        /// GICC, the CPU interface.
        cpu: Range,
        /// GICH, the virtual interface control block.
        hypervisor: Option<Range>,
        /// GICV, the virtual CPU interface that a guest sees as its GICC.
        virtual_cpu: Option<Range>,
        /// A GICv2m frame (MSIs as SPIs), where there is one.
        v2m: Option<Range>,
    },
    /// GICv3 or v4: the CPU interface is in system registers.
    V3 {
        /// Regions with redistributors in them.
        redistributors: ArrayVec<Range, MAX_REDISTRIBUTOR_REGIONS>,
        /// `redistributor-stride` in bytes, where it is not the architecture's.
        stride: Option<u64>,
        /// The interrupt translation services.
        its: ArrayVec<Its, MAX_ITS>,
    },
}

/// An interrupt translation service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Its {
    /// Its registers: the control frame and, 64 KiB above, the translation frame.
    pub registers: Range,
    /// The node's phandle, as `msi-map` names it; 0 where it has none.
    pub phandle: u32,
}
