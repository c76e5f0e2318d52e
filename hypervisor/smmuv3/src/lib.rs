//! The Arm SMMUv3 driver (IHI 0070): registers, queues, stream and context-descriptor tables,
//! invalidation.
//!
//! [`Smmu::bring_up`] takes an SMMU over and enables it with every stream aborting;
//! [`Smmu`] implements [`palisade_iommu::IommuDriver`]. The pure parts are public, so that they
//! can be compared with the manual and with measurements.
//!
//! | module | manual |
//! |---|---|
//! | `spec` | §4, §5, §7: structures as types |
//! | `features`, `regs` | §6.3 |
//! | `reset` | §3.11, §6.3.9, §6.3.14: bring-up, take-over, shutdown |
//! | `ring`, `cmdq`, `evtq` | §3.5, §7.1, §7.4, §8 |
//! | `encode`, `used`, `entry`, `live` | §5, §3.21.3: images, and how a live one changes |
//! | `strtab`, `cdtab`, `configure`, `contexts` | §3.3, §5 |
//! | `command`, `range`, `batch`, `invalidate` | §4 |
//! | `bound` | what an invalidation costs at most |
//! | `nested` | what a guest may say |
//! | `decode`, `events`, `storm` | §7 |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod batch;
pub mod bound;
mod cdtab;
pub mod cmdq;
pub mod command;
mod configure;
mod contexts;
pub mod decode;
mod driver;
pub mod encode;
pub mod entry;
mod error;
mod events;
mod evtq;
pub mod features;
mod invalidate;
mod limits;
mod live;
mod memory;
pub mod nested;
pub mod range;
mod regs;
mod reset;
pub mod ring;
mod small;
mod smmu;
pub mod spec;
mod storm;
mod strtab;
pub mod used;

pub use error::{BringUpError, QueueError};
pub use features::{Features, IdRegisters, Unsupported};
pub use regs::REGISTER_BYTES;
pub use reset::abort_by_default;
pub use smmu::{Options, Smmu};
