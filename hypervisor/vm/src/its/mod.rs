//! The virtual Interrupt Translation Service of a VM (IHI 0069, 5.3 and 12.19).
//!
//! The guest programs it as it would the real one: tables (which are not looked at; their
//! contents are IMPLEMENTATION DEFINED and live here instead), a queue of commands in its own
//! memory, configuration bytes of LPIs. What a command means for the physical ITS and for the
//! virtual CPU interfaces goes through [`Backend`].
//!
//! A guest can name only DeviceIDs of its own devices, and only events of tables that fit them,
//! so it can raise only its own LPIs. A command that makes no sense is skipped and counted.

mod devices;
mod execute;
mod messages;
mod registers;
mod world;
#[cfg(test)]
mod world_tests;

#[cfg(test)]
mod tests;

pub use devices::{Event, MAX_EVENT_BITS};
pub use execute::Backend;
pub use messages::Messages;
pub use registers::VirtualIts;
pub use world::{CONTROL_BYTES, ItsDevice, Sender};

/// First LPI (IHI 0069, 2.2).
pub const FIRST_LPI: u32 = 8192;
/// Bits of an INTID that the guest sees in GICD_TYPER.IDbits: 14, thus 8192 LPIs.
pub const INTID_BITS: u32 = 14;
/// LPIs that one VM may have mapped at once: an eighth of the machine's, which has eight VMs at
/// most. So no VM can take the others' from them.
pub const LPIS_PER_VM: usize = 1024;
/// Commands carried out per exit; the rest waits for the next register access.
pub const COMMANDS_PER_EXIT: usize = 256;
