//! ARMv7 short descriptors (DDI 0487, G5.4): 32-bit words, two levels, large pages
//! and supersections as runs of sixteen equal words; MediaTek's 35-bit extension.

use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::PhysAddr;

use crate::config::{Config, Quirks};
use crate::error::ConfigError;
use crate::format::{Entry, Format};
use crate::geometry::only_quirks;
use crate::prot::Prot;
use crate::regs::V7sRegs;

/// First level: a pointer to a second-level table.
const TABLE: u64 = 1;
/// First level: the table is non-secure.
const TABLE_NS: u64 = 1 << 3;
/// First level: a section.
const SECTION: u64 = 2;
/// First level: the section is a supersection.
const SUPER: u64 = 1 << 18;
/// First level: the section is non-secure.
const SECTION_NS: u64 = 1 << 19;
/// Second level: a large page.
const LARGE: u64 = 1;
/// Second level: a small page.
const SMALL: u64 = 2;
/// B.
const B: u64 = 1 << 2;
/// C.
const C: u64 = 1 << 3;

/// Where a kind of leaf keeps its attributes.
struct Layout {
    kind: u64,
    ng: u64,
    shared: u64,
    read_only: u64,
    tex: u64,
    /// Position of AP\[0\], the access flag; AP\[1\], unprivileged, is above it.
    ap: u32,
    xn: u64,
}

const SMALL_PAGE: Layout = Layout {
    kind: SMALL,
    ng: 1 << 11,
    shared: 1 << 10,
    read_only: 1 << 9,
    tex: 1 << 6,
    ap: 4,
    xn: 1,
};
const LARGE_PAGE: Layout = Layout {
    kind: LARGE,
    ng: 1 << 11,
    shared: 1 << 10,
    read_only: 1 << 9,
    tex: 1 << 12,
    ap: 4,
    xn: 1 << 15,
};
const SECTION_LEAF: Layout = Layout {
    kind: SECTION,
    ng: 1 << 17,
    shared: 1 << 16,
    read_only: 1 << 15,
    tex: 1 << 12,
    ap: 10,
    xn: 1 << 4,
};

/// ARMv7 short descriptors.
pub struct V7s {
    quirks: Quirks,
}

/// Shape of a v7s table.
pub(crate) struct Shape {
    pub ias: u8,
    pub oas: u8,
    /// Number of 4 KiB pieces of the root, 1 to 16.
    pub roots: usize,
    pub sizes: u64,
}

impl V7s {
    /// Checks the configuration and derives the shape.
    pub(crate) fn new(config: &Config) -> Result<(Self, Shape), ConfigError> {
        let quirks = config.quirks;
        let known = Quirks::NS | Quirks::NO_PERMS | Quirks::MTK_EXT | Quirks::MTK_TTBR_EXT;
        only_quirks(config, known)?;
        let lacks = |of: Quirks, other: Quirks| quirks.contains(of) && !quirks.contains(other);
        if lacks(Quirks::MTK_EXT, Quirks::NO_PERMS) || lacks(Quirks::MTK_TTBR_EXT, Quirks::MTK_EXT)
        {
            return Err(ConfigError::Quirks(config.format, quirks));
        }
        let (ias, oas) = if quirks.contains(Quirks::MTK_EXT) { (34, 35) } else { (32, 32) };
        if config.ias > ias || config.ias < 20 {
            return Err(ConfigError::InputSize(config.format, config.ias));
        }
        if config.oas > oas || config.oas < 20 {
            return Err(ConfigError::OutputSize(config.format, config.oas));
        }
        if config.contiguous || config.s2_dirty || config.lpa2 {
            return Err(ConfigError::Option(config.format));
        }
        let sizes = config.pgsize_bitmap & (1 << 12 | 1 << 16 | 1 << 20 | 1 << 24);
        if sizes == 0 {
            return Err(ConfigError::PageSizes(config.format, config.pgsize_bitmap));
        }
        let roots = 1usize << config.ias.saturating_sub(30);
        Ok((Self { quirks }, Shape { ias: config.ias, oas: config.oas, roots, sizes }))
    }

