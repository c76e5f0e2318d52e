//! Emulated devices: who answers an access that stage 2 stopped.
mod bus;
mod device;

pub use bus::{BusError, MmioBus};
pub use device::{Access, MmioDevice, Width};
