//! The host's tests: cargo's own, of every default member.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_e2e::console::say;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// Runs them; shows what cargo shows.
pub fn run(workspace: &Workspace, long: bool) -> Result<Tally> {
    let mut command = cargo();
    command
        .args(["test", "--no-fail-fast"])
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if long {
        command.env("PALISADE_LONG", "1");
    }
    let mut child = command.spawn().context("cargo does not start")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(result) = Tally::parse(&line) {
            tally += result;
        }
        say(&line);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // A test program that did not build or that died printed no result line.
        say(&format!("cargo test ended with {status} without naming a failed test"));
        tally.failed += 1;
    }
    Ok(tally)
}
