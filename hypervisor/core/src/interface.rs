//! The guest interface of a VM whose devices an SMMU confines.

use alloc::sync::Arc;

use palisade_iommu::{DeviceId, Error, Owner, StreamPolicy};
use palisade_vm::hypercall::{Service, ServiceDevice};
use palisade_vm::layout;
use palisade_vm::memory::GuestMemory;
use palisade_vm::passthrough::Assigned;

use crate::system::System;

/// The service of a VM, with the devices that it may share its address spaces with; none
/// without such devices.
///
/// # Errors
/// A device that the IOMMU core does not know.
pub(crate) fn service(
    system: &System,
    owner: Owner,
    memory: &Arc<GuestMemory>,
    assigned: &[Assigned],
) -> Result<Option<Arc<Service>>, Error> {
    let mut devices = alloc::vec::Vec::new();
    let mut asid_bits = 16;
    for device in assigned.iter().filter(|device| device.isolated) {
        let id = DeviceId::new(device.address.number());
        let group = system.iommus.group_of(id)?;
        asid_bits = asid_bits.min(group.instance().capabilities().asid_bits);
        let streams = system.iommus.streams_of(id)?;
        let number = u32::from(device.guest.bdf);
        devices.push(ServiceDevice { number, group, streams, policy: StreamPolicy::default() });
    }
    if devices.is_empty() {
        return Ok(None);
    }
    let (iommus, memory) = (system.iommus.clone(), memory.clone());
    let service = Service::new(iommus, owner, memory.clone(), memory, layout::IPA_BITS, asid_bits);
    devices.into_iter().for_each(|device| service.add_device(device));
    Ok(Some(Arc::new(service)))
}
