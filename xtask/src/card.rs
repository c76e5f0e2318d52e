//! What stands on the Raspberry Pi 4's SD card: a directory that the firmware boots, and QEMU too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::cli::{Board, ImageOptions, Medium};
use crate::image::hypervisor;
use crate::workspace::Workspace;
use crate::{debian, esp};

/// Names in the directory.
const KERNEL: &str = "kernel8.img";
const BUNDLE: &str = "bundle.cpio";
const TREE: &str = "bcm2711-rpi-4-b.dtb";
const WORDS: &str = "cmdline.txt";
/// Longest device tree that the hypervisor takes.
const LARGEST_TREE: u64 = 2 << 20;

/// What the firmware is told.
const CONFIG: &str = "\
# Palisade on a Raspberry Pi 4.
arm_64bit=1
kernel=kernel8.img
initramfs bundle.cpio followkernel
device_tree=bcm2711-rpi-4-b.dtb
# The serial line on pins 8 and 10 is the PL011.
enable_uart=1
dtoverlay=disable-bt
";

const README: &str = "\
1. Format an SD card with one FAT32 partition and copy every file of this directory onto it.
2. Add the firmware files start4.elf, fixup4.dat and overlays/disable-bt.dtbo (from any Raspberry Pi OS
   card, or the package raspi-firmware).
3. Connect a 3.3 V serial adapter to pins 6 (ground), 8 (TX) and 10 (RX): 115200 baud, 8N1.
4. Power on. The line shows \"Palisade ... on Raspberry Pi 4 Model B\", \"4 cores up\", each VM's
   lines with its name in front, and the DMA posture: this board has no SMMU, and it says so.
";

/// The files of a card in one directory.
#[derive(Clone, Debug)]
pub struct Card {
    /// The directory.
    pub folder: PathBuf,
}

impl Card {
    /// Writes a card: the hypervisor, `bundle`, and the device tree `tree` or Debian's. `words`
    /// is the hypervisor's command line.
    ///
    /// # Errors
    /// A file cannot be had, is not what it should be, or cannot be written.
    pub fn write(
        workspace: &Workspace,
        folder: &Path,
        bundle: &Path,
        tree: Option<&Path>,
        words: &str,
    ) -> Result<Self> {
        let tree = match tree {
            Some(tree) => tree.to_path_buf(),
            None => debian::files().context("the board's device tree")?.rpi4_tree,
        };
        check_tree(&tree)?;
        let kernel = hypervisor(workspace, Board::Rpi4)?;
        // Debian's tree names the mini UART, which `disable-bt` takes off the pins.
        let words = format!("{words} palisade.console=serial0");
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let card = Self { folder: folder.to_path_buf() };
        let copy = |from: &Path, name: &str| {
            fs::copy(from, card.file(name))
                .with_context(|| format!("cannot copy {} to {name}", from.display()))
        };
        copy(&kernel, KERNEL)?;
        copy(&tree, TREE)?;
        copy(bundle, BUNDLE)?;
        for (name, text) in
            [("config.txt", CONFIG), (WORDS, &format!("{words}\n")), ("README.txt", README)]
        {
            fs::write(card.file(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(card)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// QEMU's words that boot these very files, as the firmware would.
    pub fn qemu(&self) -> Result<Vec<std::ffi::OsString>> {
        let words = fs::read_to_string(self.file(WORDS))?;
        let mut all: Vec<std::ffi::OsString> = vec!["-M".into(), "raspi4b".into()];
        for (flag, name) in [("-kernel", KERNEL), ("-dtb", TREE), ("-initrd", BUNDLE)] {
            all.push(flag.into());
            all.push(self.file(name).into());
        }
        all.push("-append".into());
        all.push(words.trim().into());
        Ok(all)
    }
}

/// Refuses what is no device tree, before a card is carried to the board.
fn check_tree(path: &Path) -> Result<()> {
    let name = || path.display().to_string();
    let length = path.metadata().with_context(name)?.len();
    if length > LARGEST_TREE {
        bail!("{}: {length} bytes are too many for a device tree", name());
    }
    let mut bytes = fs::read(path).with_context(name)?;
    palisade_fdt::compact(&mut bytes)
        .map_err(|fault| anyhow::anyhow!("{fault}"))
        .with_context(|| format!("--dtb {}", name()))
}

/// `cargo xtask image`: a bootable directory.
pub fn command(options: &ImageOptions) -> Result<ExitCode> {
    if options.board == Medium::Uefi {
        return esp::command(options);
    }
    crate::setup::target()?;
    let workspace = Workspace::open()?;
    let words = "palisade.log=info";
    let tree = options.dtb.as_deref();
    let card = Card::write(&workspace, &options.output, &options.bundle, tree, words)?;
    println!(
        "{}: kernel8.img, bundle.cpio, {TREE}, config.txt, cmdline.txt, README.txt",
        card.folder.display()
    );
    println!("still needed from the firmware: start4.elf, fixup4.dat, overlays/disable-bt.dtbo");
    println!("README.txt there says how to write the card and what to see");
    Ok(ExitCode::SUCCESS)
}
