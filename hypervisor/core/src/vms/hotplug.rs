//! A device leaves a running VM, and comes to one, at the operator's word.

use alloc::vec::Vec;

use palisade_bundle::{Device, Place, Requester};
use palisade_hal::cpu::Counter;
use palisade_iommu::Condition;
use palisade_pci::Address;
use palisade_vm::WireError;
use palisade_vm::passthrough::{PlugError, Refusal, Request, Which};
use palisade_vm::pci::PciError;
use thiserror::Error;

use crate::operator::posture;
use crate::vms::built::BuiltVm;
use crate::vms::system::System;
use crate::vms::watch::Watch;

/// Why a device does not move.
#[derive(Debug, Error)]
pub(crate) enum HotplugError {
    /// The VM has ended, or is on its way.
    #[error("vm {0} does not run")]
    NotRunning(&'static str),
    /// The VM does not have the device.
    #[error("device {0}: not the VM's")]
    NotOwned(Address),
    /// It was taken away and is not free.
    #[error("device {device}: taken away, and {condition}", condition = .condition.name())]
    NotFree {
        /// The device.
        device: Address,
        /// What it is.
        condition: Condition,
    },
    /// The VM does not get it.
    #[error("{0}")]
    Refused(#[from] PlugError),
    /// Its place on the guest's bus is taken.
    #[error("{0}")]
    Bus(#[from] PciError),
    /// Its wire did not leave the VM.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// It cannot be reset.
    #[error("{0}")]
    NotReset(#[from] Refusal),
}

/// Takes a device, and all of its group, from a VM that runs.
///
/// # Errors
/// The VM does not have it, or it is not free afterwards.
pub(crate) fn detach(
    system: &'static System,
    built: &BuiltVm,
    device: Address,
) -> Result<(), HotplugError> {
    let _devices = built.hold().ok_or(not_running(system, built))?;
    let machine = &system.machine;
    let (vm, watch) = (built.vm.index() as u16, Watch::new(system));
    let which = Which::These(core::slice::from_ref(&device));
    let unplugged =
        machine.devices.unplug(&built.fittings(machine), vm, which, &machine.iommus, &watch);
    if unplugged.devices.is_empty() {
        return Err(HotplugError::NotOwned(device));
    }
    posture::report(system);
    let bad = unplugged.devices.iter().find(|one| one.condition != Condition::Free);
    match (bad, unplugged.held) {
        (Some(one), _) => {
            Err(HotplugError::NotFree { device: one.address, condition: one.condition })
        }
        (None, Some(error)) => Err(error.into()),
        (None, None) => Ok(()),
    }
}

fn not_running(system: &System, built: &BuiltVm) -> HotplugError {
    HotplugError::NotRunning(system.vm_name(built.vm.index() as u16))
}

/// Gives a free device to a VM that runs. Only one that an SMMU confines: what a manifest may
/// waive, a prompt may not.
///
/// # Errors
/// Whatever keeps it from being the VM's; it has no owner then.
pub(crate) fn assign(
    system: &'static System,
    built: &BuiltVm,
    device: Address,
    guest: u16,
) -> Result<(), HotplugError> {
    let _devices = built.hold().ok_or(not_running(system, built))?;
    if built.pci.places().iter().any(|(_, other)| other.bdf == guest) {
        return Err(PciError::Taken(guest).into());
    }
    let place = Requester { segment: device.segment(), bdf: device.requester() };
    let wanted = Device {
        place: Place::Pci(place),
        guest,
        no_reset: false,
        settle_ms: system.machine.devices.settle_ms(device),
        ats_trusted: false,
        stalls: false,
    };
    let vm = built.vm.index() as u16;
    let present: Vec<u16> = built.pci.guests().iter().map(|other| other.bdf).collect();
    let request = Request { vm, devices: &[wanted], present: &present, no_isolation: false };
    let machine = &system.machine;
    let domain = built.vm.memory().domain();
    machine.devices.plug(&built.fittings(machine), &request, domain, &machine.iommus, &Counter)?;
    posture::report(system);
    Ok(())
}

/// Resets a device that no VM owns.
///
/// # Errors
/// It is a VM's, cannot be reset, or is not free afterwards.
pub(crate) fn reset(system: &'static System, device: Address) -> Result<(), HotplugError> {
    if system.machine.devices.reset_unowned(device, &system.machine.iommus, &Counter)? {
        return Ok(());
    }
    Err(HotplugError::NotFree { device, condition: Condition::Quarantined })
}
