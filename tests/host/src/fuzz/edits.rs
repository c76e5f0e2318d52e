//! Damage to a well-formed blob, described in few bytes.

use arbitrary::{Result, Unstructured};

/// What one edit takes at most, in bytes.
const ENOUGH: usize = 12;
/// Most edits of one input.
const MOST: usize = 64;

/// Applies what the rest of `input` says: words and bytes replaced, a range cut out or doubled.
pub(super) fn edit(bytes: &mut Vec<u8>, input: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..MOST {
        // What runs out in the middle would be an edit of the first byte.
        if input.len() < ENOUGH || bytes.is_empty() {
            break;
        }
        let at = input.int_in_range(0..=bytes.len() - 1)?;
        match input.int_in_range(0..=7u8)? {
            0..=2 => bytes[at] = input.arbitrary()?,
            3 => bytes[at] ^= 1 << input.int_in_range(0..=7u8)?,
            4 | 5 => {
                // The words of both formats that matter are aligned.
                let word: u32 = match input.int_in_range(0..=3u8)? {
                    0 => input.arbitrary()?,
                    1 => u32::MAX,
                    2 => input.int_in_range(0..=9u32)?,
                    _ => bytes.len() as u32,
                };
                let to = bytes.iter_mut().skip(at & !3).take(4);
                to.zip(word.to_be_bytes()).for_each(|(to, from)| *to = from);
            }
            6 => {
                let count = input.int_in_range(1..=64usize)?.min(bytes.len() - at);
                bytes.drain(at..at + count);
            }
            _ => {
                let count = input.int_in_range(1..=64usize)?.min(bytes.len() - at);
                let copy = bytes[at..at + count].to_vec();
                bytes.splice(at..at, copy);
            }
        }
    }
    Ok(())
}
