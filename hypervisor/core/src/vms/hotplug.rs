//! A device leaves a running VM, and comes to one.
//!
//! Out: the function leaves the guest's bus, its messages and its wire go, then its stream aborts,
//! translations are invalidated, it is drained, reset and proven idle, and only then free. In: idle
//! again, into the VM's domain, its messages and wire, and last the guest's bus.

use alloc::vec::Vec;

use palisade_bundle::{Device, Place, Requester};
use palisade_gic::FIRST_SPI;
use palisade_hal::cpu::Counter;
use palisade_iommu::{Condition, DeviceId};
use palisade_pci::Address;
use palisade_vm::WireError;
use palisade_vm::passthrough::{Refusal, Request};
use palisade_vm::pci::PciError;
use thiserror::Error;

use crate::operator::posture;
use crate::vms::built::BuiltVm;
use crate::vms::interface;
use crate::vms::senders;
use crate::vms::system::System;
use crate::vms::watch::Watch;
use crate::vms::wires::wire;

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
    Refused(#[from] Refusal),
    /// It does not fit the guest's bus.
    #[error("{0}")]
    Bus(#[from] PciError),
    /// Its wire did not leave the VM.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The IOMMU core refused.
    #[error("{0}")]
    Iommu(#[from] palisade_iommu::Error),
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
    withdraw(system, built, device)
}

fn not_running(system: &System, built: &BuiltVm) -> HotplugError {
    HotplugError::NotRunning(system.vm_name(built.vm.index() as u16))
}

fn withdraw(system: &'static System, built: &BuiltVm, device: Address) -> Result<(), HotplugError> {
    let vm = built.vm.index() as u16;
    let rows = system.machine.devices.rows();
    let own =
        |address: Address| rows.iter().find(|row| row.address == address && row.owner == Some(vm));
    if own(device).is_none() {
        return Err(HotplugError::NotOwned(device));
    }
    let group = system.machine.iommus.group_of(DeviceId::new(device.number())).ok();
    let along = group.as_ref().map(|group| group.devices()).unwrap_or_default();
    let moves = |address: Address| {
        address == device || along.iter().any(|member| member.get() == address.number())
    };
    let places = built.pci.places();
    for (_, guest) in places.iter().filter(|(address, _)| moves(*address)) {
        built.pci.remove(guest.bdf);
    }
    // Before the device is anybody else's: no message of it reaches the VM any more, and no vCPU
    // can end an interrupt of its wire.
    let mut held = None;
    for (address, guest) in places.iter().filter(|(address, _)| moves(*address)) {
        built.vm.remove_sender(u32::from(guest.bdf));
        if let Some(line) = own(*address).and_then(|row| row.wire)
            && let Err(error) = unwire(system, built, line)
        {
            log::error!("device {address}: {error}");
            held = Some((line, error));
        }
    }
    let watch = Watch::new(system);
    let returned =
        system.machine.devices.take_back_device(vm, device, &system.machine.iommus, &watch);
    if let Some((line, _)) = held {
        // A vCPU may still end its interrupt: it is given to nobody else.
        system.machine.devices.lines().give_wire(vm, line);
    }
    let bad = returned.iter().find(|one| one.condition != Condition::Free);
    if let (Some(group), Some(service)) = (&group, built.vm.service()) {
        service.remove_group(group, group.condition() != Condition::Dead);
    }
    built.vm.kick_pending(&system.machine.gic);
    posture::report(system);
    match (bad, held) {
        (Some(one), _) => {
            Err(HotplugError::NotFree { device: one.address, condition: one.condition })
        }
        (None, Some((_, error))) => Err(error.into()),
        (None, None) => Ok(()),
    }
}

/// Takes a wire from a VM that runs.
fn unwire(system: &System, built: &BuiltVm, line: u32) -> Result<(), WireError> {
    if line < FIRST_SPI {
        return Ok(());
    }
    built.vm.take_wire(line, &system.machine.gic, &Counter)
}

/// Gives a free device to a VM that runs. Only one that an SMMU confines: what a manifest may
/// waive, a prompt may not.
///
/// # Errors
/// Whatever keeps it from being the VM's; it is nobody's then.
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
    let domain = built.vm.memory().domain();
    let assigned =
        system.machine.devices.assign(&request, domain, &system.machine.iommus, &Counter)?;
    for one in &assigned {
        let added = (|| {
            if let Some(service) = built.vm.service() {
                service.add_device(interface::device(&system.machine, one)?);
            }
            for sender in senders::of(&system.machine.board.pcie, core::slice::from_ref(one)) {
                built.vm.add_sender(sender);
            }
            wire(&system.machine, &built.vm, one);
            Ok(built.pci.add(&one.topology, one.guest)?)
        })();
        if let Err(error) = added {
            built.vm.remove_sender(u32::from(guest));
            if let Some((line, _)) = one.wire
                && let Err(error) = unwire(system, built, line.intid)
            {
                log::error!("device {}: {error}", one.address);
            }
            let _ = withdraw(system, built, device);
            return Err(error);
        }
    }
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
