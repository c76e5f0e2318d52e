//! The whole bundle.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use palisade_fdt::Tree;

use crate::archive::Archive;
use crate::error::{Error, Problem};
use crate::limits::{MAX_NAME, MAX_VMS};
use crate::vm::{self, Vm};

/// Name of the manifest in the archive.
pub const MANIFEST: &str = "manifest.dtb";
const COMPATIBLE: &str = "palisade,manifest-1";

/// A VM of the manifest, or why it cannot run.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is, or the first thing that is wrong with it.
    pub vm: Result<Vm<'a>, Box<Error<'a>>>,
}

/// A validated bundle. Everything in it is borrowed from the archive's bytes.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    archive: Archive<'a>,
    entries: ArrayVec<Entry<'a>, MAX_VMS>,
}

fn whole<'a>(field: &'a str, problem: Problem<'a>) -> Box<Error<'a>> {
    Error::new(MANIFEST, "", field, problem)
}

impl<'a> Bundle<'a> {
    /// Reads a bundle for a machine of `cores` cores. VMs take cores in the
    /// manifest's order; one that finds too few left is refused by itself, as is
    /// one that claims a device of a VM before it.
    ///
    /// # Errors
    /// What is wrong with the archive or the manifest as a whole.
    pub fn parse(bytes: &'a [u8], cores: usize) -> Result<Self, Box<Error<'a>>> {
        let archive = Archive::parse(bytes)?;
        let Some(file) = archive.file(MANIFEST) else {
            let problem = Problem::NoSuchFile(MANIFEST);
            return Err(Error::new("", "", "", problem));
        };
        let tree = Tree::new(file.data).map_err(|fault| whole("", Problem::Malformed(fault)))?;
        let entries = read(&tree, &archive, cores)?;
        Ok(Self { archive, entries })
    }

    /// The VMs, in the manifest's order: also the order of their indices.
    pub fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }

    /// The files.
    pub fn archive(&self) -> &Archive<'a> {
        &self.archive
    }
}

fn read<'a>(
    tree: &Tree<'a>,
    archive: &Archive<'a>,
    cores: usize,
) -> Result<ArrayVec<Entry<'a>, MAX_VMS>, Box<Error<'a>>> {
    let Some(root) = tree.node("/") else { return Err(whole("", Problem::Version)) };
    if !root.compatible(&[COMPATIBLE]) {
        return Err(whole("compatible", Problem::Version));
    }
    root.properties(&mut |name, _| match name {
        "compatible" | "#address-cells" | "#size-cells" => Ok(()),
        _ => Err(whole(name, Problem::Unknown)),
    })?;
    let mut entries = ArrayVec::<Entry<'a>, MAX_VMS>::new();
    let mut left = cores;
    root.children(&mut |vms| {
        if vms.name() != "vms" {
            return Err(whole(vms.name(), Problem::Unknown));
        }
        vms.properties(&mut |name, _| match name {
            "#address-cells" | "#size-cells" => Ok(()),
            _ => Err(whole(name, Problem::Unknown)),
        })?;
        vms.children(&mut |node| {
            let name = node.name();
            if name.len() > MAX_NAME || entries.iter().any(|entry| entry.name == name) {
                let problem =
                    if name.len() > MAX_NAME { Problem::Text(name) } else { Problem::Twice };
                return Err(Error::new(MANIFEST, name, "name", problem));
            }
            let vm = vm::read(node, archive).and_then(|vm| admit(vm, &entries, &mut left));
            match entries.try_push(Entry { name, vm }) {
                Ok(()) => Ok(()),
                Err(_) => Err(whole("vms", Problem::TooMany(MAX_VMS))),
            }
        })
    })?;
    if entries.is_empty() {
        return Err(whole("vms", Problem::Missing));
    }
    Ok(entries)
}

/// Checks a VM against those before it and gives it its cores.
fn admit<'a>(vm: Vm<'a>, before: &[Entry<'a>], left: &mut usize) -> Result<Vm<'a>, Box<Error<'a>>> {
    let context = vm::Context { vm: vm.name };
    for device in &vm.devices {
        for other in before.iter().filter_map(|entry| entry.vm.as_ref().ok()) {
            if other.devices.iter().any(|theirs| theirs.place == device.place) {
                return Err(context.error("devices", Problem::Claimed(other.name)));
            }
        }
    }
    match left.checked_sub(vm.vcpus) {
        Some(rest) => *left = rest,
        None => {
            let problem = Problem::Cores { wanted: vm.vcpus, left: *left };
            return Err(context.error("vcpus", problem));
        }
    }
    Ok(vm)
}
