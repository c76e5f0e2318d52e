//! A VM's place: its cores, and the VM that stands there now. One that has ended stands there
//! until the operator starts it again; its own first core then rebuilds it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::lock::{Mutex, Rank};

use crate::vms::built::BuiltVm;

/// A VM's place.
pub(crate) struct Slot {
    cores: Vec<usize>,
    /// Lock order: a leaf, held for a clone.
    built: Mutex<Arc<BuiltVm>>,
    /// It is to be rebuilt; cleared when that is done or has failed.
    requested: AtomicBool,
}

impl Slot {
    /// The place of a VM that was built.
    pub(crate) fn new(built: BuiltVm) -> Self {
        let cores = built.vm.cores().to_vec();
        Self {
            cores,
            built: Mutex::new(Rank::Slot, Arc::new(built)),
            requested: AtomicBool::new(false),
        }
    }

    /// The VM that stands here.
    pub(crate) fn built(&self) -> Arc<BuiltVm> {
        self.built.lock().clone()
    }

    /// Its cores, the first vCPU's first.
    pub(crate) fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// The vCPU that core `core` runs here, if any.
    pub(crate) fn vcpu(&self, core: usize) -> Option<usize> {
        self.cores.iter().position(|&own| own == core)
    }

    /// Asks for a rebuild; false if that was asked for already.
    pub(super) fn request(&self) -> bool {
        !self.requested.swap(true, Ordering::AcqRel)
    }

    /// The rebuild is done, or cannot be.
    pub(super) fn close_request(&self) {
        self.requested.store(false, Ordering::Release);
    }

    /// Whether its first core has a VM to rebuild.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether no other core looks at the VM that stands here any more.
    pub(super) fn is_alone(&self) -> bool {
        Arc::strong_count(&self.built.lock()) == 1
    }

    /// Puts another VM here.
    pub(super) fn replace(&self, built: Arc<BuiltVm>) {
        let old = core::mem::replace(&mut *self.built.lock(), built);
        drop(old);
    }
}
