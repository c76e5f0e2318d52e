//! The Rust target. With rustup the toolchain file sets it up; this is for when it did not.

use std::path::Path;

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

use crate::workspace::{MUSL, TARGET, UEFI};

fn installed(shell: &Shell, target: &str) -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let folder = cmd!(shell, "{rustc} --print target-libdir --target {target}");
    let folder = folder.ignore_status().ignore_stderr().read().context("rustc does not start")?;
    Ok(Path::new(folder.trim()).is_dir())
}

/// Makes sure that the target's core library is there.
pub fn target() -> Result<()> {
    library(TARGET)
}

/// The same for palisade.efi.
pub fn uefi() -> Result<()> {
    library(UEFI)
}

/// The same for programs of Linux guests.
pub fn musl() -> Result<()> {
    library(MUSL)
}

fn library(target: &str) -> Result<()> {
    let shell = Shell::new()?;
    if installed(&shell, target)? {
        return Ok(());
    }
    let _step = crate::progress::step(&format!("installing the Rust target {target}"));
    if cmd!(shell, "rustup --version").quiet().ignore_stdout().ignore_stderr().run().is_err() {
        bail!("the Rust target {target} is missing and there is no rustup to install it");
    }
    let added = cmd!(shell, "rustup target add {target}").quiet().run();
    if added.is_ok() && installed(&shell, target)? {
        return Ok(());
    }
    bail!("the Rust target is missing; install it with: rustup target add {target}")
}

/// Asks rustup for something quietly; tells whether it is there now.
pub fn rustup(arguments: &[&str]) -> bool {
    let asked = Shell::new().and_then(|shell| {
        cmd!(shell, "rustup {arguments...}").quiet().ignore_stdout().ignore_stderr().run()
    });
    asked.is_ok()
}
