//! IOMMU core: instances, groups, domains, attach, faults to owners, IOASIDs, PASID tables, SVA.
//!
//! [`Iommus`] is the registry that the hypervisor owns one of. Drivers stand behind
//! [`IommuDriver`] and know no VM; VMs hold [`Owner`] handles and [`Domain`]s and know no
//! hardware. The order of a device's life:
//!
//! ```
//! # use palisade_iommu::fake::{self, FakeDriver};
//! # use palisade_iommu::{DeviceId, DeviceInfo, Idle, Iommus, Registration, StreamPolicy};
//! # use palisade_hal::{PhysAddr, StreamId};
//! let iommus = Iommus::new(4, 16);
//! let device = DeviceId::new(0x0100);
//! iommus.add_device(DeviceInfo {
//!     id: device,
//!     name: "edu".into(),
//!     iommu: Some(1),
//!     streams: vec![StreamId::new(0x100)],
//!     isolation: None,
//! })?;
//! // The driver has brought its hardware up, every stream aborting.
//! # let registration = fake::registration(1, FakeDriver::new());
//! iommus.register(registration).map_err(|rejected| rejected.error)?;
//!
//! let owner = iommus.owners().open(0)?;
//! let domain = iommus.paging_domain(owner, PhysAddr::new(0x4000_0000), 0x8059)?;
//! let group = iommus.group_of(device)?;
//! iommus.assign(&group, &domain, StreamPolicy::default())?;
//! // … the VM runs …
//! iommus.detach(&group)?; // aborts, invalidates, delivers the last faults
//! // … the device is reset and proven idle …
//! iommus.release(&group, Idle::Reset)?;
//! iommus.retire(&domain, |_vmid| true /* the CPUs forgot it too */)?;
//! # Ok::<(), palisade_iommu::Error>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
extern crate std;

mod ats;
mod attach;
mod device;
mod domain;
pub mod driver;
mod error;
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
pub mod fake;
mod fault;
mod group;
mod ids;
mod instance;
pub mod ioasid;
mod nesting;
pub mod pasid;
mod probe;
mod registry;
pub mod sva;
mod waits;

pub use attach::Posture;
pub use device::{DeviceId, DeviceInfo};
pub use domain::{Domain, DomainKind, Flush};
pub use driver::{
    Access, Argument, Capabilities, Context, ContextView, DefaultSubstream, Drained, DriverError,
    FaultClass, FaultKind, FaultRecord, Feature, GuestIdentity, Invalidation, IommuDriver,
    PhysicalView, Refusal, Response, STORMS, StageTwo, StallModel, StreamPolicy, StreamState,
};
pub use error::{Error, Resource};
pub use fault::{Fault, LOG_CAPACITY, Owner, Owners};
pub use group::{Condition, Group, Idle};
pub use ids::IdPool;
pub use instance::{Instance, Registration};
pub use registry::{Footprint, Iommus, Rejected};
pub use waits::{Waited, Waits};
