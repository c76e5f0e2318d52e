//! A CSV with a header, read by column name. None of the files quotes anything.

use anyhow::{Context, Result};

/// The rows of a file.
pub struct Table<'a> {
    columns: Vec<&'a str>,
    rows: Vec<(usize, Vec<&'a str>)>,
}

/// One row.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Line in the file, from 1.
    pub line: usize,
    columns: &'a [&'a str],
    cells: &'a [&'a str],
}

impl<'a> Table<'a> {
    /// Splits `text`.
    ///
    /// # Errors
    /// When there is no header.
    pub fn new(text: &'a str) -> Result<Self> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let cells = |line: &'a str| line.split(',').map(str::trim).collect();
        let columns = cells(lines.next().context("no header")?.1);
        let rows = lines.map(|(nth, line)| (nth + 1, cells(line))).collect();
        Ok(Self { columns, rows })
    }

    /// Its rows, in order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, cells)| Row { line: *line, columns: &self.columns, cells })
    }
}

impl<'a> Row<'a> {
    /// The cell under `column`.
    ///
    /// # Errors
    /// When there is no such column or the row is too short.
    pub fn get(&self, column: &str) -> Result<&'a str> {
        let at = self.columns.iter().position(|&name| name == column);
        at.and_then(|at| self.cells.get(at))
            .copied()
            .with_context(|| format!("no column {column}: {}", self.cells.join(",")))
    }

    /// The number under `column`, decimal or with 0x.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, column: &str) -> Result<u64> {
        let cell = self.get(column)?;
        number(cell).with_context(|| format!("{column}: {cell:?} is no number"))
    }

    /// The same, `None` for an empty cell.
    ///
    /// # Errors
    /// When it is neither.
    pub fn optional(&self, column: &str) -> Result<Option<u64>> {
        if self.get(column)?.is_empty() { Ok(None) } else { self.number(column).map(Some) }
    }

    /// Whether the number under `column`, which may be negative, is not zero.
    ///
    /// # Errors
    /// When it is no number.
    pub fn flag(&self, column: &str) -> Result<bool> {
        let cell = self.get(column)?;
        let digits = cell.strip_prefix('-').unwrap_or(cell);
        let value = number(digits).with_context(|| format!("{column}: {cell:?} is no number"))?;
        Ok(value != 0)
    }
}

/// A number, decimal or with 0x.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
