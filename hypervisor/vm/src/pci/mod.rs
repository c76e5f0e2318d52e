//! The virtual PCI Express host: only the VM's own devices, where the manifest put them.
//!
//! Configuration space is the device's own, seen through a mask: what is listed passes, the
//! rest reads as zero and ignores writes. BARs are the guest's to place; each placement maps
//! the device's pages straight into stage 2. ATS, PASID, PRI, SR-IOV and everything else in
//! extended configuration space are hidden, as are capabilities whose writes outlast an owner.

mod capabilities;
mod describe;
mod function;
mod host;
mod layout;
mod nothing;
mod port;
mod shadow;

pub use describe::{Interrupts, describe};
pub use function::{BarMap, DeviceTlbs, Guest};
pub use host::{PciError, PciHost};
pub(crate) use layout::hidden;
pub use layout::{ECAM_BASE, ECAM_BYTES, WINDOW_IO, WINDOW32, WINDOW64, wire, wire_of};
pub use nothing::open_windows;
