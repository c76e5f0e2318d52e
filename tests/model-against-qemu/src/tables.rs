//! Tables of VMSAv8-64 (DDI 0487, D8.3), word by word: valid ones, and damaged ones.

use crate::scene::Scene;

/// Valid descriptor, and the bit that makes it a table or a page.
pub const VALID: u64 = 1 << 0;
/// Table above the last level, page in it.
pub const TABLE: u64 = 1 << 1;
/// Access flag.
pub const AF: u64 = 1 << 10;
/// A stage 1 leaf: AF, inner shareable, nG, AP\[2:1\] = 0b01 (all may read and write).
pub const STAGE_1: u64 = VALID | AF | 3 << 8 | NOT_GLOBAL | 1 << 6;
/// nG.
pub const NOT_GLOBAL: u64 = 1 << 11;
/// AP\[2\]: read-only.
pub const READ_ONLY: u64 = 1 << 7;
/// AP\[1\]: unprivileged access.
pub const UNPRIVILEGED: u64 = 1 << 6;
/// A stage 2 leaf: AF, inner shareable, S2AP = 0b11, MemAttr = 0b1111 (normal, write-back).
pub const STAGE_2: u64 = VALID | AF | 3 << 8 | 3 << 6 | 0xf << 2;
/// S2AP\[0\] and \[1\]: read and write.
pub const S2_READ: u64 = 1 << 6;
/// Write.
pub const S2_WRITE: u64 = 1 << 7;

/// The granules, as log2 of their bytes.
pub const GRANULES: [u32; 3] = [12, 14, 16];

/// One translation stage.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// log2 of the granule's bytes.
    pub granule: u32,
    /// Bits of input address.
    pub bits: u32,
    /// Level of the first table.
    pub start: u32,
    /// Physical address of the first table.
    pub root: u64,
    /// What is added to a physical address in a descriptor: the way back through stage 2.
    pub offset: u64,
}

/// `4K`, `16K` or `64K`.
#[must_use]
pub fn granule_name(granule: u32) -> String {
    format!("{}K", (1 << granule) >> 10)
}

/// log2 of the bytes that a descriptor of `level` maps.
#[must_use]
pub const fn shift(granule: u32, level: u32) -> u32 {
    granule + (granule - 3) * (3 - level)
}

/// Whether there are blocks at `level` (without 52-bit addresses).
#[must_use]
pub const fn has_blocks(granule: u32, level: u32) -> bool {
    level == 2 || level == 1 && granule == 12
}

impl Stage {
    /// Stage 1 for `bits` bits of input address: the first level that holds them in one table.
    pub fn one(scene: &mut Scene, granule: u32, bits: u32) -> Self {
        let start = 4 - (bits - granule).div_ceil(granule - 3);
        Self::at(scene, granule, bits, start)
    }

    /// From `start` on, with as many tables side by side as that needs.
    pub fn at(scene: &mut Scene, granule: u32, bits: u32, start: u32) -> Self {
        let entries = bits - shift(granule, start);
        let root = scene.room(8 << entries.max(granule - 3));
        Self { granule, bits, start, root, offset: 0 }
    }

    /// Bytes that a descriptor of `level` maps.
    #[must_use]
    pub fn span(&self, level: u32) -> u64 {
        1 << shift(self.granule, level)
    }

    /// A word that points to `table`.
    #[must_use]
    pub fn pointer(&self, table: u64) -> u64 {
        VALID | TABLE | (table + self.offset)
    }

    /// Makes `word` the descriptor of `address` at `level`; gives where it lies. Tables on the way
    /// are made; a block on the way is split.
    pub fn set(&self, scene: &mut Scene, address: u64, level: u32, word: u64) -> u64 {
        let place = self.slot(scene, address, level);
        scene.put(place, word);
        place
    }

    /// Where the descriptor of `address` at `level` lies; tables are made, blocks split.
    pub fn slot(&self, scene: &mut Scene, address: u64, level: u32) -> u64 {
        let address = address & ((1 << self.bits) - 1);
        let mut table = self.root;
        for at in self.start..=level {
            let index = address >> shift(self.granule, at);
            let index =
                if at == self.start { index } else { index & ((1 << (self.granule - 3)) - 1) };
            let place = table + index * 8;
            if at == level {
                return place;
            }
            let word = scene.word(place);
            table = if word & (VALID | TABLE) == VALID | TABLE {
                (word & ((1 << 48) - (1 << self.granule))) - self.offset
            } else {
                let next = scene.room(1 << self.granule);
                if word & VALID != 0 {
                    let step = self.span(at + 1);
                    let page = if at + 1 == 3 { TABLE } else { 0 };
                    for (slot, part) in (next..).step_by(8).zip(0..1 << (self.granule - 3)) {
                        scene.put(slot, (word | page) + part * step);
                    }
                }
                scene.put(place, self.pointer(next));
                next
            };
        }
        table
    }

    /// Maps `address` to `output` with a leaf of `level`, a page or a block; `attributes` are
    /// [`STAGE_1`] or [`STAGE_2`] or near them. The offsets in the leaf must agree.
    pub fn map(
        &self,
        scene: &mut Scene,
        address: u64,
        level: u32,
        output: u64,
        attributes: u64,
    ) -> u64 {
        let page = if level == 3 { TABLE } else { 0 };
        let output = output & !(self.span(level) - 1);
        self.set(scene, address, level, output | attributes | page)
    }
}
