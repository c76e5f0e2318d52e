//! The guest interface of a VM whose devices an SMMU confines.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::Ipa;
use palisade_iommu::{DeviceId, Error, Owner};
use palisade_vm::Vm;
use palisade_vm::hypercall::{Service, ServiceDevice};
use palisade_vm::layout;
use palisade_vm::memory::GuestMemory;
use palisade_vm::passthrough::Assigned;
use palisade_vm::smmu::{Identity, Lines, SmmuConfig, SmmuDevice};

use crate::machine::instances::Machine;
use crate::vms::refusal::BuildError;

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
    smmus: Vec<Arc<SmmuDevice>>,
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
    let service = Service::new(iommus, owner, memory.clone(), memory, layout::IPA_BITS, asid_bits)
        .with_smmus(smmus);
    devices.into_iter().for_each(|device| service.add_device(device));
    Ok(Some(Arc::new(service)))
}

/// The VM's own SMMUs in its memory map: one for each physical SMMU that its devices are behind.
///
/// # Errors
/// A physical one that no guest can be shown, or too many.
pub(crate) fn smmus(
    machine: &Machine,
    owner: Owner,
    vm: &mut Vm,
    assigned: &[Assigned],
) -> Result<Vec<Arc<SmmuDevice>>, BuildError> {
    let mut smmus: Vec<Arc<SmmuDevice>> = Vec::new();
    for one in assigned.iter().filter(|device| device.isolated) {
        let group = machine.iommus.group_of(DeviceId::new(one.address.number()))?;
        let phandle = group.instance().phandle();
        if smmus.iter().any(|smmu| smmu.phandle() == phandle) {
            continue;
        }
        let shown = group.instance().driver().guest_identity(layout::IPA_BITS);
        let shown = shown.ok_or(BuildError::NoVirtualSmmu(phandle))?;
        let number = smmus.len();
        if number == layout::MAX_SMMUS {
            return Err(BuildError::TooManySmmus(layout::MAX_SMMUS));
        }
        let first = layout::SMMU_INTID + number as u32 * layout::SMMU_INTIDS;
        let line = |nth| vm.vgic().line(first + nth);
        let smmu = SmmuDevice::new(SmmuConfig {
            identity: Identity { idr: shown.features, aidr: shown.version },
            phandle,
            iommus: machine.iommus.clone(),
            owner,
            ram: vm.memory().clone(),
            lines: Lines { event: line(0), sync: line(1), error: line(2) },
        });
        let base = Ipa::new(layout::SMMU + number as u64 * layout::SMMU_BYTES);
        vm.add_device(base, layout::SMMU_BYTES, smmu.clone())?;
        smmus.push(smmu);
    }
    if smmus.is_empty() {
        log::warn!("vm {}: iommu = \"smmuv3\": none of its devices is behind an SMMU", vm.name());
    }
    Ok(smmus)
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
