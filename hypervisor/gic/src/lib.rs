//! The physical GICv2 and GICv3, and their list registers.
//!
//! [`Gic`] is the seam: what the hypervisor asks of an interrupt controller, once for each
//! generation and once as a fake. Interrupts end in two steps (EOImode = 1): the hypervisor drops
//! the priority, and whoever handles the interrupt deactivates it. For an interrupt that was
//! forwarded to a guest that is the guest itself, through a hardware-linked list register.
//!
//! Sections refer to IHI 0069 (GICv3) and IHI 0048 (GICv2).
#![no_std]
#![deny(unsafe_code)]

extern crate alloc;

mod any;
mod error;
mod fake;
mod interrupt;
pub mod its;
mod list_register;
mod traits;
pub mod v2;
pub mod v3;

pub use any::AnyGic;
pub use error::GicError;
pub use fake::{FakeCall, FakeGic};
pub use interrupt::{Ack, FIRST_SPI, KICK_SGI, MAX_CORES, Trigger, Version};
pub use list_register::{ListRegister, LrState, MaintenanceControl};
pub use traits::Gic;
