//! The operations, the same for everyone: stage 2, 4 KiB granule, 48 bits, four
//! levels, tables from a warm pool.

use std::hint::black_box;

use crate::measured::palisade_measured_region as region;

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    MapOne,
    UnmapOne,
    Map256,
    Unmap256,
    Unmap1g,
    Map2mBlocks,
    Translate4k,
    Translate2m,
    Split2m,
    Churn64k,
}

impl Operation {
    /// By its name in the report.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "map_one" => Self::MapOne,
            "unmap_one" => Self::UnmapOne,
            "map_256" => Self::Map256,
            "unmap_256" => Self::Unmap256,
            "unmap_1g" => Self::Unmap1g,
            "map_2m_blocks" => Self::Map2mBlocks,
            "translate_4k" => Self::Translate4k,
            "translate_2m" => Self::Translate2m,
            "split_2m" => Self::Split2m,
            "churn_64k" => Self::Churn64k,
            _ => return None,
        })
    }
}

/// Who is measured.
pub trait Subject {
    /// Maps pages of `size` bytes in one call.
    fn map(&mut self, iova: u64, pa: u64, size: u64, count: usize);
    /// Unmaps them in one call, invalidation included, strictly.
    fn unmap(&mut self, iova: u64, size: u64, count: usize);
    /// Unmaps pages by one call each, and invalidates once at the end where that
    /// is possible.
    fn unmap_each(&mut self, iova: u64, size: u64, calls: u64) {
        for call in 0..calls {
            self.unmap(black_box(iova + call * size), size, 1);
        }
    }
    /// Translates one address.
    fn translate(&self, iova: u64) -> u64;
    /// Unmaps the first page of a block of 2 MiB, by splitting it; `false` where
    /// that cannot be done.
    fn split(&mut self, iova: u64) -> bool;
}

const PAGE: u64 = 1 << 12;
const BLOCK: u64 = 1 << 21;
const GIB: u64 = 1 << 30;
/// Where everything is mapped from, and to.
const IOVA: u64 = 0x40_0000_0000;
const PA: u64 = 0x1_0000_0000;

/// Pseudo-random numbers, a few instructions each.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// Sets up, runs the region, and answers the number of units.
pub fn run<S: Subject>(subject: &mut S, operation: Operation) -> Option<u64> {
    // A neighbour that stays mapped: the upper levels are there, as in use.
    subject.map(IOVA - PAGE, PA, PAGE, 1);
    match operation {
        Operation::MapOne => {
            let pages = 8192;
            region(&mut || {
                for page in 0..pages {
                    subject.map(black_box(IOVA + page * PAGE), PA + page * PAGE, PAGE, 1);
                }
            });
            Some(pages)
        }
        Operation::UnmapOne => {
            let pages = 8192;
            subject.map(IOVA, PA, PAGE, pages as usize);
            region(&mut || subject.unmap_each(IOVA, PAGE, pages));
            Some(pages)
        }
        Operation::Map256 => {
            region(&mut || {
                for call in 0..32 {
                    let offset = call * 256 * PAGE;
                    subject.map(black_box(IOVA + offset), PA + offset, PAGE, 256);
                }
            });
            Some(32 * 256)
        }
        Operation::Unmap256 => {
            subject.map(IOVA, PA, PAGE, 32 * 256);
            region(&mut || {
                for call in 0..32 {
                    subject.unmap(black_box(IOVA + call * 256 * PAGE), PAGE, 256);
                }
            });
            Some(32 * 256)
        }
        Operation::Unmap1g => {
            let pages = (GIB / PAGE) as usize;
            subject.map(IOVA, PA, PAGE, pages);
            region(&mut || subject.unmap(black_box(IOVA), PAGE, pages));
            Some(pages as u64)
        }
        Operation::Map2mBlocks => {
            let blocks = 64 * GIB / BLOCK;
            // Not aligned to 1 GiB: nobody may use fewer, larger blocks.
            region(&mut || subject.map(black_box(IOVA), PA + BLOCK, BLOCK, blocks as usize));
            Some(blocks)
        }
        Operation::Translate4k => {
            let pages = 65536;
            subject.map(IOVA, PA, PAGE, pages as usize);
            Some(translate(subject, pages * PAGE))
        }
        Operation::Translate2m => {
            let blocks = 256;
            subject.map(IOVA, PA, BLOCK, blocks as usize);
            Some(translate(subject, blocks * BLOCK))
        }
        Operation::Split2m => {
            let blocks = 16;
            subject.map(IOVA, PA, BLOCK, blocks as usize);
            let mut done = true;
            region(&mut || {
                for block in 0..blocks {
                    done &= subject.split(black_box(IOVA + block * BLOCK));
                }
            });
            done.then_some(blocks)
        }
        Operation::Churn64k => {
            let mut random = Random(1);
            // Every second 64 KiB of 1 GiB stays mapped: tables come and go rarely.
            for slot in 0..GIB / (32 * PAGE) {
                subject.map(IOVA + slot * 32 * PAGE, PA, PAGE, 16);
            }
            let pairs = 4096;
            region(&mut || {
                for _ in 0..pairs {
                    let slot = random.below(GIB / (32 * PAGE));
                    let iova = black_box(IOVA + (slot * 32 + 16) * PAGE);
                    subject.map(iova, PA + slot * 32 * PAGE, PAGE, 16);
                    subject.unmap(iova, PAGE, 16);
                }
            });
            Some(pairs)
        }
    }
}

/// Translates random addresses of the range, each once before it counts: peers and
/// we find warm tables and caches, in reach of our walk cache of 1 GiB.
fn translate<S: Subject>(subject: &S, bytes: u64) -> u64 {
    let mut random = Random(7);
    let addresses: Vec<u64> = (0..8192).map(|_| IOVA + random.below(bytes)).collect();
    for &address in &addresses {
        black_box(subject.translate(black_box(address)));
    }
    region(&mut || {
        for &address in &addresses {
            black_box(subject.translate(black_box(address)));
        }
    });
    addresses.len() as u64
}

/// Does nothing: what the loops and calls of the measurement cost by themselves.
pub struct Nothing;

impl Subject for Nothing {
    #[inline(never)]
    fn map(&mut self, iova: u64, pa: u64, size: u64, count: usize) {
        let _ = (iova, pa, size, count, black_box(&mut *self));
    }
    #[inline(never)]
    fn unmap(&mut self, iova: u64, size: u64, count: usize) {
        let _ = (iova, size, count, black_box(&mut *self));
    }
    #[inline(always)]
    fn translate(&self, iova: u64) -> u64 {
        iova
    }
    #[inline(never)]
    fn split(&mut self, iova: u64) -> bool {
        black_box(iova) != 0
    }
}