    /// TTBR0, TTBCR, PRRR and NMRR (G8.2).
    pub(crate) fn registers(&self, config: &Config, root: PhysAddr) -> V7sRegs {
        let low = root.get() as u32;
        let ttbr = if self.quirks.contains(Quirks::MTK_EXT) {
            // MediaTek: the walk's attributes are fixed; address bits 34:32 in 2:0.
            low | (root.get() >> 32) as u32 & 0x7
        } else if config.coherent_walk {
            // Shareable, not outer shareable, inner and outer write-back write-allocate.
            low | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 3
        } else {
            low | 1 << 1
        };
        // PRRR, NMRR: types 1 device, 4 and 7 normal, 7 write-back; shareable by S.
        V7sRegs { ttbr, tcr: 0, nmrr: 0x4000_4000, prrr: 0x800b_8204 }
    }

    fn layout(level: i8, run: bool) -> &'static Layout {
        match (level, run) {
            (1, _) => &SECTION_LEAF,
            (_, true) => &LARGE_PAGE,
            (_, false) => &SMALL_PAGE,
        }
    }

    fn is_run(word: u64, level: i8) -> bool {
        if level == 1 { word & 3 == SECTION && word & SUPER != 0 } else { word & 3 == LARGE }
    }

    /// The permissions that a leaf of this kind expresses.
    fn permissions(&self, word: u64, level: i8) -> Prot {
        let layout = Self::layout(level, Self::is_run(word, level));
        let set = |bit: u64| word & bit != 0;
        let mut prot = Prot::READ;
        prot.set(Prot::CACHE, set(C));
        prot.set(Prot::DEVICE, !set(layout.tex));
        prot.set(Prot::WRITE, !set(layout.read_only));
        prot.set(Prot::PRIV, !set(2 << layout.ap));
        prot.set(Prot::EXEC, !set(layout.xn));
        prot
    }

    /// Address bits 32, 33 and 34 in bits 9, 4 and 5 (MediaTek).
    fn high(pa: u64) -> u64 {
        (pa >> 32 & 1) << 9 | (pa >> 33 & 1) << 4 | (pa >> 34 & 1) << 5
    }

    fn address(word: u64, mask: u64, extended: bool) -> u64 {
        let low = word & mask & 0xffff_ffff;
        if extended {
            low | (word >> 9 & 1) << 32 | (word >> 4 & 1) << 33 | (word >> 5 & 1) << 34
        } else {
            low
        }
    }

    fn half(index: usize) -> (usize, u32) {
        (index >> 1, (index as u32 & 1) << 5)
    }
}

impl Format for V7s {
    type Words = [AtomicU64; 512];
    const TOP: i8 = 1;
    const LAST: i8 = 2;
    const REPEATS: bool = true;

    fn shift(level: i8) -> u32 {
        if level == 1 { 20 } else { 12 }
    }

    fn bits(level: i8) -> u32 {
        if level == 1 { 10 } else { 8 }
    }

    fn run(_level: i8) -> u32 {
        4
    }

    fn load(words: &[AtomicU64], index: usize) -> u64 {
        let (word, shift) = Self::half(index);
        words.get(word).map_or(0, |word| word.load(Ordering::Relaxed) >> shift & 0xffff_ffff)
    }

    // Two descriptors share a word: the neighbour is stored back as it was, under
    // the domain's lock. No hardware writes to these tables.
    fn store(words: &[AtomicU64], index: usize, value: u64) {
        let (word, shift) = Self::half(index);
        if let Some(word) = words.get(word) {
            let others = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
            word.store(others | value << shift, Ordering::Relaxed);
        }
    }

    fn publish(words: &[AtomicU64], index: usize, value: u64) {
        let (word, shift) = Self::half(index);
        if let Some(word) = words.get(word) {
            let others = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
            palisade_hal::barrier::publish(word, others | value << shift);
        }
    }

    fn swap(words: &[AtomicU64], index: usize, value: u64) -> u64 {
        let old = Self::load(words, index);
        Self::store(words, index, value);
        old
    }

