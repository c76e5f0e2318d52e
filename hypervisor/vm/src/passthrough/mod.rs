//! Real devices: who owns which, and how one changes hands.
//!
//! ```text
//! free ──prove idle──▶ assigned ──take back──▶ quarantined ──proven idle──▶ free
//!                                                   └──no proof──▶ dead
//! ```
//! Taking back goes in one order. The stream aborts, configuration and translations are
//! invalidated and synchronised ([`Iommus::detach`](palisade_iommu::Iommus::detach)). Only then,
//! with bus mastering *on*, the settling time runs: whatever the old owner left in flight, or
//! armed to go off when bus mastering comes back, drains into the aborting stream. Then bus
//! mastering goes off, the device is reset and seen idle, and is free. Before its first owner a
//! device goes through the same, for nobody knows what it did before.

mod again;
mod assign;
mod claims;
mod lines;
mod plain;
mod plug;
mod refusal;
mod take_back;

pub use assign::{Assigned, Request};
pub use claims::{Bus, Passthrough, Row};
pub use lines::{Held, Holder, LineBook};
pub use plain::{
    AssignedPlain, PlainBook, PlainRefusal, PlainRow, PlainSet, PlainWindow, describe_plain,
    no_stalls,
};
pub use plug::{Fittings, PlugError, Unplugged, Which};
pub use refusal::Refusal;
pub use take_back::Returned;
