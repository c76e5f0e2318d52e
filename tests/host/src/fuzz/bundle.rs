//! Bundle bytes: no panic, and what is accepted keeps its promises.

use arbitrary::Unstructured;
use palisade_bundle::{Bundle, MAX_DEVICES, MAX_READONLY, MAX_VCPUS, MAX_VMS};
use palisade_vm::load::place;
use vm_fdt::FdtWriter;

use super::edits::edit;
use super::reached::Reached;

/// The first byte says what the rest is (a bundle, or edits of a right one's manifest, or of
/// the whole), and on how many cores.
pub fn bundle(data: &[u8], reached: &mut Reached) {
    let Some((kind, rest)) = data.split_first() else { return };
    let cores = usize::from(kind / 3 % 6);
    let mut input = Unstructured::new(rest);
    let bytes = match kind % 3 {
        0 => rest.to_vec(),
        1 => {
            let mut manifest = manifest();
            let _ = edit(&mut manifest, &mut input);
            archive(&manifest)
        }
        _ => {
            let mut bytes = archive(&manifest());
            let _ = edit(&mut bytes, &mut input);
            bytes
        }
    };
    let bundle = match Bundle::parse(&bytes, cores) {
        Ok(bundle) => bundle,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return reached.note("malformed");
        }
    };
    assert!(bundle.entries().len() <= MAX_VMS && bundle.archive().size() <= bytes.len());
    let mut left = cores;
    for entry in bundle.entries() {
        let vm = match &entry.vm {
            Ok(vm) => vm,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                reached.note("vm refused");
                continue;
            }
        };
        reached.note("vm");
        assert!((1..=MAX_VCPUS).contains(&vm.vcpus) && vm.vcpus <= left, "cores given twice");
        left -= vm.vcpus;
        assert!(vm.devices.len() <= MAX_DEVICES && vm.readonly.len() <= MAX_READONLY);
        let initrd = vm.initrd.map_or(0, |file| file.data.len() as u64);
        if let Ok(placed) = place(vm.kernel.data, initrd, vm.memory) {
            reached.note("placed");
            let end = palisade_bundle::RAM_BASE + vm.memory;
            assert!(placed.kernel.get() + vm.kernel.data.len() as u64 <= placed.initrd.get());
            assert!(placed.initrd.get() + initrd <= placed.tree.get());
            assert!(placed.tree.get() + placed.tree_bytes <= end);
        }
    }
}

/// Two VMs that are right, one with a device.
fn manifest() -> Vec<u8> {
    write().unwrap_or_default()
}

fn write() -> Result<Vec<u8>, vm_fdt::Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "palisade,manifest-1")?;
    let list = fdt.begin_node("vms")?;
    for name in ["one", "two"] {
        let vm = fdt.begin_node(name)?;
        fdt.property_u32("vcpus", 1)?;
        fdt.property_u64("memory", 32 << 20)?;
        fdt.property_string("kernel", "kernel.bin")?;
        if name == "two" {
            fdt.property_string("initrd", "initrd.cpio")?;
            fdt.property_string("bootargs", "console=ttyAMA0")?;
            let devices = fdt.begin_node("devices")?;
            let device = fdt.begin_node("device@0")?;
            fdt.property_u32("pci", 0x10)?;
            fdt.end_node(device)?;
            fdt.end_node(devices)?;
        }
        fdt.end_node(vm)?;
    }
    fdt.end_node(list)?;
    fdt.end_node(root)?;
    fdt.finish()
}

/// A newc archive of the manifest and two images.
fn archive(manifest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let files: [(&str, u32, &[u8]); 4] = [
        ("manifest.dtb", 0o100_644, manifest),
        ("kernel.bin", 0o100_644, &[0x5a; 256]),
        ("initrd.cpio", 0o100_644, &[1; 100]),
        ("TRAILER!!!", 0, &[]),
    ];
    for (name, mode, data) in files {
        let (bytes, length) = (data.len() as u32, name.len() as u32 + 1);
        out.extend(b"070701");
        for field in [1, mode, 0, 0, 1, 0, bytes, 0, 0, 0, 0, length, 0] {
            out.extend(format!("{field:08X}").bytes());
        }
        out.extend(name.bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}
