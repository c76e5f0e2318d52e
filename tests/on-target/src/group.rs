//! A group of shapes: every table built, asked about, damaged, and taken apart again.

use core::fmt;

use palisade_hal::guest;
use palisade_on_target::memory::Memory;
use palisade_on_target::say;
use palisade_pgtable::{Config, alloc};

use crate::flip::flips;
use crate::population::Population;
use crate::random::Random;
use crate::shapes::{Group, NARROW, WIDE};
use crate::sweep::{Count, sweep};
use crate::walker::{Output, Walker};

/// The fewest addresses of a run, over all groups.
const FEWEST: u64 = 10_000;

/// What came of the tables of a group.
#[derive(Default)]
struct Sum {
    count: Count,
    tables: u64,
    flips: u64,
    /// Start levels, −1 first, and log2 of the numbers of roots, as bits.
    levels: u64,
    roots: u64,
}

/// Runs the groups of this CPU; whether every answer was right and every flip found.
pub fn all(memory: &Memory) -> bool {
    // ID_AA64MMFR0_EL1 (DDI 0487, D24.2.88): PARange, and TGran4_2, which is 3 with FEAT_LPA2.
    let features = guest::id_register(7, 0);
    let pa_bits = match features & 0xf {
        code @ 0..=6 => [32, 36, 40, 42, 44, 48, 52][code as usize],
        _ => 52,
    };
    let wide = pa_bits == 52 && features >> 40 & 0xf == 3;
    let groups = if wide { WIDE } else { NARROW };
    if pa_bits < 48 {
        say!("on-target: this CPU has {pa_bits} bits of physical address; the test needs 48");
        return false;
    }
    let mut passed = true;
    let mut addresses = 0;
    for group in groups {
        let sum = run(group, memory, pa_bits);
        let Count { hits, translation, size, wrong, .. } = sum.count;
        addresses += hits + translation + size + wrong;
        passed &= wrong == 0 && sum.flips == 2 * sum.tables && hits > 0 && translation > 0;
        say!("on-target: {}: {sum}", group.name);
    }
    let held = memory.held();
    say!("on-target: {addresses} addresses, {held} frames still held");
    passed && addresses >= FEWEST && held == 0
}

fn run(group: &Group, memory: &Memory, pa_bits: u32) -> Sum {
    let mut sum = Sum::default();
    for (nth, config) in group.shapes.iter().enumerate() {
        one(config, memory, pa_bits, &mut Random::new(0x9e37_79b9 + nth as u64), &mut sum);
    }
    sum
}

/// One table: whole, with a narrower output size, and with a bit turned over.
fn one(config: &Config, memory: &Memory, pa_bits: u32, random: &mut Random, sum: &mut Sum) {
    let mut table = match alloc(config, memory.tables()) {
        Ok(table) => table,
        Err(error) => panic!("{} bits to {}: {error}", config.ias, config.oas),
    };
    let population = Population::fill(&mut *table, pa_bits, random);
    let questions = population.questions(random);
    for output in [Output::Whole, Output::Bits32] {
        let walker = Walker::install(table.registers(), output);
        let count = sweep(walker, &population, &questions, output, false);
        if count.wrong != 0 {
            let (start, roots) = (population.start, population.roots);
            say!(
                "on-target: {} wrong: {} bits to {}, {output:?}, level {start}, {roots} roots",
                count.wrong,
                config.ias,
                config.oas
            );
        }
        sum.count.add(&count);
    }
    let walker = Walker::install(table.registers(), Output::Whole);
    sum.flips += flips(&*table, walker, &population, &questions, random);
    sum.tables += 1;
    sum.levels |= 1 << (population.start + 1);
    sum.roots |= population.roots;
    walker.remove();
    memory.free(table);
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Count { hits, translation, size, wrong, sizes } = self.count;
        let (misses, all) = (translation + size, hits + translation + size + wrong);
        write!(f, "{all} addresses, {hits} hits, {misses} misses ({size} by size), ")?;
        write!(f, "{wrong} wrong, {} of {} flips found; start", self.flips, 2 * self.tables)?;
        for level in ones(self.levels) {
            write!(f, " {}", level as i32 - 1)?;
        }
        write!(f, "; roots")?;
        for roots in ones(self.roots) {
            write!(f, " {}", 1 << roots)?;
        }
        write!(f, "; sizes")?;
        for size in ones(sizes) {
            let (shift, unit) = match size {
                ..20 => (10, 'K'),
                20..30 => (20, 'M'),
                30..40 => (30, 'G'),
                40.. => (40, 'T'),
            };
            write!(f, " {}{unit}", 1 << (size - shift))?;
        }
        Ok(())
    }
}

/// The numbers of the bits that are set.
fn ones(word: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| word >> bit & 1 != 0)
}
