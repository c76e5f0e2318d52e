//! The IOMMU core, room by room, over a driver without hardware.

mod attach;
mod common;
mod containment;
mod faults;
mod guest_entry;
mod ioasid;
mod lock_order;
mod pasid;
mod planted;
mod registry;
mod rules;
mod sva;
mod undone;
