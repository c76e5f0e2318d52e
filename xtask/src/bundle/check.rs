//! What can be known to be wrong before anything boots. Errors name the VM and the field.

use std::collections::HashSet;

use anyhow::{Context, Result, bail};
use palisade_bundle::{MAX_DEVICES, MAX_NAME, MAX_VCPUS, MAX_VMS, PAGE, RAM_BASE};
use palisade_e2e::scenario::size;

use crate::bundle::{Address, Description, Device, Vm};

/// Checks a description.
///
/// # Errors
/// The first thing that is wrong.
pub fn checked(description: &Description) -> Result<()> {
    if description.vms.is_empty() {
        bail!("there is no [[vm]]");
    }
    if description.vms.len() > MAX_VMS {
        bail!("{} VMs; {MAX_VMS} is the most", description.vms.len());
    }
    let mut names = HashSet::new();
    let mut taken: Vec<(String, String)> = Vec::new();
    for vm in &description.vms {
        check_vm(vm, &mut taken).with_context(|| format!("vm {:?}", vm.name))?;
        if !names.insert(vm.name.as_str()) {
            bail!("vm {:?}: name: two VMs have it", vm.name);
        }
    }
    Ok(())
}

fn check_vm(vm: &Vm, taken: &mut Vec<(String, String)>) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if vm.name.is_empty() || vm.name.len() > MAX_NAME || !vm.name.chars().all(plain) {
        bail!("name: 1 to {MAX_NAME} letters, digits or any of - _ . +");
    }
    if !(1..=MAX_VCPUS).contains(&(vm.vcpus as usize)) {
        bail!("vcpus: {}; 1 to {MAX_VCPUS} can be had", vm.vcpus);
    }
    let memory = memory(vm)?;
    if vm.kernel.is_empty() {
        bail!("kernel: empty");
    }
    if vm.bootargs.contains('\0') {
        bail!("bootargs: holds a NUL");
    }
    if let Some(word) = vm.dma_isolation.as_deref()
        && word != "none"
        && word != "smmu"
    {
        bail!("dma_isolation: {word:?} is neither \"smmu\" nor \"none\"");
    }
    if let Some(word) = vm.iommu.as_deref()
        && word != "none"
        && word != "smmuv3"
    {
        bail!("iommu: {word:?} is neither \"smmuv3\" nor \"none\"");
    }
    for range in &vm.readonly {
        let length = size(&range.size)
            .with_context(|| format!("readonly.size: {:?} is no size", range.size))?;
        let end = range.ipa.checked_add(length).context("readonly: wraps around")?;
        if length == 0 || !length.is_multiple_of(PAGE) || !range.ipa.is_multiple_of(PAGE) {
            bail!("readonly: {:#x}..{end:#x} is not made of 4 KiB pages", range.ipa);
        }
        if range.ipa < RAM_BASE || end > RAM_BASE.saturating_add(memory) {
            bail!("readonly: {:#x}..{end:#x} is not inside the VM's RAM", range.ipa);
        }
    }
    if vm.devices.len() > MAX_DEVICES {
        bail!("device: {} devices; {MAX_DEVICES} is the most", vm.devices.len());
    }
    let mut places = HashSet::new();
    for device in &vm.devices {
        let what = check_device(device, &mut places)?;
        if let Some((_, owner)) = taken.iter().find(|(other, _)| *other == what) {
            bail!("device {what}: already given to vm {owner:?}");
        }
        taken.push((what, vm.name.clone()));
    }
    Ok(())
}

/// A VM's memory in bytes.
pub fn memory(vm: &Vm) -> Result<u64> {
    let bytes = size(&vm.memory).with_context(|| format!("memory: {:?} is no size", vm.memory))?;
    if bytes == 0 || !bytes.is_multiple_of(PAGE) {
        bail!("memory: {:?} is not a multiple of 4 KiB", vm.memory);
    }
    Ok(bytes)
}

