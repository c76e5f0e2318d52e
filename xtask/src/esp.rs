//! The volume that UEFI boots from: palisade.efi, and what it takes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::setup;
use crate::workspace::{UEFI, Workspace};

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
