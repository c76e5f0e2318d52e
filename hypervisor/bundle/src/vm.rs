//! A VM as the manifest describes it.

use alloc::boxed::Box;

use arrayvec::ArrayVec;
use palisade_fdt::{Cells, Node};

use crate::archive::{Archive, File};
use crate::device::{Device, Place};
use crate::error::{Error, Problem};
use crate::limits::{MAX_DEVICES, MAX_MEMORY, MAX_READONLY, MAX_VCPUS, MIN_MEMORY, PAGE, RAM_BASE};
use crate::manifest::MANIFEST;

/// What the boot protocol wants beside the images: a device tree and slack.
const SLACK: u64 = 1 << 20;

/// A range of a VM's memory that neither it nor its devices may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadOnly {
    /// First address, a multiple of 4 KiB.
    pub ipa: u64,
    /// Bytes, a multiple of 4 KiB.
    pub size: u64,
}

/// A VM as the manifest describes it.
#[derive(Clone, Debug)]
pub struct Vm<'a> {
    /// Its name.
    pub name: &'a str,
    /// Number of virtual CPUs, at least 1.
    pub vcpus: usize,
    /// Bytes of memory from [`RAM_BASE`], a multiple of 4 KiB.
    pub memory: u64,
    /// The kernel.
    pub kernel: File<'a>,
    /// The initrd.
    pub initrd: Option<File<'a>>,
    /// The kernel is firmware: it starts in flash at address 0.
    pub firmware: bool,
    /// The command line, empty where there is none.
    pub bootargs: &'a str,
    /// The operator said in so many words that its devices' DMA need not be isolated.
    pub no_dma_isolation: bool,
    /// It has SMMUs of its own before its devices.
    pub virtual_smmu: bool,
    /// Ranges that it cannot write.
    pub readonly: ArrayVec<ReadOnly, MAX_READONLY>,
    /// Its devices.
    pub devices: ArrayVec<Device<'a>, MAX_DEVICES>,
}

/// Whose manifest entry is being read, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The VM's name.
    pub vm: &'a str,
}

impl<'a> Context<'a> {
    pub(crate) fn error(self, field: &'a str, problem: Problem<'a>) -> Box<Error<'a>> {
        Error::new(MANIFEST, self.vm, field, problem)
    }

    /// A value of one cell.
    pub(crate) fn u32(self, field: &'a str, value: &'a [u8]) -> Result<u32, Box<Error<'a>>> {
        match value.len() {
            4 => Cells::new(value).u32().ok_or_else(|| self.error(field, Problem::Type)),
            _ => Err(self.error(field, Problem::Type)),
        }
    }

    /// A value of two cells.
    pub(crate) fn u64(self, field: &'a str, value: &'a [u8]) -> Result<u64, Box<Error<'a>>> {
        match value.len() {
            8 => Cells::new(value).number(2).ok_or_else(|| self.error(field, Problem::Type)),
            _ => Err(self.error(field, Problem::Type)),
        }
    }

    /// A value that is one text.
    pub(crate) fn text(self, field: &'a str, value: &'a [u8]) -> Result<&'a str, Box<Error<'a>>> {
        match core::str::from_utf8(value).ok().and_then(|text| text.strip_suffix('\0')) {
            Some(text) if !text.bytes().any(|byte| byte == 0) => Ok(text),
            _ => Err(self.error(field, Problem::Type)),
        }
    }

    /// `value`, if it is in `least..=most`.
    pub(crate) fn number(
        self,
        field: &'a str,
        value: u64,
        least: u64,
        most: u64,
    ) -> Result<u64, Box<Error<'a>>> {
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.error(field, Problem::Value { value, least, most }))
        }
    }
}

/// What has been read so far; a field that must be there is still optional.
#[derive(Default)]
struct Draft<'a> {
    vcpus: Option<usize>,
    memory: Option<u64>,
    kernel: Option<File<'a>>,
    initrd: Option<File<'a>>,
    firmware: bool,
    bootargs: &'a str,
    no_dma_isolation: bool,
    virtual_smmu: bool,
    readonly: ArrayVec<ReadOnly, MAX_READONLY>,
    devices: ArrayVec<Device<'a>, MAX_DEVICES>,
}

/// Reads one node of `/vms`.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn read<'a>(
    node: &Node<'_, 'a>,
    archive: &Archive<'a>,
) -> Result<Vm<'a>, Box<Error<'a>>> {
    let name = node.name();
    let context = Context { vm: name };
    let mut draft = Draft::default();
    node.properties(&mut |field, value| property(&mut draft, context, archive, field, value))?;
    node.children(&mut |child| {
        if child.name() != "devices" {
            return Err(context.error(child.name(), Problem::Unknown));
        }
        child.properties(&mut |field, _| Err(context.error(field, Problem::Unknown)))?;
        child.children(&mut |device| add_device(&mut draft, context, device))
    })?;
    let missing = |field| move || context.error(field, Problem::Missing);
    let vm = Vm {
        name,
        vcpus: draft.vcpus.ok_or_else(missing("vcpus"))?,
        memory: draft.memory.ok_or_else(missing("memory"))?,
        kernel: draft.kernel.ok_or_else(missing("kernel"))?,
        initrd: draft.initrd,
        firmware: draft.firmware,
        bootargs: draft.bootargs,
        no_dma_isolation: draft.no_dma_isolation,
        virtual_smmu: draft.virtual_smmu,
        readonly: draft.readonly,
        devices: draft.devices,
    };
    check(&vm, context)?;
    Ok(vm)
}

