//! The guest interface of `palisade-abi`, on plain values: a call's number and six arguments
//! go in, four registers come out.
//!
//! A [`Service`] belongs to one VM. Nothing a guest says is believed: every device is looked up
//! among the VM's own, every IPA is checked against its RAM, every structure is copied once and
//! the copy is judged, every loop has the bound that the call's documentation names.
//!
//! Lock order: the service's lock comes before groups, spaces and drivers; the VM's map must not
//! be locked by who calls it.

mod calls;
mod check;
mod device;
mod process;
mod ram;
mod ring;
mod service;

pub use device::ServiceDevice;
pub use ram::{GuestRam, Kept, OutsideRam};
pub use service::{Service, ServiceFootprint};
