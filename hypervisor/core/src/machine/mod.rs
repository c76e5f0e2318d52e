//! What the machine has, below the VMs: memory, formats, SMMUs, PCIe, interrupts, messages.

pub(crate) mod devicetree;
pub(crate) mod error;
pub(crate) mod formats;
pub(crate) mod heap;
pub(crate) mod instances;
pub(crate) mod interrupts;
pub(crate) mod memory;
pub(crate) mod messages;
pub(crate) mod pcie;
pub(crate) mod smmus;
