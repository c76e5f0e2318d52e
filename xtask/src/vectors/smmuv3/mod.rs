//! The SMMUv3 driver's pure parts against the measured rows.

mod encodings;
mod recorder;
mod transitions;
mod used_bits;

pub use encodings::encodings;
pub use transitions::{named_transitions, transitions};
pub use used_bits::used_bits;

use anyhow::Result;

use super::table::Row;

/// An STE or a CD.
type Words = [u64; 8];

/// The columns q0 to q7.
fn words(row: Row<'_>) -> Result<Words> {
    let mut words = [0; 8];
    for (at, word) in words.iter_mut().enumerate() {
        *word = row.number(&format!("q{at}"))?;
    }
    Ok(words)
}
