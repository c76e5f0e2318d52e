//! The host's tests: cargo's own, of every default member.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::Stdio;

use anyhow::{Context, Result};
use palisade_e2e::console::say;

use crate::test::tally::Tally;
use crate::workspace::{Workspace, cargo};

/// The word that only the lines about planted faults may hold.
const WORD: &str = "sabotage";

/// Runs them; shows what cargo shows.
pub fn run(workspace: &Workspace, long: bool) -> Result<Tally> {
    let mut command = cargo();
    command
        .args(["test", "--no-fail-fast"])
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    if long {
        // Millions of steps: optimised, with the checks of a debug build.
        command.args(["--profile", "long"]).env("PALISADE_LONG", "1");
    }
    let mut child = command.spawn().context("cargo does not start")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    let errors = child.stderr.take().context("cargo has no standard error")?;
    let progress = std::thread::spawn(move || lines(errors, |line| eprintln!("{line}")));
    let mut tally = Tally::default();
    lines(output, |line| {
        if let Some(result) = Tally::parse(line) {
            tally += result;
        }
        say(line);
    });
    // It ends when cargo closes its standard error.
    let _ = progress.join();
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // A test program that did not build or that died printed no result line.
        say(&format!("cargo test ended with {status} without naming a failed test"));
        tally.failed += 1;
    }
    Ok(tally)
}

/// Hands over each line, whatever bytes it is made of.
fn lines(from: impl Read, mut take: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        take(&tidied(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])));
        line.clear();
    }
}

/// Names of test programs, files and tests hold the word too; only rows of the matrix keep it.
fn tidied(line: &str) -> String {
    let row = line.strip_prefix(WORD).and_then(|rest| rest.strip_prefix(' ')).is_some_and(|rest| {
        rest.ends_with(": survived")
            || rest
                .split_once(": caught by ")
                .is_some_and(|(name, test)| !name.contains(' ') && !test.is_empty())
    });
    if row { line.to_owned() } else { line.replace(WORD, "planted-fault") }
}

#[cfg(test)]
mod tests {
    use super::tidied;

    #[test]
    fn only_rows_keep_the_word() {
        for row in ["sabotage ste-order: caught by writer::hitless", "sabotage tlbi: survived"] {
            assert_eq!(tidied(row), row);
        }
        for other in ["     Running tests/sabotage.rs (target/sabotage-1)", "test sabotage ... ok"]
        {
            assert!(!tidied(other).contains("sabotage"), "{other}");
        }
    }
}
