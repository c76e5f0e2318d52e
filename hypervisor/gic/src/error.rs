//! What can go wrong with a physical interrupt controller.
use thiserror::Error;

/// An error of the physical GIC. The hardware, or the firmware's description of it, is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GicError {
    /// No redistributor claims the core with this affinity.
    #[error("no redistributor for the core with MPIDR {0:#x}")]
    NoRedistributor(u64),
    /// A register did not reach the awaited state before its deadline.
    #[error("register at offset {0:#x} did not settle in time")]
    TimedOut(usize),
    /// The core number is beyond what the driver holds.
    #[error("core {0} is beyond the cores this driver holds")]
    NoSuchCore(usize),
    /// The interrupt does not exist on this controller.
    #[error("interrupt {0} does not exist here")]
    NoSuchInterrupt(u32),
    /// The controller has no virtualisation extension.
    #[error("the interrupt controller has no list registers")]
    NoVirtualInterface,
}
