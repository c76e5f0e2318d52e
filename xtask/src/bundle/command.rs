//! The command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::bundle::{Description, pack};
use crate::cli::BundleOptions;
use crate::image::Payloads;
use crate::workspace::Workspace;

/// Packs a description's VMs.
pub fn command(options: &BundleOptions) -> Result<ExitCode> {
    let description = Description::read(&options.file)?;
    let workspace = Workspace::open()?;
    let folder = options.file.parent().unwrap_or(Path::new("."));
    let bytes = pack(&description, folder, &mut Payloads { workspace: &workspace })
        .with_context(|| options.file.display().to_string())?;
    std::fs::write(&options.output, &bytes)
        .with_context(|| format!("cannot write {}", options.output.display()))?;
    let names: Vec<&str> = description.vms.iter().map(|vm| vm.name.as_str()).collect();
    println!("{}: {} bytes, VMs: {}", options.output.display(), bytes.len(), names.join(", "));
    Ok(ExitCode::SUCCESS)
}
