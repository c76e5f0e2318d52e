//! Virtual SMMUs over the driver over the model.
//!
//! A `House` has VMs whose devices stand behind an SMMU of their own; a
//! `Kernel` drives one by registers, tables and queues as the manual has them.
//! What devices get is held against the `Truth` of the sharing worlds.

pub mod hostile;
mod house;
mod kernel;
mod random;
mod replay;
mod scenes;
mod trace;

pub use random::{WorldTally, random};
pub use replay::{ReplayTally, replay};
pub use scenes::{
    Scene, a_context_changes_under_its_entry, a_device_that_goes_is_nobodys,
    a_reset_is_a_first_start, gbpa_decides_while_it_is_off, scene, scene_with,
};
pub use trace::{Step, Trace};
