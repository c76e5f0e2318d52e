//! One bit of one entry, turned over behind the crate's back.

use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::Iova;
use palisade_on_target::memory::POOL;
use palisade_pgtable::{PageTable, Registers};

use crate::population::{Mapping, Population};
use crate::random::Random;
use crate::sweep::sweep;
use crate::walker::{Output, Walker};

/// Where a descriptor of a table below 2^47 has the next table's address.
const NEXT: u64 = 0x0000_ffff_ffff_f000;

/// Turns over the lowest address bit of one leaf, then the valid bit of another, and asks
/// everything again. Found: exactly the questions behind the entry are answered wrong, and none
/// is when the bit is back. Answers how many flips were found, of 2.
pub fn flips(
    table: &dyn PageTable,
    walker: Walker,
    population: &Population,
    questions: &[u64],
    random: &mut Random,
) -> u64 {
    let wrong = || sweep(walker, population, questions, Output::Whole, true).wrong;
    let mut found = 0;
    for valid in [false, true] {
        let Some(mapping) = population.mappings.get(random.below(population.mappings.len())) else {
            continue;
        };
        let first = mapping.va | population.base;
        let behind = |address: &&u64| **address >= first && **address - first < mapping.size;
        let touched = questions.iter().filter(behind).count() as u64;
        let bit = if valid { 1 } else { mapping.size };
        let entry = leaf(table, population, mapping);
        entry.fetch_xor(bit, Ordering::SeqCst);
        walker.forget();
        let turned = wrong();
        entry.fetch_xor(bit, Ordering::SeqCst);
        walker.forget();
        if touched > 0 && turned == touched && wrong() == 0 {
            found += 1;
        }
    }
    found
}

/// The entry of the first page of `mapping`, found in memory from the root down.
fn leaf(table: &dyn PageTable, population: &Population, mapping: &Mapping) -> &'static AtomicU64 {
    let root = match table.registers() {
        Registers::Stage2(regs) => regs.vttbr_baddr,
        Registers::Stage1(regs) => regs.ttbr,
        _ => panic!("not a table of this CPU's"),
    };
    let walk = table.walk(Iova::new(mapping.va | population.base));
    let mut at = root.get();
    let mut entry = 0;
    for (level, index, word) in walk.steps.into_iter().flatten() {
        // Concatenated roots are one table with more entries.
        let pieces = if level == population.start { population.roots } else { 1 };
        let within = mapping.va >> (population.ias - pieces.trailing_zeros()) & (pieces - 1);
        let index = index as u64 + (within << (population.granule - 3));
        entry = at + index * 8;
        at = word & NEXT & !((1 << population.granule) - 1);
    }
    assert!(POOL.contains(&entry), "an entry outside of the pool: {entry:#x}");
    // SAFETY: a word of a table in the pool, which is mapped one to one for ever; the crate
    // reaches tables as atomics only.
    unsafe { AtomicU64::from_ptr(entry as *mut u64) }
}