    fn first_used(words: &[AtomicU64], start: usize, count: usize) -> Option<usize> {
        (start..start + count).find(|&index| Self::load(words, index) != 0)
    }

    fn fill(
        &self,
        words: &[AtomicU64],
        start: usize,
        count: usize,
        attributes: u64,
        pa: u64,
        shift: u32,
    ) {
        for nth in 0..count {
            let word = self.leaf(attributes, pa + ((nth as u64) << shift));
            Self::store(words, start + nth, word);
        }
    }

    fn clear_used(words: &[AtomicU64], start: usize, count: usize) -> usize {
        let used = |&nth: &usize| Self::load(words, start + nth) != 0;
        (0..count).take_while(used).map(|nth| Self::store(words, start + nth, 0)).count()
    }

    fn exchange(words: &[AtomicU64], index: usize, _old: u64, _new: u64) -> Result<u64, u64> {
        Err(Self::load(words, index))
    }

    fn link(&self, pa: u64, _level: i8) -> u64 {
        let ns = if self.quirks.contains(Quirks::NS) { TABLE_NS } else { 0 };
        let high = if self.quirks.contains(Quirks::MTK_TTBR_EXT) { Self::high(pa) } else { 0 };
        pa & 0xffff_fc00 | high | TABLE | ns
    }

    fn linked(&self, word: u64) -> u64 {
        match self.entry(word, 1) {
            Entry::Table(pa) => pa,
            _ => 1,
        }
    }

    fn entry(&self, word: u64, level: i8) -> Entry {
        let mask = match (level, word & 3) {
            (_, 0) => return Entry::Invalid,
            (1, TABLE) => {
                let extended = self.quirks.contains(Quirks::MTK_TTBR_EXT);
                return Entry::Table(Self::address(word, 0xffff_fc00, extended));
            }
            // A supersection's bits 23:20 are address bits 35:32: zero, as everywhere here.
            (1, SECTION) => 0xfff0_0000,
            (1, _) => return Entry::Invalid,
            (_, LARGE) => 0xffff_0000,
            (_, _) => 0xffff_f000,
        };
        Entry::Leaf(Self::address(word, mask, self.quirks.contains(Quirks::MTK_EXT)))
    }

    fn attributes(&self, prot: Prot, level: i8, run: bool) -> u64 {
        if !prot.intersects(Prot::READ | Prot::WRITE) {
            return 0;
        }
        let layout = Self::layout(level, run);
        let mut word = layout.kind | layout.ng | layout.shared;
        if prot.contains(Prot::DEVICE) {
            word |= B;
        } else {
            word |= layout.tex;
            if prot.contains(Prot::CACHE) {
                word |= B | C;
            }
        }
        if !self.quirks.contains(Quirks::NO_PERMS) {
            word |= 1 << layout.ap;
            if !prot.contains(Prot::PRIV) {
                word |= 2 << layout.ap;
            }
            if !prot.contains(Prot::WRITE) {
                word |= layout.read_only;
            }
            if !prot.contains(Prot::EXEC) {
                word |= layout.xn;
            }
        }
        if level == 1 && run {
            word |= SUPER;
        }
        if level == 1 && self.quirks.contains(Quirks::NS) {
            word |= SECTION_NS;
        }
        word
    }

    fn leaf(&self, attributes: u64, pa: u64) -> u64 {
        let high = if self.quirks.contains(Quirks::MTK_EXT) { Self::high(pa) } else { 0 };
        pa & 0xffff_ffff | high | attributes
    }

    fn reattribute(&self, word: u64, level: i8, to: i8) -> u64 {
        self.attributes(self.permissions(word, level), to, false)
    }

    fn in_run(&self, word: u64, level: i8) -> bool {
        Self::is_run(word, level)
    }

    fn with_run(&self, attributes: u64, level: i8, run: bool) -> u64 {
        self.attributes(self.permissions(attributes, level), level, run)
    }

    fn is_written(&self, _word: u64) -> bool {
        false
    }

    fn cleaned(&self, word: u64) -> u64 {
        word
    }
}
