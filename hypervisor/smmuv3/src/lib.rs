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
//! | `features`, `errata`, `regs` | §6.3 |
//! | `queue` | §3.5, §7.1, §7.4, §8: rings, the command queue, the queues that hardware fills |
//! | `command` | §4: commands and ranges |
//! | `entry` | §5, §3.21.3: images, and how a live one changes |
//! | `table` | §3.3, §5: stream table, context-descriptor tables |
//! | `event` | §7: records, and who sends too many |
//! | `device` | one SMMU: bring-up, streams, contexts, invalidation and its bound, guests |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command;
pub mod device;
pub mod entry;
pub mod errata;
mod error;
pub mod event;
pub mod features;
pub mod queue;
mod regs;
mod table;

pub use device::{Options, Smmu, abort_by_default, bound};
pub use error::{BringUpError, QueueError};
pub use features::{Features, IdRegisters, Unsupported};
pub use palisade_spec as spec;
pub use palisade_spec::register::REGISTER_BYTES;
