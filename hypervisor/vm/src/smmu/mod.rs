//! The virtual SMMUv3 of a guest (IHI 0070): an unmodified kernel drives an IOMMU of its own.
//!
//! The guest keeps stream table, context descriptors and queues in its own memory and programs
//! registers; what that means for the physical SMMU goes through [`Backend`]. Stage 2, VMID and
//! everything else that confines the guest's devices stays the hypervisor's: a guest's entry is
//! nested under it, field by field, and its invalidations are rebuilt under its VMID.
//!
//! Guest memory is read by value: an entry when CFGI names it, a command when PROD moves. What
//! the guest writes afterwards changes nothing.
//!
//! [`SmmuDevice`] puts the emulation into a VM's memory map, over the VM's groups of devices, its RAM
//! and its interrupt controller.
//!
//! | module | manual |
//! |---|---|
//! | `identity` | §6.3.1 to §6.3.8: what the guest is told that it has |
//! | `registers`, `control` | §6.2, §6.3: registers, enabling, GBPA |
//! | `table` | §3.3.1, §5.1: the guest's stream table |
//! | `queue`, `execute`, `batch` | §3.5, §4: its commands, gathered into physical batches |
//! | `events` | §7: event queue, global errors, interrupts |
//! | `device`, `world` | the registers as a device of a VM, and what stands behind them |
//!
//! # Bounds
//! One exit carries out [`EXIT_UNITS`] units at most: a command is one, an entry
//! [`ENTRY_UNITS`] for each device that it concerns. What is left is done after the vCPU's next
//! exit, which it brings about itself, and interrupts are taken in between. The store is not made
//! again: a guest's own second store of the same value could not be told from it.

mod backend;
mod batch;
mod control;
mod device;
mod events;
mod execute;
mod identity;
mod queue;
mod registers;
mod table;
#[cfg(test)]
mod tests;
mod world;

pub use backend::{Backend, CommandFailure, EntryRefused, Outlet, Wire};
pub use control::{Counts, NoRoom, VirtualSmmu};
pub use device::{SmmuConfig, SmmuCounts, SmmuDevice};
pub use events::{EventSide, Events, Signal};
pub use identity::Identity;
pub use registers::Progress;
pub use world::Lines;

/// Units of work of one exit.
pub const EXIT_UNITS: u32 = 256;
/// Units that one entry of one group of devices costs.
pub const ENTRY_UNITS: u32 = 16;
/// Groups of devices behind one virtual SMMU.
pub const MAX_GROUPS: usize = 32;
/// Devices behind one virtual SMMU.
pub const MAX_DEVICES: usize = 32;
