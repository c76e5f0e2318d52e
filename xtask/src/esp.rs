//! The volume that UEFI boots from: palisade.efi, and what it takes.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::cli::{Board, ImageOptions};
use crate::image::hypervisor;
use crate::setup;
use crate::workspace::{UEFI, Workspace};

const README: &str = "\
1. Format a USB stick with one FAT32 partition and copy everything in this directory onto it.
2. In the machine's settings switch on virtualisation (EL2), ACPI and booting from USB. Where Secure
   Boot is on, sign EFI/BOOT/BOOTAA64.EFI with a key that the firmware knows:
   sbsign --key KEY.pem --cert CERT.pem --output BOOTAA64.EFI BOOTAA64.EFI
   The signature covers the loader alone; palisade/SHA256SUMS guards the rest against damage only.
3. The hypervisor must fit at its own address, 2 MiB above the start of RAM; where it does not, or
   anything else is missing, the loader says so and returns to the firmware.
4. Boot from the stick. The console shows a line for each step, then \"Palisade ... on\", the cores,
   each VM's lines with its name in front, and the DMA posture.
5. Another command line: change palisade/cmdline and its line in palisade/SHA256SUMS.
";

/// `cargo xtask image --board uefi`: what a USB stick holds.
pub fn command(options: &ImageOptions) -> Result<ExitCode> {
    setup::target()?;
    let workspace = Workspace::open()?;
    let hypervisor = hypervisor(&workspace, Board::QemuVirt)?;
    let (bundle, append) = (Some(options.bundle.as_path()), "palisade.log=info");
    let folder = &options.output;
    Volume { hypervisor: &hypervisor, bundle, append }.write(&workspace, folder)?;
    fs::write(folder.join("README.txt"), README)?;
    println!("{}: EFI/BOOT/BOOTAA64.EFI, palisade/, README.txt", folder.display());
    println!("README.txt there says how to write a stick, how to sign the loader and what to see");
    Ok(ExitCode::SUCCESS)
}

/// What the loader is to load.
#[derive(Clone, Copy, Debug)]
pub struct Volume<'a> {
    /// The hypervisor's flat image.
    pub hypervisor: &'a Path,
    /// The bundle; none for a hypervisor that has nothing to run.
    pub bundle: Option<&'a Path>,
    /// The command line.
    pub append: &'a str,
}

impl Volume<'_> {
    /// Writes it into `folder`, which is made.
    pub fn write(&self, workspace: &Workspace, folder: &Path) -> Result<()> {
        setup::uefi()?;
        let loader = workspace.build_for(UEFI, "palisade-uefi", "palisade", &[])?;
        let loader = loader.with_extension("efi");
        // UEFI 2.10, 3.5.1.1: what removable media are booted by.
        let boot = folder.join("EFI/BOOT");
        fs::create_dir_all(&boot).with_context(|| format!("cannot make {}", boot.display()))?;
        fs::copy(&loader, boot.join("BOOTAA64.EFI"))
            .with_context(|| format!("cannot copy {}", loader.display()))?;
        let read =
            |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let bundle = self.bundle.map(read).transpose()?.unwrap_or_default();
        let files = [
            ("hypervisor", read(self.hypervisor)?),
            ("bundle", bundle),
            ("cmdline", self.append.into()),
        ];
        let ours = folder.join("palisade");
        fs::create_dir_all(&ours)?;
        let mut sums = String::new();
        for (name, bytes) in files {
            fs::write(ours.join(name), &bytes)?;
            let digits: String =
                Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            sums.push_str(&format!("{digits}  {name}\n"));
        }
        fs::write(ours.join("SHA256SUMS"), sums)?;
        Ok(())
    }
}
