//! Address spaces of processes, shared with devices, on the model.
//!
//! Three VMs with four devices of 64 substreams each bind and unbind processes, change their
//! tables, end them, collide in ASIDs, answer stalls and lose memory, all through the guest
//! interface; devices try every virtual address from every substream whenever time passes,
//! inside every operation. What they get is held against [`Truth`].

pub(crate) mod guest;
pub(crate) mod home;
pub(crate) mod memory;
pub(crate) mod truth;
mod world;

pub use world::{Sharing, SharingTally, share};
