//! The command.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::VectorsOptions;
use crate::test::Tally;
use crate::workspace::Workspace;

/// Checks files and folders of files.
pub fn vectors(_options: &VectorsOptions) -> Result<ExitCode> {
    bail!("vectors: nothing is compared yet")
}

/// Checks the files in tests/vectors; each counts as one test.
pub fn test(_workspace: &Workspace) -> Result<Tally> {
    Ok(Tally::default())
}
