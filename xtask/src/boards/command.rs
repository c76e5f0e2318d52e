//! The command: finds the trees, reads them, prints the counts.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::tally::Boards;
use crate::cli::BoardsOptions;
use crate::debian;

/// The releases whose kernels are looked at: old, of today, and the next.
const RELEASES: &[&str] = &["bookworm", "trixie", "forky"];

/// Prints what comes of every tree.
///
/// # Errors
/// There are no trees, or one cannot be read from its file.
pub fn command(options: &BoardsOptions) -> Result<ExitCode> {
    let boards = count(options.folder.as_deref())?;
    println!("{boards}");
    Ok(ExitCode::SUCCESS)
}

/// Reads every tree of `folder`, or of the releases' kernels.
///
/// # Errors
/// There are no trees, or one cannot be read from its file.
pub fn count(folder: Option<&Path>) -> Result<Boards> {
    let folder = match folder {
        Some(folder) => folder.to_path_buf(),
        None => debian::trees(RELEASES)?,
    };
    let mut files = Vec::new();
    find(&folder, &mut files)?;
    if files.is_empty() {
        bail!("{}: no device trees (*.dtb) are there", folder.display());
    }
    files.sort();
    let mut boards = Boards::default();
    for file in files {
        let bytes = std::fs::read(&file).with_context(|| file.display().to_string())?;
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
        boards.add(&name.unwrap_or_default(), &bytes);
    }
    Ok(boards)
}

/// Every tree below `folder`.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "dtb") {
            files.push(path);
        }
    }
    Ok(())
}
