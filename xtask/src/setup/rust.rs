//! The Rust target. With rustup the toolchain file sets it up; this is for when it did not.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::TARGET;

fn installed() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("rustc does not start")?;
    let folder = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && Path::new(folder.trim()).is_dir())
}

/// Makes sure that the target's core library is there.
pub fn target() -> Result<()> {
    if installed()? {
        return Ok(());
    }
    let _step = crate::progress::step(&format!("installing the Rust target {TARGET}"));
    let status =
        Command::new("rustup").args(["target", "add", TARGET]).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() && installed()? => Ok(()),
        Ok(_) => bail!("the Rust target is missing; install it with: rustup target add {TARGET}"),
        Err(_) => bail!("the Rust target {TARGET} is missing and there is no rustup to install it"),
    }
}

/// Asks rustup for something quietly; tells whether it is there now.
pub fn rustup(arguments: &[&str]) -> bool {
    let status = Command::new("rustup")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
