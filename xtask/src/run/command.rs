//! The command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use palisade_e2e::outcome::Outcome;
use palisade_e2e::record::Records;

use crate::cli::RunOptions;
use crate::run::{kernel, scenario};

/// Runs what was asked for. The report is written whatever happens.
pub fn run(options: &RunOptions) -> Result<ExitCode> {
    let result = if options.kernel.is_some() || options.bundle.is_some() {
        kernel::run(options)
    } else {
        scenario::run(options)
    };
    match result {
        Ok((status, outcome)) => {
            write(options.json.as_deref(), &outcome)?;
            Ok(status)
        }
        Err(error) => {
            let name = options.scenario.as_deref().unwrap_or("isolation");
            let why = Some(format!("{error:#}"));
            let board = options.board.name();
            let outcome = Outcome::judge(name, board, &[], Vec::new(), why, Records::default());
            write(options.json.as_deref(), &outcome)?;
            Err(error)
        }
    }
}

fn write(path: Option<&Path>, outcome: &Outcome) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(&outcome.json())?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
