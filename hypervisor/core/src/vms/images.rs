//! The images of a VM, copied into its memory.

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
    };
    let images = Images {
        kernel: manifest.kernel.data,
        initrd: manifest.initrd.as_ref().map(|file| file.data),
    };
    load::load(vm.memory(), &machine, images)
}