fn property<'a>(
    draft: &mut Draft<'a>,
    context: Context<'a>,
    archive: &Archive<'a>,
    field: &'a str,
    value: &'a [u8],
) -> Result<(), Box<Error<'a>>> {
    let file = || {
        let name = context.text(field, value)?;
        match archive.file(name) {
            Some(file) if file.data.is_empty() => {
                Err(context.error(field, Problem::EmptyFile(name)))
            }
            Some(file) => Ok(file),
            None => Err(context.error(field, Problem::NoSuchFile(name))),
        }
    };
    match field {
        "vcpus" => {
            let count = context.u32(field, value)?.into();
            let count = context.number(field, count, 1, MAX_VCPUS as u64)?;
            draft.vcpus = usize::try_from(count).ok();
        }
        "memory" => {
            let size = context.u64(field, value)?;
            if !size.is_multiple_of(PAGE) {
                return Err(context.error(field, Problem::Misaligned(size)));
            }
            draft.memory = Some(context.number(field, size, MIN_MEMORY, MAX_MEMORY)?);
        }
        "kernel" => draft.kernel = Some(file()?),
        "initrd" => draft.initrd = Some(file()?),
        "firmware" if value.is_empty() => draft.firmware = true,
        "firmware" => return Err(context.error(field, Problem::Type)),
        "bootargs" => draft.bootargs = context.text(field, value)?,
        "dma-isolation" => match context.text(field, value)? {
            "none" => draft.no_dma_isolation = true,
            "smmu" => draft.no_dma_isolation = false,
            text => return Err(context.error(field, Problem::Text(text))),
        },
        "iommu" => match context.text(field, value)? {
            "smmuv3" => draft.virtual_smmu = true,
            "none" => draft.virtual_smmu = false,
            text => return Err(context.error(field, Problem::Text(text))),
        },
        "readonly" => {
            let mut cells = Cells::new(value);
            while !cells.is_empty() {
                let (Some(ipa), Some(size)) = (cells.number(2), cells.number(2)) else {
                    return Err(context.error(field, Problem::Type));
                };
                if draft.readonly.try_push(ReadOnly { ipa, size }).is_err() {
                    return Err(context.error(field, Problem::TooMany(MAX_READONLY)));
                }
            }
        }
        _ => return Err(context.error(field, Problem::Unknown)),
    }
    Ok(())
}

fn add_device<'a>(
    draft: &mut Draft<'a>,
    context: Context<'a>,
    node: &Node<'_, 'a>,
) -> Result<(), Box<Error<'a>>> {
    let name = node.name();
    let rest = name.strip_prefix("device").map(str::as_bytes);
    if !matches!(rest, Some([] | [b'@', ..])) {
        return Err(context.error(name, Problem::Unknown));
    }
    node.children(&mut |child| Err(context.error(child.name(), Problem::Unknown)))?;
    // Without a wish of its own, the first slot of bus 0 that is free.
    let taken = |guest: u16| draft.devices.iter().any(|device| device.guest == guest);
    let slot = (1..32u16).map(|slot| slot << 3).find(|guest| !taken(*guest)).unwrap_or(0);
    let device = Device::read(node, context, slot)?;
    if matches!(device.place, Place::Pci(_))
        && draft
            .devices
            .iter()
            .any(|other| matches!(other.place, Place::Pci(_)) && other.guest == device.guest)
    {
        return Err(context.error(name, Problem::GuestAddress(device.guest)));
    }
    if draft.devices.iter().any(|other| other.place == device.place) {
        return Err(context.error(name, Problem::Claimed(context.vm)));
    }
    match draft.devices.try_push(device) {
        Ok(()) => Ok(()),
        Err(_) => Err(context.error(name, Problem::TooMany(MAX_DEVICES))),
    }
}

/// What only the whole can show.
fn check<'a>(vm: &Vm<'a>, context: Context<'a>) -> Result<(), Box<Error<'a>>> {
    const READONLY: &str = "readonly";
    let end = RAM_BASE.saturating_add(vm.memory);
    for (index, range) in vm.readonly.iter().enumerate() {
        if !range.ipa.is_multiple_of(PAGE) || !range.size.is_multiple_of(PAGE) || range.size == 0 {
            return Err(context.error(READONLY, Problem::Misaligned(range.ipa)));
        }
        let last = range.ipa.checked_add(range.size);
        if range.ipa < RAM_BASE || last.is_none_or(|last| last > end) {
            return Err(context.error(READONLY, Problem::Outside(range.ipa)));
        }
        let others = vm.readonly.iter().take(index);
        for other in others {
            if range.ipa < other.ipa.saturating_add(other.size)
                && other.ipa < range.ipa.saturating_add(range.size)
            {
                return Err(context.error(READONLY, Problem::Overlap(range.ipa)));
            }
        }
    }
    if vm.firmware && vm.initrd.is_some() {
        return Err(context.error("initrd", Problem::WithFirmware));
    }
    let images = vm.kernel.data.len().saturating_add(vm.initrd.map_or(0, |file| file.data.len()));
    let needed = (images as u64).saturating_add(SLACK);
    if needed > vm.memory {
        return Err(context.error("memory", Problem::Images { needed, memory: vm.memory }));
    }
    Ok(())
}
