//! The archive: `manifest.dtb` first, then each image once.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use palisade_bundle::{Bundle, MANIFEST, MAX_CORES};

use crate::bundle::manifest::manifest;
use crate::bundle::{Description, Vm, checked};
use crate::unpack;

/// cpio newc has 32-bit sizes; QEMU and the Pi's firmware have less patience.
const LARGEST: u64 = 1 << 31;

/// Where images come from.
pub trait Images {
    /// The raw image of a payload.
    ///
    /// # Errors
    /// There is none of that name or it does not build.
    fn payload(&mut self, name: &str) -> Result<PathBuf>;

    /// `kernel` or `initramfs` of Debian's arm64 packages.
    ///
    /// # Errors
    /// They cannot be fetched, or there is none of that name.
    fn debian(&mut self, name: &str) -> Result<PathBuf>;
}

/// The names of a VM's files in the archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kernel's.
    pub kernel: String,
    /// The initrd's.
    pub initrd: Option<String>,
}

/// Checks a description and packs it; paths in it are relative to `folder`.
///
/// # Errors
/// Names the VM and the field.
pub fn pack(description: &Description, folder: &Path, images: &mut dyn Images) -> Result<Vec<u8>> {
    checked(description)?;
    let archive = pack_unchecked(description, folder, images)?;
    reread(&archive)?;
    Ok(archive)
}

/// Packs a description as it is, for tests of who reads it.
///
/// # Errors
/// What cannot be written at all.
pub fn pack_unchecked(
    description: &Description,
    folder: &Path,
    images: &mut dyn Images,
) -> Result<Vec<u8>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut vms: Vec<(&Vm, Entry)> = Vec::new();
    for vm in &description.vms {
        let entry =
            collect(vm, folder, images, &mut files).with_context(|| format!("vm {:?}", vm.name))?;
        vms.push((vm, entry));
    }
    let mut archive = Vec::new();
    write(&mut archive, MANIFEST, &manifest(&vms)?)?;
    for (name, bytes) in &files {
        write(&mut archive, name, bytes)?;
    }
    Ok(cpio::newc::trailer(archive)?)
}

/// Reads the archive with the hypervisor's own reader: what it would refuse is refused here. How
/// many cores the machine has is not known yet, but how many it can have at most.
fn reread(archive: &[u8]) -> Result<()> {
    let bundle = Bundle::parse(archive, MAX_CORES).map_err(|error| anyhow!("{error}"))?;
    for entry in bundle.entries() {
        entry.vm.as_ref().map_err(|error| anyhow!("{error}"))?;
    }
    Ok(())
}

fn collect(
    vm: &Vm,
    folder: &Path,
    images: &mut dyn Images,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<Entry> {
    let kernel = kept(&vm.kernel, folder, &format!("{}.kernel", vm.name), images, files, &|path| {
        if vm.firmware { raw(path) } else { unpack::kernel(path) }
    })
    .context("kernel")?;
    let initrd = vm.initrd.as_ref().map(|file| {
        kept(file, folder, &format!("{}.initrd", vm.name), images, files, &|path| raw(path))
            .context("initrd")
    });
    let initrd = initrd.transpose()?;
    Ok(Entry { kernel, initrd })
}

/// A file as it is.
fn raw(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(bytes)
}

/// Puts a file into the bundle and gives its name there. `payload:NAME` and `debian:NAME` are
/// kept once however many VMs use them; anything else is a path, the VM's own.
fn kept(
    wanted: &str,
    folder: &Path,
    own: &str,
    images: &mut dyn Images,
    files: &mut BTreeMap<String, Vec<u8>>,
    read: &dyn Fn(&Path) -> Result<Vec<u8>>,
) -> Result<String> {
    let (path, name) = match wanted.split_once(':') {
        Some(("payload", name)) => (images.payload(name)?, format!("payload-{name}")),
        Some(("debian", name)) => (images.debian(name)?, format!("debian-{name}")),
        _ => (folder.join(wanted), own.to_owned()),
    };
    if !files.contains_key(&name) {
        files.insert(name.clone(), read(&path)?);
    }
    Ok(name)
}

fn write(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) -> Result<()> {
    if archive.len() as u64 + bytes.len() as u64 > LARGEST {
        bail!("the bundle grows beyond {LARGEST} bytes with {name}");
    }
    let size = u32::try_from(bytes.len()).with_context(|| format!("{name} is too large"))?;
    let mut writer = cpio::newc::Builder::new(name).mode(0o100_644).write(archive, size);
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct None;

    impl Images for None {
        fn payload(&mut self, name: &str) -> Result<PathBuf> {
            bail!("no payload {name} here")
        }
        fn debian(&mut self, name: &str) -> Result<PathBuf> {
            bail!("no {name} of Debian's here")
        }
    }

    fn packed(extra: &str) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let flat: Vec<u8> = 0x1400_0000u32.to_le_bytes().repeat(16);
        std::fs::write(folder.path().join("k"), flat)?;
        let text = format!("[[vm]]\nname='a'\nmemory='2MiB'\nkernel='k'\n{extra}");
        pack(&toml::from_str(&text)?, folder.path(), &mut None)
    }

    #[test]
    fn the_manifest_comes_first_and_images_follow() {
        let archive = packed("bootargs='quiet'\n[[vm.device]]\npci='0000:01:00.0'\n").unwrap();
        let reader = cpio::NewcReader::new(archive.as_slice()).unwrap();
        assert_eq!(reader.entry().name(), MANIFEST);
        let mut blob = Vec::new();
        let rest = reader.to_writer(&mut blob).unwrap();
        assert_eq!(blob.get(..4), Some(&[0xd0, 0x0d, 0xfe, 0xed][..]));
        let reader = cpio::NewcReader::new(rest).unwrap();
        assert_eq!(reader.entry().name(), "a.kernel");
        assert_eq!(reader.entry().file_size(), 64);
    }

    #[test]
    fn what_the_hypervisor_refuses_is_not_packed() {
        let vm = |name| format!("[[vm]]\nname='{name}'\nmemory='2MiB'\nkernel='k'\n");
        for (extra, word) in [
            // Together more cores than the hypervisor runs on.
            (format!("vcpus=5\n{}vcpus=4\n", vm("b")), "cores"),
            ("[[vm.readonly]]\nipa=0x40000000\nsize='8KiB'\n".repeat(2), "readonly"),
            ("[[vm.device]]\npci='01:00.0'\nsettle_ms=60001\n".to_owned(), "settle"),
        ] {
            let error = format!("{:#}", packed(&extra).unwrap_err());
            assert!(error.contains(word), "{extra}: {error}");
        }
        packed(&format!("vcpus=5\n{}vcpus=3\n", vm("b"))).unwrap();
    }

    #[test]
    fn errors_name_vm_field_and_file() {
        let error = format!("{:#}", packed("initrd='missing'\n").unwrap_err());
        for word in ["\"a\"", "initrd", "missing"] {
            assert!(error.contains(word), "{error}");
        }
    }
}
