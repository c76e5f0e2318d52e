//! The words of an entry in a row.

use anyhow::Result;

use super::super::table::Row;

/// An STE or a CD.
pub type Words = [u64; 8];

/// The columns q0 to q7.
pub fn words(row: Row<'_>) -> Result<Words> {
    let mut words = [0; 8];
    for (at, word) in words.iter_mut().enumerate() {
        *word = row.number(&format!("q{at}"))?;
    }
    Ok(words)
}
