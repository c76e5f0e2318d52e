//! What comparing one file came to.

use std::collections::BTreeMap;
use std::fmt;

/// Mismatches that are shown in full; the others are counted.
const SHOWN: usize = 10;

/// Rows compared, rows skipped and why, and what did not agree.
#[derive(Debug, Default)]
pub struct Compared {
    /// Rows that agreed or did not.
    pub rows: usize,
    /// Rows not compared, by reason.
    pub skipped: BTreeMap<&'static str, usize>,
    /// What did not agree.
    pub mismatches: Vec<String>,
}

impl Compared {
    /// Counts one compared row.
    pub fn row(&mut self, result: Result<(), String>) {
        self.rows += 1;
        if let Err(mismatch) = result {
            self.mismatches.push(mismatch);
        }
    }

    /// Counts one row that is not compared.
    pub fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Whether something was compared and all of it agreed.
    pub fn passed(&self) -> bool {
        self.rows > 0 && self.mismatches.is_empty()
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped: usize = self.skipped.values().sum();
        write!(f, "{} rows compared, {skipped} skipped", self.rows)?;
        if skipped > 0 {
            let reasons: Vec<&str> = self.skipped.keys().copied().collect();
            write!(f, " ({})", reasons.join("; "))?;
        }
        for mismatch in self.mismatches.iter().take(SHOWN) {
            write!(f, "\n  mismatch: {mismatch}")?;
        }
        if self.mismatches.len() > SHOWN {
            write!(f, "\n  and {} more mismatches", self.mismatches.len() - SHOWN)?;
        }
        Ok(())
    }
}