fn check_device(device: &Device, places: &mut HashSet<u32>) -> Result<String> {
    let what = match (&device.pci, &device.fdt_path) {
        (Some(pci), None) => {
            let address: Address = pci.parse().context("device.pci")?;
            if let Some(guest) = &device.guest {
                let place: Address = guest.parse().context("device.guest")?;
                if place.segment != 0 {
                    bail!("device.guest: {guest:?}: a guest has segment 0 only");
                }
                if place.bus == 0 && place.device == 0 {
                    bail!("device.guest: {guest:?} is the host bridge's place");
                }
                if !places.insert(place.word()) {
                    bail!("device.guest: {guest:?} is used twice");
                }
            }
            address.to_string()
        }
        (None, Some(path)) => {
            if !path.starts_with('/') || path.len() > 255 || path.contains('\0') {
                bail!("device.fdt_path: {path:?} is no path in a device tree");
            }
            path.clone()
        }
        _ => bail!("device: give either pci or fdt_path"),
    };
    if let Some(reset) = &device.reset
        && reset != "none"
    {
        bail!("device {what}: reset: {reset:?} is not \"none\"");
    }
    if device.stalls && device.pci.is_some() {
        bail!("device {what}: stalls: a PCI device must not be stalled");
    }
    if device.ats_trusted && device.pci.is_none() {
        bail!("device {what}: ats_trusted: ATS is for devices on PCI only");
    }
    Ok(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "[[vm]]\nname='a'\nmemory='2MiB'\nkernel='k'\n";

    fn refusal(text: &str) -> String {
        let description: Description = toml::from_str(text).unwrap();
        format!("{:#}", checked(&description).unwrap_err())
    }

    #[test]
    fn a_plain_vm_is_accepted() {
        checked(&toml::from_str(VM).unwrap()).unwrap();
    }

    #[test]
    fn refusals_name_vm_and_field() {
        let device = "[[vm.device]]\npci='0000:01:00.0'\n";
        let cases: &[(String, &[&str])] = &[
            (String::new(), &["no [[vm]]"]),
            (format!("{VM}vcpus=0"), &["\"a\"", "vcpus"]),
            (format!("{VM}vcpus={}", MAX_VCPUS + 1), &["\"a\"", "vcpus", "1 to 8"]),
            (format!("{VM}{}", device.repeat(MAX_DEVICES + 1)), &["device", "9 devices; 8"]),
            (VM.repeat(MAX_VMS + 1), &["9 VMs; 8"]),
            (VM.replace("2MiB", "2 bananas"), &["\"a\"", "memory", "bananas"]),
            (VM.replace("2MiB", "100"), &["memory", "4 KiB"]),
            (format!("{VM}dma_isolation='off'"), &["dma_isolation", "off"]),
            (format!("{VM}iommu='smmu'"), &["iommu", "smmu"]),
            (format!("{VM}{VM}"), &["name", "two VMs"]),
            (format!("{VM}{device}{}{device}", VM.replace("'a'", "'b'")), &["01:00.0", "\"a\""]),
            (format!("{VM}[[vm.device]]\nguest='00:01.0'"), &["either pci or fdt_path"]),
            (format!("{VM}{device}guest='00:00.0'"), &["host bridge"]),
            (format!("{VM}{device}reset='maybe'"), &["reset", "maybe"]),
            (format!("{VM}{device}stalls=true"), &["01:00.0", "stalls", "PCI"]),
            (
                format!("{VM}[[vm.device]]\nfdt_path='/a'\nats_trusted=true"),
                &["/a", "ats_trusted", "PCI"],
            ),
            (format!("{VM}[[vm.readonly]]\nipa=0x40200000\nsize='4KiB'"), &["readonly", "inside"]),
            (format!("{VM}[[vm.readonly]]\nipa=0x40000001\nsize='4KiB'"), &["readonly", "pages"]),
            (VM.replace("'a'", "'a b'"), &["name", "letters"]),
        ];
        for (text, words) in cases {
            let error = refusal(text);
            assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
        }
    }
}
