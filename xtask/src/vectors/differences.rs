//! What differs between one row and the code, column by column.

use std::fmt;

use anyhow::Result;

use super::compared::Compared;
use super::table::{Row, Table};

/// The differences of one row.
#[derive(Debug, Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Notes a difference.
    pub fn expect<T: PartialEq + fmt::LowerHex>(&mut self, column: &str, ours: T, expected: T) {
        if ours != expected {
            self.0.push(format!("{column} {ours:#x}, expected {expected:#x}"));
        }
    }

    /// Compares with a column, unless the cell is empty.
    pub fn column(&mut self, row: Row<'_>, column: &str, ours: impl Into<u64>) -> Result<()> {
        if let Some(expected) = row.optional(column)? {
            self.expect(column, ours.into(), expected);
        }
        Ok(())
    }

    /// Notes whatever else is wrong.
    pub fn note(&mut self, text: String) {
        self.0.push(text);
    }
}

/// Compares a file row by row.
pub fn each_row(
    text: &str,
    mut compare: impl FnMut(Row<'_>) -> Result<Differences>,
) -> Result<Compared> {
    let mut compared = Compared::default();
    for row in Table::new(text)?.rows() {
        compared.row(judge(row, compare(row)));
    }
    Ok(compared)
}

/// A row's result as the tally takes it.
pub fn judge(row: Row<'_>, result: Result<Differences>) -> Result<(), String> {
    let differences = match result {
        Ok(Differences(differences)) => differences,
        Err(error) => vec![format!("{error:#}")],
    };
    if differences.is_empty() {
        Ok(())
    } else {
        Err(format!("line {}: {}", row.line, differences.join("; ")))
    }
}
