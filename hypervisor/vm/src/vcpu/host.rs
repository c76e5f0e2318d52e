//! What a vCPU needs of the hypervisor around it.
use palisade_gic::AnyGic;

use crate::Vm;

/// How a vCPU's run ended: its VM's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The VM went off: it said so, the operator said so, or its last vCPU went off.
    Off,
    /// The VM asked to start anew.
    Reset,
    /// The VM cannot go on.
    Crashed,
}

/// The hypervisor around the VMs, as the core of a vCPU sees it.
///
/// A vCPU's loop is compiled once, with this crate, and not for each kind of host: it takes one
/// behind a pointer, and asks it little.
pub trait Host: Sync {
    /// The physical interrupt controller.
    fn gic(&self) -> &AnyGic;

    /// A physical interrupt that is no VM's, kicks included. It is active; afterwards it is
    /// deactivated.
    fn interrupt(&self, intid: u32);

    /// A vCPU is about to enter its guest for the first time since it was started.
    fn entering(&self, vm: &Vm, vcpu: usize);
}
