//! The guest interface of a VM whose devices an SMMU confines.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_iommu::{DeviceId, Error, Owner};
use palisade_vm::hypercall::{Service, ServiceDevice};
use palisade_vm::layout;
use palisade_vm::memory::GuestMemory;
use palisade_vm::passthrough::Assigned;

use crate::machine::instances::Machine;

/// The service of a VM, with the devices that it may share its address spaces with; none
/// without such devices.
///
/// # Errors
/// A device that the IOMMU core does not know.
pub(crate) fn service(
    machine: &Machine,
    owner: Owner,
    memory: &Arc<GuestMemory>,
    assigned: &[Assigned],
) -> Result<Option<Arc<Service>>, Error> {
    let isolated = assigned.iter().filter(|device| device.isolated);
    let devices: Result<Vec<ServiceDevice>, Error> =
        isolated.map(|one| device(machine, one)).collect();
    let devices = devices?;
    if devices.is_empty() {
        return Ok(None);
    }
    // A device that comes later may stand behind any of them.
    let instances = machine.iommus.instances();
    let bits = instances.iter().map(|instance| instance.capabilities().asid_bits);
    let asid_bits = bits.min().unwrap_or(16).min(16);
    let (iommus, memory) = (machine.iommus.clone(), memory.clone());
    let service = Service::new(iommus, owner, memory.clone(), memory, layout::IPA_BITS, asid_bits);
    devices.into_iter().for_each(|device| service.add_device(device));
    Ok(Some(Arc::new(service)))
}

/// What the service of its VM needs to know of a device.
///
/// # Errors
/// The IOMMU core does not know it.
pub(crate) fn device(machine: &Machine, device: &Assigned) -> Result<ServiceDevice, Error> {
    let id = DeviceId::new(device.address.number());
    let group = machine.iommus.group_of(id)?;
    let streams = machine.iommus.streams_of(id)?;
    let number = u32::from(device.guest.bdf);
    Ok(ServiceDevice { number, group, streams, policy: device.policy })
}
