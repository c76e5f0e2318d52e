//! The manifest: the description as the hypervisor reads it, a device tree blob.

use anyhow::{Context, Result};
use palisade_e2e::scenario::size;
use vm_fdt::FdtWriter;

use crate::bundle::check::memory;
use crate::bundle::pack::Entry;
use crate::bundle::{Address, Device, Vm};

/// Writes the manifest for VMs whose images have the given names in the archive.
pub fn manifest(vms: &[(&Vm, Entry)]) -> Result<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "palisade,manifest-1")?;
    let all = fdt.begin_node("vms")?;
    for (vm, entry) in vms {
        write_vm(&mut fdt, vm, entry).with_context(|| format!("vm {:?}", vm.name))?;
    }
    fdt.end_node(all)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

fn write_vm(fdt: &mut FdtWriter, vm: &Vm, entry: &Entry) -> Result<()> {
    let node = fdt.begin_node(&vm.name)?;
    fdt.property_u32("vcpus", vm.vcpus)?;
    fdt.property_u64("memory", memory(vm)?)?;
    fdt.property_string("kernel", &entry.kernel)?;
    if let Some(initrd) = &entry.initrd {
        fdt.property_string("initrd", initrd)?;
    }
    if vm.firmware {
        fdt.property_null("firmware")?;
    }
    if !vm.bootargs.is_empty() {
        fdt.property_string("bootargs", &vm.bootargs)?;
    }
    if vm.dma_isolation.as_deref() == Some("none") {
        fdt.property_string("dma-isolation", "none")?;
    }
    if vm.iommu.as_deref() == Some("smmuv3") {
        fdt.property_string("iommu", "smmuv3")?;
    }
    if !vm.readonly.is_empty() {
        let mut cells = Vec::new();
        for range in &vm.readonly {
            cells.push(range.ipa);
            cells.push(size(&range.size).context("readonly.size")?);
        }
        fdt.property_array_u64("readonly", &cells)?;
    }
    if !vm.devices.is_empty() {
        let devices = fdt.begin_node("devices")?;
        for (number, device) in vm.devices.iter().enumerate() {
            write_device(fdt, number, device)?;
        }
        fdt.end_node(devices)?;
    }
    fdt.end_node(node)?;
    Ok(())
}

fn write_device(fdt: &mut FdtWriter, number: usize, device: &Device) -> Result<()> {
    let node = fdt.begin_node(&format!("device@{number:x}"))?;
    if let Some(pci) = &device.pci {
        fdt.property_u32("pci", pci.parse::<Address>()?.word())?;
    }
    if let Some(path) = &device.fdt_path {
        fdt.property_string("fdt-path", path)?;
    }
    if let Some(guest) = &device.guest {
        fdt.property_u32("guest-bdf", guest.parse::<Address>()?.word())?;
    }
    if device.reset.is_some() {
        fdt.property_string("reset", "none")?;
    }
    if let Some(settle) = device.settle_ms {
        fdt.property_u32("settle-ms", settle)?;
    }
    if device.ats_trusted {
        fdt.property_null("ats-trusted")?;
    }
    if device.stalls {
        fdt.property_null("stalls")?;
    }
    fdt.end_node(node)?;
    Ok(())
}
