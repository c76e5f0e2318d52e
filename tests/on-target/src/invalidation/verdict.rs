//! What is said of a count and its bound.

use core::fmt;

use crate::count::Count;

/// A count beside what it may be at most.
#[derive(Clone, Copy, Default)]
pub struct Verdict {
    /// What was counted.
    pub count: Count,
    /// The most commands and batches.
    pub commands: u64,
    /// The most batches.
    pub batches: u64,
    /// The most instructions, turns included.
    pub instructions: u64,
}

impl Verdict {
    /// Whether the bound holds.
    pub fn holds(&self) -> bool {
        self.count.commands <= self.commands
            && self.count.batches <= self.batches
            && self.count.instructions <= self.instructions
    }

    /// Whether the bound means something for this call: it is at most a quarter above it.
    pub fn means(&self) -> bool {
        4 * self.instructions <= 5 * self.count.instructions
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { commands, batches, turns, instructions } = self.count;
        write!(
            f,
            "{commands} of {} commands, {batches} of {} batches, ",
            self.commands, self.batches
        )?;
        write!(f, "{turns} turns, {instructions} of {} instructions", self.instructions)?;
        match (self.holds(), self.means()) {
            (false, _) => f.write_str(": TOO MANY"),
            (true, false) => f.write_str(": TOO FEW"),
            (true, true) => Ok(()),
        }
    }
}
