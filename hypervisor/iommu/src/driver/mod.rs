//! The seam between the IOMMU core and a driver of real hardware.
//!
//! A driver owns one IOMMU: its registers, its stream table, its queues and the memory of the
//! context-descriptor tables. It knows encodings and the order of commands. It knows no virtual
//! machine, no group and no domain; who may ask for what is decided above this seam, and what a
//! guest said passes through it as plain words that the driver validates field by field.
//!
//! Rules that hold for every method of [`IommuDriver`]:
//! * A method that returns `Ok` has completed: its commands were consumed *and* synchronised.
//! * A method that returns `Err` left the stream as it was, or aborting; never in between, and
//!   never translating through something new. After [`DriverError::Dead`] every stream of the
//!   instance counts as aborting and nothing that it could reach is ever clean again.
//! * Everything waits with a deadline.
//! * Methods may be called from several cores at once; the driver's command-queue lock is the
//!   innermost but one (the frame allocator's is the leaf).

mod capabilities;
mod context;
mod error;
mod event;
mod invalidation;
mod ops;
mod stage_two;

pub use capabilities::{Capabilities, GuestIdentity, StallModel};
pub use context::{Context, ContextView, DefaultSubstream, PhysicalView};
pub use error::{Argument, DriverError, Feature, Refusal};
pub use event::{Access, Drained, FaultClass, FaultKind, FaultRecord, Response, STORMS};
pub use invalidation::Invalidation;
pub use ops::IommuDriver;
pub use stage_two::{StageTwo, StreamPolicy, StreamState};
