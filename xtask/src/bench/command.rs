//! The command.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cli::BenchOptions;

/// Measures everything there is to measure.
pub fn bench(_options: &BenchOptions) -> Result<ExitCode> {
    bail!("bench: nothing is measured yet")
}
