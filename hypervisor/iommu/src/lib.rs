//! IOMMU core: instances, groups, domains, attach, faults to owners, IOASIDs, PASID tables, SVA.
//!
//! The [`driver`] module is the one seam to the hardware: [`IommuDriver`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod driver;

pub use driver::{
    Access, Capabilities, Context, ContextView, DefaultSubstream, Drained, DriverError, FaultClass,
    FaultKind, FaultRecord, Invalidation, IommuDriver, PhysicalView, Refusal, Response, StageTwo,
    StallModel, StreamPolicy, StreamState,
};
