//! All questions about one table, and how many answers were as expected.

use palisade_on_target::say;

use crate::par::{Answer, Kind};
use crate::population::Population;
use crate::walker::{Output, Walker};

/// What became of the questions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Count {
    /// Right: translated to the expected address.
    pub hits: u64,
    /// Right: a translation fault of the expected stage and level.
    pub translation: u64,
    /// Right: an address-size fault of the expected stage and level.
    pub size: u64,
    /// Answered otherwise.
    pub wrong: u64,
    /// Sizes of pages and blocks that were hit, as bits.
    pub sizes: u64,
}

impl Count {
    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.hits += other.hits;
        self.translation += other.translation;
        self.size += other.size;
        self.wrong += other.wrong;
        self.sizes |= other.sizes;
    }
}

/// How many wrong answers are printed.
const SHOWN: u64 = 4;

/// Asks, with the registers' output size as `output` says, for a read and for a write of each
/// address. `quiet` where wrong answers are wanted.
pub fn sweep(
    walker: Walker,
    population: &Population,
    questions: &[u64],
    output: Output,
    quiet: bool,
) -> Count {
    let mut count = Count::default();
    for &address in questions {
        let expected = population.expected(address, output);
        let answers = [false, true].map(|write| walker.ask(address, write));
        if answers != [expected; 2] {
            count.wrong += 1;
            if !quiet && count.wrong <= SHOWN {
                let [read, write] = answers;
                say!("on-target: {address:#x}: read {read}, write {write}, expected {expected}");
            }
            continue;
        }
        match expected {
            Answer::Page(_) => {
                count.hits += 1;
                count.sizes |= population.at(address).map_or(0, |mapping| mapping.size);
            }
            Answer::Fault(Kind::Translation, ..) => count.translation += 1,
            _ => count.size += 1,
        }
    }
    count
}
