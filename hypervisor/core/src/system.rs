//! What the hypervisor owns, once it is up.

use alloc::sync::Arc;

use palisade_board::BoardInfo;
use palisade_gic::AnyGic;
use palisade_iommu::Iommus;
use palisade_mem::Frames;
use palisade_vm::passthrough::Passthrough;
use spin::Once;

/// The instances of everything there is one of.
pub(crate) struct System {
    pub(crate) board: &'static BoardInfo<'static>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) gic: AnyGic,
    pub(crate) iommus: Iommus,
    pub(crate) book: Passthrough,
}

impl System {
    /// The name of a VM by its index.
    pub(crate) fn vm_name(&self, _index: u16) -> &'static str {
        "-"
    }

    /// A byte that came in on the wire.
    pub(crate) fn input(&self, _channel: u8, _byte: u8) {}
}

static SYSTEM: Once<System> = Once::new();

/// Publishes the system; secondaries wait for it.
pub(crate) fn publish(system: System) -> &'static System {
    SYSTEM.call_once(|| system)
}

/// The system, once it is published.
pub(crate) fn get() -> Option<&'static System> {
    SYSTEM.get()
}
