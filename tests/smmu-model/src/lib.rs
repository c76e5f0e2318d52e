//! A model of the SMMUv3, written from the manual (IHI 0070) alone: the driver's second and
//! stricter witness.
//!
//! Its registers acknowledge late and refuse what is not allowed now; its command queue
//! consumes when it likes; its caches answer from what they once read until a command or
//! chance takes it away, and fetch unasked; it sees memory only through [`Memory`], which may
//! hold back what no barrier has published. What a driver may not do, whether hardware would
//! notice or not, is listed by [`Model::driver_faults`]. All choices come from one seed.
//!
//! Not modelled: Secure and Realm state, VMSAv8-32, 52-bit addresses, VMS and MPAM, ECMDQ,
//! ATOS, broadcast invalidation.
#![forbid(unsafe_code)]

mod atc;
mod bits;
mod cd;
mod cmdq;
mod command;
mod config_cache;
mod config_fetch;
mod descriptor;
mod driver_fault;
mod event;
mod evtq;
mod features;
mod inject;
mod memory;
mod model;
mod poison;
mod pri;
mod queue;
mod regs;
mod rng;
mod speculate;
mod stall;
mod ste;
mod tlb;
mod transaction;
mod walk;

pub use atc::AtsReply;
pub use cmdq::{CommandFilter, Filtered};
pub use command::{Command, Range, Refusal, Signal, decode as decode_command};
pub use driver_fault::DriverFault;
pub use event::{Class, Event, EventKind};
pub use features::{Features, StallModel};
pub use inject::Injection;
pub use memory::{Abort, Memory, SparseMemory};
pub use model::{Counters, Interrupt, Model, Temper};
pub use pri::{PageRequest, Response};
pub use rng::Rng;
pub use transaction::{Access, Outcome, Request};
