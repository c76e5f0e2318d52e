//! The hypervisor, as a vCPU's core sees it.

use core::sync::atomic::{AtomicU64, Ordering};

use palisade_gic::AnyGic;
use palisade_hal::Env;
use palisade_hal::cpu::Counter;
use palisade_vm::Vm;
use palisade_vm::vcpu::Host;

use crate::panic::context;
use crate::vms::system::System;
use crate::wire::report::Record;

/// Ticks from the first instruction at EL2 to the first one of a guest; 0 before.
static FIRST: AtomicU64 = AtomicU64::new(0);

/// Handles an interrupt of the hypervisor's own; others it leaves alone. Handed down by whoever
/// starts a core, since what they lead to stands above the VMs.
pub(crate) type Dispatch = fn(&'static System, u32);

/// What vCPUs run on.
pub(crate) struct Hypervisor {
    pub(crate) system: &'static System,
    pub(crate) dispatch: Dispatch,
}

impl Host for Hypervisor {
    fn gic(&self) -> &AnyGic {
        &self.system.machine.gic
    }

    fn interrupt(&self, intid: u32) {
        (self.dispatch)(self.system, intid);
    }

    fn entering(&self, _vm: &Vm, _vcpu: usize) {
        context::guest_runs();
        let Some(context) = context::get() else { return };
        let ticks = Counter.now().saturating_sub(context.entry_ticks).max(1);
        let order = Ordering::Relaxed;
        let _ = FIRST.compare_exchange(0, ticks, order, order);
    }
}

/// Reports how long it took from the first instruction to a guest's first.
pub(crate) fn report_timing() {
    let ticks = FIRST.load(Ordering::Relaxed);
    if ticks != 0 {
        Record::new("timing")
            .number("entry_to_first_guest_instruction", ticks)
            .number("frequency", Counter.frequency())
            .text("unit", "ticks")
            .send();
    }
}
