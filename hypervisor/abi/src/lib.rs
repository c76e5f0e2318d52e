//! Numbers and types of the guest hypercall interface, shared with guests.
//!
//! The interface lets a guest share the address spaces of its processes with its devices, under
//! the stage 2 that the hypervisor alone owns. It is made of SMCCC (DEN 0028) fast calls of the
//! vendor-specific hypervisor service, by `HVC #0`: the function number in W0, arguments in
//! X1–X6, a [`Status`] back in X0 and results in X1–X3. Registers not named as results come back
//! as 0 (X1–X3) or unchanged. A guest first asks for the service's [`UID`](call::UID) words,
//! then for [`VERSION`](call::VERSION), then for single [`FEATURES`](call::FEATURES).
//!
//! Rules that hold for every call:
//! * Every argument is checked; a call that fails has changed nothing, unless it says so.
//! * Addresses of structures are IPAs inside the guest's RAM. The hypervisor copies a structure
//!   once, and judges the copy.
//! * A *device* is the number under which the guest's device tree knows it: its StreamID in the
//!   guest's iommu-map, which for PCI is its bus, device and function.
//! * Work per call is bounded: by the bound named at each call, and by the time-out of one
//!   synchronisation with the IOMMU (at most a few milliseconds, when it is broken).
//! * A guest that configures nonsense harms only itself: it faults, and is told so.
#![no_std]
#![forbid(unsafe_code)]

pub mod call;
mod device;
mod entry;
mod fault;
mod invalidation;
mod status;

pub use device::{BindFlags, DeviceFlags, NO_SUBSTREAM, pack_widths, unpack_widths};
pub use entry::{COMMAND_BYTES, STREAM_ENTRY_BYTES};
pub use fault::{
    FAULT_BYTES, FaultFlags, FaultRecord, RING_HEADER_BYTES, RING_MAGIC, RingHeader, StallAnswer,
};
pub use invalidation::{INVALIDATION_BYTES, InvalidationRecord};
pub use status::Status;
