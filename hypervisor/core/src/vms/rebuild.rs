//! Starting a VM that has ended.

use alloc::sync::Arc;

use palisade_hal::Deadline;
use palisade_hal::cpu::Counter;
use thiserror::Error;

use crate::operator::posture;
use crate::vms::build::build;
use crate::vms::bundle;
use crate::vms::slot::Slot;
use crate::vms::standing::Standing;
use crate::vms::system::System;

/// Others that still look at an ended VM after this time hold on to it for good, in microseconds.
const PATIENCE: u64 = 5_000_000;

/// Why a VM is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum RestartError {
    /// It runs.
    #[error("it has not ended")]
    Running,
    /// It has stopped, and what it had is still being taken from it.
    #[error("it is ending: start it once `vms` says off")]
    Ending,
    /// An earlier command started it.
    #[error("it is about to start already")]
    Requested,
    /// No VM is left, and nothing keeps the machine on.
    #[error("every VM has ended: the machine goes off")]
    AllEnded,
}

/// Asks the VM's first core to rebuild and start it.
///
/// # Errors
/// [`RestartError`]; nothing has changed then.
pub(crate) fn request_restart(system: &System, slot: &Slot) -> Result<(), RestartError> {
    let built = slot.built();
    match built.standing() {
        Standing::Life(_) => return Err(RestartError::Running),
        Standing::Ending => return Err(RestartError::Ending),
        Standing::Gone(_) => {}
    }
    if !slot.request() {
        return Err(RestartError::Requested);
    }
    if !system.one_more() {
        slot.close_request();
        return Err(RestartError::AllEnded);
    }
    system.machine.wake_all();
    Ok(())
}

/// Builds the VM again and starts it. When that fails, the ended one stays.
pub(crate) fn rebuild(system: &'static System, slot: &Slot) {
    let old = slot.built();
    let (manifest, index) = (old.manifest(), old.vm.index());
    drop(old);
    // Its other cores are on their way out; what they hold is to be given back first.
    if !Deadline::after(&Counter, PATIENCE).wait(&Counter, || slot.is_alone()) {
        log::warn!("vm {}: what it was is still in use", manifest.name);
    }
    match build(&system.machine, manifest, index, slot.cores().to_vec()) {
        Ok(built) => {
            let built = Arc::new(built);
            built.report("built", None);
            built.report_ram();
            posture::report(system);
            slot.replace(built.clone());
            slot.close_request();
            built.boot(&system.machine);
            // Its other cores.
            system.machine.wake_all();
        }
        Err(error) => {
            bundle::refused(manifest.name, index, &error);
            slot.close_request();
            system.one_less();
        }
    }
}
