//! What is mapped in one table, and what the walker must therefore answer. It is worked out from
//! the list of mappings and the manual's rules (DDI 0487, D8.2), not from the table.

use alloc::vec::Vec;

use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Error, PageTable, Prot};

use crate::par::{Answer, Kind};
use crate::random::Random;
use crate::walker::Output;

/// Mappings of each size of page that are tried for.
const TRIES: usize = 24;
/// Pages in a mapping of a table with contiguous runs: the longest run of any granule.
const LONGEST_RUN: u64 = 128;
/// The contiguous hint of a descriptor (D8.3.1).
const CONTIGUOUS: u64 = 1 << 52;

/// Some pages in a row.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// First input address, without the bits above the table's range.
    pub va: u64,
    /// First output address.
    pub pa: u64,
    /// Bytes of one page.
    pub size: u64,
    /// Bytes of all.
    pub bytes: u64,
}

/// What a table holds.
pub struct Population {
    /// All mappings.
    pub mappings: Vec<Mapping>,
    /// Level of the root, −1 to 3.
    pub start: i8,
    /// Number of concatenated roots.
    pub roots: u64,
    /// Bits of an input address.
    pub ias: u32,
    /// What the bits above must be.
    pub base: u64,
    /// log2 of the granule.
    pub granule: u32,
    stage2: bool,
    /// Bits of a physical address of this CPU.
    pa_bits: u32,
}

impl Population {
    /// Fills an empty table.
    pub fn fill(table: &mut dyn PageTable, pa_bits: u32, random: &mut Random) -> Self {
        let config = *table.config();
        let registers = *table.registers();
        let ias = u32::from(config.ias);
        let granule = config.pgsize_bitmap.trailing_zeros();
        let [Some((start, ..)), ..] = table.walk(Iova::new(upper_bits(&registers, ias))).steps
        else {
            panic!("a table without a root");
        };
        let mut population = Self {
            mappings: Vec::new(),
            start,
            roots: 1,
            ias,
            base: upper_bits(&registers, ias),
            granule,
            stage2: registers.stage2().is_some(),
            pa_bits,
        };
        let one_root = population.entry_shift(start) + granule - 3;
        population.roots = 1 << ias.saturating_sub(one_root);
        let page = 1 << granule;
        population.map(table, 0, page, 1, random);
        population.map(table, (1 << ias) - page, page, 1, random);
        let mut sizes = config.pgsize_bitmap;
        while sizes != 0 {
            let size = sizes & sizes.wrapping_neg();
            sizes ^= size;
            for nth in 0..TRIES as u64 {
                // Spread over all sixteenths, so that every root is used.
                let va = (nth % 16) << (ias - 4) | random.bits(ias - 4);
                let pages = match config.contiguous {
                    true => LONGEST_RUN,
                    false => 1 + random.bits(2),
                };
                population.map(table, va, size, pages, random);
            }
        }
        if config.contiguous {
            let hints = population.mappings.iter().filter(|mapping| {
                let walk = table.walk(Iova::new(mapping.va | population.base));
                walk.leaf.is_some_and(|leaf| leaf.word & CONTIGUOUS != 0)
            });
            assert!(hints.count() > 0, "no run of entries has the contiguous hint");
        }
        population
    }

    /// Maps, unless something is there or the range ends before.
    fn map(&mut self, table: &mut dyn PageTable, va: u64, size: u64, pages: u64, r: &mut Random) {
        let runs = pages == LONGEST_RUN;
        let bytes = size * pages;
        let va = va & !(if runs { bytes } else { size } - 1);
        if va + bytes > 1 << self.ias {
            return;
        }
        let oas = u32::from(table.config().oas);
        let room = bytes.next_power_of_two();
        // Either below 4 GiB, or well above: with one of the bits 47:32, which lie in the same
        // place in every form of descriptor.
        let low = bytes <= 1 << 30 && r.bits(1) == 0;
        let pa = match low {
            true => r.bits(31) & !(room - 1),
            false => (r.bits(oas) | 1 << (oas.min(48) - 1)) & !(room - 1),
        };
        let (iova, from) = (Iova::new(va | self.base), PhysAddr::new(pa));
        let prot = Prot::MEMORY;
        let result = match runs {
            true => table.map_range(iova, from, bytes, prot),
            false => table.map_pages(iova, from, size, pages as usize, prot),
        };
        match result {
            Ok(()) => self.mappings.push(Mapping { va, pa, size, bytes }),
            Err(Error::Exists(_)) => {}
            Err(error) => panic!("mapping {va:#x}: {error}"),
        }
    }

