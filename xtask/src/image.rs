//! Programs as loadable images: ELF to flat binary, and what a board's loader wants.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSegment};

use crate::bundle::Images;
use crate::cli::Board;
use crate::debian;
use crate::workspace::Workspace;

/// No image of ours is larger; a wrong address in an ELF must not fill the disk.
const LARGEST: u64 = 256 << 20;

/// Flattens an ELF program: the bytes of its loadable segments, at their physical places.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let file = object::File::parse(elf)?;
    let start = file.segments().map(|segment| segment.address()).min().context("no segments")?;
    let mut flat: Vec<u8> = Vec::new();
    for segment in file.segments() {
        let data = segment.data()?;
        if data.is_empty() {
            continue;
        }
        let offset = segment.address() - start;
        let end = offset.checked_add(data.len() as u64).context("a segment wraps around")?;
        if end > LARGEST {
            bail!("a segment at {:#x} lies far from the others", segment.address());
        }
        let (offset, end) = (usize::try_from(offset)?, usize::try_from(end)?);
        if flat.len() < end {
            flat.resize(end, 0);
        }
        flat.get_mut(offset..end).context("a segment out of range")?.copy_from_slice(data);
    }
    Ok(flat)
}

fn flat_file(workspace: &Workspace, elf: &Path) -> Result<PathBuf> {
    let bytes = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let flat = flatten(&bytes).with_context(|| elf.display().to_string())?;
    let name = elf.file_name().context("a program without a name")?;
    let path = workspace.scratch()?.join(name).with_extension("bin");
    // Written beside and renamed: another run may be reading the old one.
    let fresh = path.with_extension(format!("bin.{}", std::process::id()));
    std::fs::write(&fresh, flat)?;
    std::fs::rename(&fresh, &path)?;
    Ok(path)
}

/// Builds the hypervisor for a board; gives its ELF program.
pub fn hypervisor_elf(workspace: &Workspace, board: Board) -> Result<PathBuf> {
    let package = format!("palisade-{}", board.name());
    workspace.build(&package, &package)
}

/// The program for QEMU that has every page-table format.
pub fn all_formats_elf(workspace: &Workspace) -> Result<PathBuf> {
    workspace.build_with("palisade-qemu-virt", "palisade-qemu-virt-all-formats", &["all-formats"])
}

/// Its flat image.
pub fn all_formats(workspace: &Workspace) -> Result<PathBuf> {
    flat_file(workspace, &all_formats_elf(workspace)?)
}

/// Builds the hypervisor for a board; gives its flat image.
pub fn hypervisor(workspace: &Workspace, board: Board) -> Result<PathBuf> {
    flat_file(workspace, &hypervisor_elf(workspace, board)?)
}

/// The payloads of tests/payloads, built when asked for.
#[derive(Debug)]
pub struct Payloads<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
}

impl Images for Payloads<'_> {
    fn payload(&mut self, name: &str) -> Result<PathBuf> {
        let package = self.workspace.package("palisade-payloads")?;
        let programs: Vec<&str> = package
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
            .map(|target| target.name.as_str())
            .collect();
        if !programs.contains(&name) {
            bail!("there is no payload {name:?}; there are {}", programs.join(", "));
        }
        flat_file(self.workspace, &self.workspace.build("palisade-payloads", name)?)
    }

    fn debian(&mut self, name: &str) -> Result<PathBuf> {
        if let Some(firmware) = debian::firmware(name)? {
            return Ok(firmware);
        }
        let (name, other) = match name.split_once('-') {
            Some((name, release)) if debian::OTHERS.contains(&release) => (name, Some(release)),
            _ => (name, None),
        };
        let files = match other {
            Some(release) => debian::files_of(release)?,
            None => debian::files()?,
        };
        match name {
            "kernel" => Ok(files.kernel),
            "initramfs" => debian::initramfs(self.workspace, &files),
            _ => bail!(
                "there is no {name:?}; there are debian:kernel and debian:initramfs, also with \
                 -{}, debian:u-boot and debian:edk2",
                debian::OTHERS.join(" or -")
            ),
        }
    }
}
