//! The images of a VM, copied into its memory.

use alloc::vec::Vec;

use palisade_bundle::Vm as Manifest;
use palisade_vm::Vm;
use palisade_vm::load::{self, Boot, Images, LoadError, Machine};
use palisade_vm::passthrough::PlainSet;

/// Copies the images into the VM's memory.
///
/// # Errors
/// It is not an image, or does not fit.
pub(crate) fn load(
    manifest: &Manifest<'_>,
    vm: &Vm,
    plain: &PlainSet<'_>,
) -> Result<Boot, LoadError> {
    let smmus: Vec<Vec<u32>> = vm
        .service()
        .map(|service| service.smmus().iter().map(|smmu| smmu.streams()).collect())
        .unwrap_or_default();
    let machine = Machine {
        vcpus: vm.cores().len(),
        memory: manifest.memory,
        bootargs: manifest.bootargs,
        initrd: None,
        gic: vm.vgic().version(),
        its: vm.has_its(),
        pci: true,
        firmware: manifest.firmware,
        plain: Some(plain),
        no_dma_isolation: manifest.no_dma_isolation,
        smmus: &smmus,
    };
    let images = Images {
        kernel: manifest.kernel.data,
        initrd: manifest.initrd.as_ref().map(|file| file.data),
    };
    load::load(vm.memory(), &machine, images)
}
