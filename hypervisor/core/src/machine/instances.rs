//! What there is one of on this machine, below the VMs.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::BoardInfo;
use palisade_fdt::Tree;
use palisade_gic::{AnyGic, Gic, KICK_SGI};
use palisade_hal::machine::MAX_CPUS;
use palisade_iommu::Iommus;
use palisade_mem::{Agent, Frames};
use palisade_vm::its::Messages;
use palisade_vm::passthrough::{Passthrough, PlainBook};
use spin::Once;

/// The machine: what its tree says, and the instances that drive it.
pub(crate) struct Machine {
    pub(crate) tree: &'static Tree<'static>,
    pub(crate) board: &'static BoardInfo<'static>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) gic: AnyGic,
    /// Proof agent for the CPUs' stage-2 TLBs.
    pub(crate) cpus: Arc<Agent>,
    pub(crate) iommus: Arc<Iommus>,
    /// Who owns which PCI device.
    pub(crate) devices: Passthrough,
    /// Who owns which device by device tree path.
    pub(crate) platform: PlainBook,
    /// The machine's messages, where there is an ITS.
    pub(crate) messages: Once<Option<Services>>,
}

/// The ITSs in service, each with its phandle, and the first of them by itself.
pub(crate) struct Services {
    pub(crate) first: Arc<Messages>,
    pub(crate) all: Vec<(u32, Arc<Messages>)>,
}

impl Machine {
    /// Makes every core look at its orders.
    pub(crate) fn wake_all(&self) {
        for core in 0..MAX_CPUS.min(self.board.cpus.len()) {
            self.gic.send_sgi(core, KICK_SGI);
        }
    }

    /// The messages, once they are in service: of any ITS, their LPIs are the same.
    pub(crate) fn messages(&self) -> Option<&Arc<Messages>> {
        Some(&self.messages.get()?.as_ref()?.first)
    }

    /// The ITS of this phandle, if it is in service.
    pub(crate) fn messages_of(&self, phandle: u32) -> Option<Arc<Messages>> {
        let all = &self.messages.get()?.as_ref()?.all;
        all.iter().find(|(its, _)| *its == phandle).map(|(_, messages)| messages.clone())
    }
}
