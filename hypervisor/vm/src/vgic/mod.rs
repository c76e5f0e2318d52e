//! The virtual interrupt controller of a VM.
//!
//! One state core serves both generations: a `Bank` of 32 interrupts is a handful
//! of words, so that a register of the guest is a word of ours. A vCPU comes back from its guest:
//! [`Vgic::fold`] takes the list registers into the state. It goes in again: [`Vgic::flush`]
//! fills them with what is most urgent, and asks for a maintenance interrupt if more waits.
//! Lines change from any core; the vCPU to be told is noted and [`Vgic::take_kicks`] says whom to
//! send an interrupt.
//!
//! Sections refer to IHI 0069, for GICv2 to IHI 0048.
mod attention;
mod bank;
mod distributor;
mod lanes;
mod list;
mod lpi;
mod redistributor;
mod registers;
mod sgi;
mod size;
mod state;
// What `attention` counts with; its loom test puts loom's own in this place.
use core::sync::atomic;

#[cfg(test)]
mod life_tests;
#[cfg(test)]
mod tests;

pub use distributor::Distributor;
pub use redistributor::{REDISTRIBUTOR_BYTES, Redistributors};
pub use registers::is_about_state;
pub use size::{LPIS, SPIS};
pub use state::{Line, MAX_VCPUS, Vgic};
