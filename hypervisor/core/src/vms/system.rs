//! The VMs of the machine: their places, their names, how many have not ended.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use palisade_bundle::MAX_VMS;
use spin::Once;

use crate::machine::instances::Machine;
use crate::vms::built::BuiltVm;
use crate::vms::slot::Slot;

/// The machine with its VMs.
pub(crate) struct System {
    pub(crate) machine: Machine,
    slots: Once<Vec<Slot>>,
    names: Once<Vec<&'static str>>,
    /// VMs that have not ended.
    left: AtomicUsize,
}

static SYSTEM: Once<System> = Once::new();

impl System {
    /// A system without VMs.
    pub(crate) const fn new(machine: Machine) -> Self {
        Self { machine, slots: Once::new(), names: Once::new(), left: AtomicUsize::new(0) }
    }

    /// The places of the VMs that were built; none before that.
    pub(crate) fn slots(&self) -> &[Slot] {
        self.slots.get().map_or(&[], Vec::as_slice)
    }

    /// The VMs as they are now, ended ones included.
    pub(crate) fn vms(&self) -> ArrayVec<Arc<BuiltVm>, MAX_VMS> {
        self.slots().iter().take(MAX_VMS).map(Slot::built).collect()
    }

    /// Whether the VMs are built, however many there are.
    pub(crate) fn is_built(&self) -> bool {
        self.slots.is_completed()
    }

    /// Publishes the VMs; the other cores wait for it.
    pub(crate) fn set_vms(&self, vms: Vec<BuiltVm>) {
        self.left.store(vms.len(), Ordering::Release);
        self.slots.call_once(|| vms.into_iter().map(Slot::new).collect());
        self.machine.wake_all();
    }

    /// Publishes the names of all VMs of the manifest, refused ones included.
    pub(crate) fn set_names(&self, names: Vec<&'static str>) {
        self.names.call_once(|| names);
    }

    /// The name of a VM by its index.
    pub(crate) fn vm_name(&self, index: u16) -> &'static str {
        self.names.get().and_then(|names| names.get(usize::from(index))).copied().unwrap_or("-")
    }

    /// Whether every VM has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// One more VM is to end; false if all have, and the machine goes off.
    pub(crate) fn one_more(&self) -> bool {
        let more = |left: usize| if left == 0 { None } else { left.checked_add(1) };
        self.left.try_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// One VM is over.
    pub(crate) fn one_less(&self) {
        let less = |left: usize| left.checked_sub(1);
        let _ = self.left.try_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.machine.wake_all();
    }
}

/// Publishes the system; secondaries wait for it.
pub(crate) fn publish(system: System) -> &'static System {
    SYSTEM.call_once(|| system)
}

/// The system, once it is published.
pub(crate) fn get() -> Option<&'static System> {
    SYSTEM.get()
}
