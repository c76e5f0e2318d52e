//! The initramfs of the Linux guests: busybox, the modules named in tests/linux/modules, and
//! tests/linux/init as PID 1.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cpio::newc::{Builder, trailer};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::Files;
use crate::workspace::{MUSL, Workspace};

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// Builds the archive, gzipped, and gives its path.
pub fn initramfs(workspace: &Workspace, files: &Files) -> Result<PathBuf> {
    let sources = workspace.root.join("tests/linux");
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let list = String::from_utf8(read(&sources.join("modules"))?)?;
    let mut archive = Archive { packed: GzEncoder::new(Vec::new(), Compression::fast()), inode: 1 };
    for folder in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        archive.add(folder, FOLDER, &[])?;
    }
    archive.add("init", PROGRAM, &read(&sources.join("init"))?)?;
    archive.add("bin/busybox", PROGRAM, &read(&files.busybox)?)?;
    archive.add("bin/sh", LINK, b"busybox")?;
    crate::setup::musl()?;
    let vfio = workspace.build_for(MUSL, "palisade-user", "vfio", &[])?;
    archive.add("bin/vfio", PROGRAM, &read(&vfio)?)?;
    let mut order = String::new();
    for name in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let path = files.modules.join(name);
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default().to_owned();
        if let Some(bytes) = module(&path)? {
            archive.add(&format!("modules/{file}"), PROGRAM, &bytes)?;
            order.push_str(&file);
            order.push('\n');
        }
    }
    archive.add("modules/order", PROGRAM, order.as_bytes())?;
    let packed = trailer(archive.packed)?.finish()?;
    // Each kernel has its own: two may be in one bundle.
    let release = files.modules.file_name().unwrap_or_default().to_string_lossy();
    let path = workspace.scratch()?.join(format!("linux-initramfs-{release}.gz"));
    let fresh = path.with_extension(format!("gz.{}", std::process::id()));
    fs::write(&fresh, packed)?;
    fs::rename(&fresh, &path)?;
    Ok(path)
}

/// A kernel's module, unpacked where the release packs them; none if it has it built in.
fn module(path: &Path) -> Result<Option<Vec<u8>>> {
    if let Ok(bytes) = fs::read(path) {
        return Ok(Some(bytes));
    }
    let packed = path.with_extension("ko.xz");
    if !packed.is_file() {
        return Ok(None);
    }
    let output = Command::new("xz").arg("-dc").arg(&packed).output().context("no xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}", packed.display());
    }
    Ok(Some(output.stdout))
}

struct Archive {
    packed: GzEncoder<Vec<u8>>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len()).context("a file of more than 4 GiB")?;
        let mut writer =
            Builder::new(name).mode(mode).ino(self.inode).write(&mut self.packed, size);
        writer.write_all(bytes)?;
        writer.finish()?;
        self.inode += 1;
        Ok(())
    }
}
