//! The command.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::SetupOptions;
use crate::setup::{qemu, target};

/// Sets everything up and says what there is.
pub fn setup(options: &SetupOptions) -> Result<ExitCode> {
    target()?;
    println!("target {}: installed", crate::workspace::TARGET);
    let qemu = qemu(options.qemu.as_deref())?;
    println!("QEMU {}: {}", qemu.version, qemu.path.display());
    Ok(ExitCode::SUCCESS)
}
