//! What the hypervisor owns, once it is up.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_board::BoardInfo;
use palisade_bundle::MAX_VMS;
use palisade_fdt::Tree;
use palisade_gic::{AnyGic, Gic, KICK_SGI};
use palisade_iommu::Iommus;
use palisade_mem::{Agent, Frames};
use palisade_vm::its::Messages;
use palisade_vm::passthrough::{Passthrough, PlainBook};
use spin::Once;

use crate::operator::posture;
use crate::operator::prompt;
use crate::vms::slot::Slot;
use crate::vms::unit::Unit;
use crate::wire::mux;

/// The instances of everything there is one of.
pub(crate) struct System {
    pub(crate) tree: &'static Tree<'static>,
    pub(crate) board: &'static BoardInfo<'static>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) gic: AnyGic,
    /// The voice of the CPUs' stage-2 TLBs.
    pub(crate) cpus: Arc<Agent>,
    pub(crate) iommus: Arc<Iommus>,
    /// Who owns which device.
    pub(crate) book: Passthrough,
    /// The same, for devices by device tree path.
    pub(crate) plain: PlainBook,
    /// The machine's messages, where there is an ITS.
    pub(crate) messages: Once<Option<Arc<Messages>>>,
    slots: Once<Vec<Slot>>,
    names: Once<Vec<&'static str>>,
}

static SYSTEM: Once<System> = Once::new();

impl System {
    /// A system without VMs.
    pub(crate) fn new(
        tree: &'static Tree<'static>,
        board: &'static BoardInfo<'static>,
        frames: Arc<Frames>,
        gic: AnyGic,
        cpus: Arc<Agent>,
        iommus: Arc<Iommus>,
        book: Passthrough,
    ) -> Self {
        let (messages, slots, names) = (Once::new(), Once::new(), Once::new());
        let plain = PlainBook::new();
        Self { tree, board, frames, gic, cpus, iommus, book, plain, messages, slots, names }
    }

    /// The places of the VMs that were built; none before that.
    pub(crate) fn slots(&self) -> &[Slot] {
        self.slots.get().map_or(&[], Vec::as_slice)
    }

    /// The VMs as they are now, ended ones included.
    pub(crate) fn units(&self) -> ArrayVec<Arc<Unit>, MAX_VMS> {
        self.slots().iter().take(MAX_VMS).map(Slot::unit).collect()
    }

    /// Whether the VMs are built, however many there are.
    pub(crate) fn is_built(&self) -> bool {
        self.slots.is_completed()
    }

    /// Publishes the VMs; the other cores wait for it.
    pub(crate) fn set_units(&self, units: Vec<Unit>) {
        self.slots.call_once(|| units.into_iter().map(Slot::new).collect());
        self.wake_all();
    }

    /// Publishes the names of all VMs of the manifest, refused ones included.
    pub(crate) fn set_names(&self, names: Vec<&'static str>) {
        self.names.call_once(|| names);
    }

    /// The name of a VM by its index.
    pub(crate) fn vm_name(&self, index: u16) -> &'static str {
        self.names.get().and_then(|names| names.get(usize::from(index))).copied().unwrap_or("-")
    }

    /// Prints the DMA posture.
    pub(crate) fn tell_posture(&self) {
        posture::print(&self.iommus, &self.book, &self.plain, &|vm| self.vm_name(vm));
    }

    /// Has every core look at its orders.
    pub(crate) fn wake_all(&self) {
        for core in 0..palisade_hal::machine::MAX_CPUS.min(self.board.cpus.len()) {
            self.gic.send_sgi(core, KICK_SGI);
        }
    }

    /// A byte that came in on the wire: for the operator's prompt, or the VM whose channel it is.
    pub(crate) fn input(&'static self, channel: u8, byte: u8) {
        if channel == mux::LOG {
            return prompt::key(self, byte);
        }
        let Some(vm) = channel.checked_sub(mux::FIRST_VM) else { return };
        if let Some(unit) = self.units().iter().find(|unit| unit.vm.index() == usize::from(vm)) {
            // What the guest does not take in time is lost, as on a real line.
            unit.vm.input(&[byte], &self.gic);
        }
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
