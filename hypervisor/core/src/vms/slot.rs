//! A VM's place: its cores, and the VM that stands there now. One that has ended stands there
//! until the operator wants it anew; its own first core then builds it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::Deadline;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::Mutex;

use crate::vms::bundle;
use crate::vms::core_loop;
use crate::vms::system::System;
use crate::vms::unit::{self, Unit};

/// Others that still look at an ended VM after this time hold on to it for good, in microseconds.
const PATIENCE: u64 = 5_000_000;

/// A VM's place.
pub(crate) struct Slot {
    cores: Vec<usize>,
    /// Lock order: a leaf, held for a clone.
    unit: Mutex<Arc<Unit>>,
    /// It is to be built anew; cleared when that is done or has failed.
    wanted: AtomicBool,
}

impl Slot {
    /// The place of a VM that was built.
    pub(crate) fn new(unit: Unit) -> Self {
        let cores = unit.vm.cores().to_vec();
        Self { cores, unit: Mutex::new(Arc::new(unit)), wanted: AtomicBool::new(false) }
    }

    /// The VM that stands here.
    pub(crate) fn unit(&self) -> Arc<Unit> {
        self.unit.lock().clone()
    }

    /// The vCPU that core `core` runs here, if any.
    pub(crate) fn vcpu(&self, core: usize) -> Option<usize> {
        self.cores.iter().position(|&own| own == core)
    }

    /// Wants the VM that stood here anew. False if it has not ended, is wanted already, or the
    /// machine is about to go off.
    pub(crate) fn want(&self, system: &System) -> bool {
        if !self.unit().is_gone() || self.wanted.swap(true, Ordering::AcqRel) {
            return false;
        }
        if !core_loop::one_more() {
            self.wanted.store(false, Ordering::Release);
            return false;
        }
        system.wake_all();
        true
    }

    /// Whether its first core has a VM to build.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Builds the VM anew and starts it. When that fails, the ended one stays.
    pub(crate) fn renew(&self, system: &'static System) {
        let old = self.unit();
        let (manifest, index) = (old.manifest(), old.vm.index());
        drop(old);
        // Its other cores are on their way out; what they hold is to be given back first.
        let alone = || Arc::strong_count(&self.unit.lock()) == 1;
        if !Deadline::after(&Counter, PATIENCE).wait(&Counter, alone) {
            log::warn!("vm {}: what it was is still in use", manifest.name);
        }
        match unit::build(system, manifest, index, self.cores.clone()) {
            Ok(unit) => {
                let unit = Arc::new(unit);
                unit.tell("built", None);
                unit.tell_ram();
                system.tell_posture();
                let old = core::mem::replace(&mut *self.unit.lock(), unit.clone());
                drop(old);
                self.wanted.store(false, Ordering::Release);
                unit.boot(system);
                // Its other cores.
                system.wake_all();
            }
            Err(error) => {
                bundle::refused(manifest.name, index, &error);
                self.wanted.store(false, Ordering::Release);
                core_loop::one_less(system);
            }
        }
    }
}
