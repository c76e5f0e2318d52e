//! What the loader decides, apart from the firmware that it asks: tested on the host.
//!
//! `palisade.efi` takes hypervisor, bundle and command line from the volume that it came from,
//! reads the machine out of the firmware's ACPI tables, or takes its device tree, and hands over: no device masters the bus,
//! every SMMU aborts, and X0 holds a device tree that says what the tables said. Where it cannot
//! go on it says why and returns to the firmware.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod image;
mod quiet;
mod refusal;
mod sums;
mod tree;

pub use image::Image;
pub use quiet::{Registers, abort_all, no_bus_mastering};
pub use refusal::Refusal;
pub use sums::check;
pub use tree::{Additions, amend};
