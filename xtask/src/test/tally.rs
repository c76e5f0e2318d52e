//! How many passed, failed and were skipped.

use std::fmt;
use std::ops::AddAssign;
use std::time::Instant;

use palisade_e2e::console::{Paint, say};

/// The sum of a test run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run.
    pub skipped: u64,
}

impl Tally {
    /// One test.
    pub fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// Reads the `test result:` line of a Rust test program.
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("test result: ")?;
        let count = |word: &str| {
            let mut parts = rest.split([';', '.']);
            let part = parts.find_map(|part| part.trim().strip_suffix(word))?;
            part.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored").unwrap_or(0),
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The line about one test.
pub(super) fn announce(name: &str, passed: bool, start: Instant) {
    let paint = Paint::stdout();
    let word = if passed { paint.good("ok") } else { paint.bad("FAILED") };
    say(&format!("test qemu::{name} ... {word} ({:.1} s)", start.elapsed().as_secs_f32()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::parse(line), Some(Tally { passed: 12, failed: 1, skipped: 2 }));
        let line = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(Tally::parse(line), Some(Tally::default()));
        assert_eq!(Tally::parse("test foo ... ok"), None);
    }
}