    /// log2 of the bytes that an entry of `level` covers.
    fn entry_shift(&self, level: i8) -> u32 {
        self.granule + (3 - level) as u32 * (self.granule - 3)
    }

    /// What of the mappings covers `address`.
    pub fn at(&self, address: u64) -> Option<&Mapping> {
        let va = self.inside(address)?;
        self.mappings.iter().find(|mapping| va >= mapping.va && va - mapping.va < mapping.bytes)
    }

    /// The address within the table's range.
    fn inside(&self, address: u64) -> Option<u64> {
        let va = address ^ self.base;
        (va >> self.ias == 0).then_some(va)
    }

    /// The level at which a walk to `va` ends: that of the first entry beneath which no mapping
    /// has smaller pages.
    pub fn level(&self, va: u64) -> i8 {
        let mut level = self.start;
        while level < 3 {
            let covers = 1u64 << self.entry_shift(level);
            let first = va & !(covers - 1);
            let table = self.mappings.iter().any(|mapping| {
                mapping.size < covers
                    && mapping.va < first + covers
                    && first < mapping.va + mapping.bytes
            });
            if !table {
                break;
            }
            level += 1;
        }
        level
    }

    /// What the walker must answer.
    pub fn expected(&self, address: u64, output: Output) -> Answer {
        if self.stage2 && address >> self.pa_bits != 0 {
            // Stage 1 is disabled: its output is its input, which is too wide (D8.2.12.1).
            return Answer::Fault(Kind::AddressSize, 0, false);
        }
        let Some(va) = self.inside(address) else {
            return Answer::Fault(Kind::Translation, 0, self.stage2);
        };
        let Some(mapping) = self.at(address) else {
            return Answer::Fault(Kind::Translation, self.level(va), self.stage2);
        };
        if output == Output::Bits32 && mapping.pa >> 32 != 0 {
            return Answer::Fault(Kind::AddressSize, self.level(va), self.stage2);
        }
        Answer::Page((mapping.pa + (va - mapping.va)) & !0xfff)
    }

    /// Questions: the ends and the middle of every mapping and what lies beside it, places that
    /// share tables with it, places anywhere, and addresses beyond the range.
    pub fn questions(&self, random: &mut Random) -> Vec<u64> {
        let top = 1u64 << self.ias;
        let mut places = Vec::new();
        places.extend([0, top - 1]);
        for mapping in &self.mappings {
            let (va, bytes) = (mapping.va, mapping.bytes);
            places.extend([va, va + bytes - 1, va.saturating_sub(1), (va + bytes).min(top - 1)]);
            for _ in 0..6 {
                places.push(va + random.bits(63) % bytes);
            }
            for _ in 0..4 {
                places.push(va ^ 1 << random.below(self.ias as usize));
            }
        }
        for _ in 0..160 {
            places.push(random.bits(self.ias));
        }
        for place in &mut places {
            *place |= self.base;
        }
        for _ in 0..24 {
            let beyond = 1 << (self.ias as usize + random.below(64 - self.ias as usize));
            places.push((random.bits(self.ias) | self.base) ^ beyond);
        }
        places
    }
}

/// What the bits above the range of a table must be: ones in the upper half (TTBR1).
fn upper_bits(registers: &palisade_pgtable::Registers, ias: u32) -> u64 {
    match registers.stage1() {
        Some(regs) if regs.ttbr1 => !((1 << ias) - 1),
        _ => 0,
    }
}
