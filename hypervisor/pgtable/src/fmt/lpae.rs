//! Long descriptors (DDI 0487, D8.3): what all LPAE formats share. The stages
//! differ in attributes only, which are computed once per table.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use palisade_mem::Words;

use crate::format::{Entry, Format};
use crate::prot::Prot;

/// A translation granule, and whether descriptors are in FEAT_LPA2's 52-bit form.
pub trait Granule: Send + Sync + 'static {
    /// One table of this granule.
    type Words: Words;
    /// log2 of the granule.
    const SHIFT: u32;
    /// OA\[51:50\] in bits 9:8 (TCR.DS, VTCR_EL2.DS).
    const DS: bool;
    /// Shallowest level.
    const TOP: i8;
    /// log2 of the entries in a contiguous run at level 3, and at level 2 and above (D8.7.1).
    const RUNS: (u32, u32);
    /// The shallowest level with a contiguous hint.
    const RUN_TOP: i8;
}

macro_rules! granule {
    ($(#[$doc:meta])* $name:ident, $words:literal, $shift:literal, $ds:literal, $top:literal,
     $runs:expr, $run_top:literal) => {
        $(#[$doc])*
        pub struct $name;

        impl Granule for $name {
            type Words = [AtomicU64; $words];
            const SHIFT: u32 = $shift;
            const DS: bool = $ds;
            const TOP: i8 = $top;
            const RUNS: (u32, u32) = $runs;
            const RUN_TOP: i8 = $run_top;
        }
    };
}

granule!(
    /// 4 KiB, 48-bit addresses.
    Granule4K, 512, 12, false, 0, (4, 4), 1
);
granule!(
    /// 4 KiB, 52-bit addresses.
    Granule4K52, 512, 12, true, -1, (4, 4), 1
);
granule!(
    /// 16 KiB, 48-bit addresses.
    Granule16K, 2048, 14, false, 0, (7, 5), 2
);
granule!(
    /// 16 KiB, 52-bit addresses.
    Granule16K52, 2048, 14, true, 0, (7, 5), 2
);
granule!(
    /// 64 KiB, up to 52-bit addresses (OA\[51:48\] in bits 15:12).
    Granule64K, 8192, 16, false, 1, (5, 5), 2
);

/// Bits of a descriptor (D8.3.1, D8.3.2).
pub(crate) mod bits {
    /// Block, and Mali's page.
    pub const BLOCK: u64 = 1;
    /// Page, and table.
    pub const PAGE: u64 = 3;
    /// AttrIndx\[2:0\] starts here in stage 1; MemAttr\[3:0\] in stage 2.
    pub const ATTR_SHIFT: u32 = 2;
    /// NS, stage 1.
    pub const NS: u64 = 1 << 5;
    /// AP\[1\], stage 1: unprivileged too.
    pub const AP_UNPRIV: u64 = 1 << 6;
    /// AP\[2\], stage 1: read-only.
    pub const AP_RDONLY: u64 = 1 << 7;
    /// S2AP\[0\], stage 2: read.
    pub const S2AP_READ: u64 = 1 << 6;
    /// S2AP\[1\], stage 2: write.
    pub const S2AP_WRITE: u64 = 1 << 7;
    /// SH: outer shareable.
    pub const SH_OUTER: u64 = 2 << 8;
    /// SH: inner shareable.
    pub const SH_INNER: u64 = 3 << 8;
    /// Both bits of SH.
    pub const SH: u64 = 3 << 8;
    /// AF.
    pub const AF: u64 = 1 << 10;
    /// nG, stage 1.
    pub const NG: u64 = 1 << 11;
    /// DBM.
    pub const DBM: u64 = 1 << 51;
    /// Contiguous.
    pub const CONTIGUOUS: u64 = 1 << 52;
    /// PXN, stage 1; XN\[0\], stage 2.
    pub const PXN: u64 = 1 << 53;
    /// UXN, stage 1; XN\[1\], stage 2.
    pub const XN: u64 = 1 << 54;
    /// NSTable, stage 1.
    pub const NS_TABLE: u64 = 1 << 63;
}

/// Which bit records writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DirtyBit {
    /// None does.
    None,
    /// Stage 1: DBM, and AP\[2\] clear once written.
    S1,
    /// Stage 2: DBM, and S2AP\[1\] set once written.
    S2,
}

/// What a stage makes of its configuration.
pub(crate) struct Style {
    /// Bits of a block for each combination of [`Prot`]; 0 where nothing is permitted.
    pub attributes: [u64; Prot::COMBINATIONS],
    /// What a page has in addition to a block: bit 1, or nothing (Mali).
    pub page: u64,
    /// The bits of a table descriptor.
    pub table: u64,
    /// Which bit records writes.
    pub dirty: DirtyBit,
}

impl Style {
    /// Fills the attribute table from a function of the permissions.
    pub fn attributes(of: impl Fn(Prot) -> u64) -> [u64; Prot::COMBINATIONS] {
        let mut all = [0; Prot::COMBINATIONS];
        for (bits, slot) in all.iter_mut().enumerate() {
            let prot = Prot::from_bits_truncate(bits as u8);
            if prot.intersects(Prot::READ | Prot::WRITE) {
                *slot = of(prot);
            }
        }
        all
    }
}

/// A long-descriptor format with granule `G`.
pub struct Lpae<G> {
    style: Style,
    granule: PhantomData<G>,
}

impl<G: Granule> Lpae<G> {
    pub(crate) fn new(mut style: Style) -> Self {
        if G::DS {
            // The bits of SH hold address bits; shareability is in the TCR.
            for attributes in &mut style.attributes {
                *attributes &= !bits::SH;
            }
        }
        Self { style, granule: PhantomData }
    }

    /// Bits of a descriptor that hold the address, those that moved included.
    const ADDRESS: u64 = if G::SHIFT == 16 {
        0xffff_ffff_f000
    } else if G::DS {
        ((1 << 50) - (1 << G::SHIFT)) | bits::SH
    } else {
        (1 << 48) - (1 << G::SHIFT)
    };

    /// An address as descriptors hold it.
    #[inline(always)]
    fn encode(pa: u64) -> u64 {
        if G::SHIFT == 16 {
            pa & 0xffff_ffff_0000 | pa >> 36 & 0xf000
        } else if G::DS {
            pa & ((1 << 50) - 1) | pa >> 42 & bits::SH
        } else {
            pa
        }
    }

    /// The address in a word whose other bits are zero.
    #[inline(always)]
    fn decode(word: u64) -> u64 {
        if G::SHIFT == 16 {
            word & !0xf000 | (word & 0xf000) << 36
        } else if G::DS {
            word & !bits::SH | (word & bits::SH) << 42
        } else {
            word
        }
    }
}

impl<G: Granule> Format for Lpae<G> {
    type Words = G::Words;
    const TOP: i8 = G::TOP;
    const LAST: i8 = 3;
    const REPEATS: bool = false;

    #[inline(always)]
    fn shift(level: i8) -> u32 {
        G::SHIFT + (3 - level) as u32 * (G::SHIFT - 3)
    }

    #[inline(always)]
    fn bits(_level: i8) -> u32 {
        G::SHIFT - 3
    }

    #[inline(always)]
    fn run(level: i8) -> u32 {
        if level == 3 {
            G::RUNS.0
        } else if level >= G::RUN_TOP {
            G::RUNS.1
        } else {
            0
        }
    }

    #[inline(always)]
    fn is_linear(end: u64) -> bool {
        if G::SHIFT == 16 {
            end <= 1 << 48
        } else if G::DS {
            end <= 1 << 50
        } else {
            true
        }
    }

    #[inline(always)]
    fn link(&self, pa: u64, _level: i8) -> u64 {
        Self::encode(pa) | self.style.table
    }

    #[inline(always)]
    fn linked(&self, word: u64) -> u64 {
        Self::decode(word.wrapping_sub(self.style.table))
    }

    #[inline(always)]
    fn entry(&self, word: u64, level: i8) -> Entry {
        let address = Self::decode(word & Self::ADDRESS);
        if level == 3 {
            return if word & 3 == bits::BLOCK | self.style.page {
                Entry::Leaf(address)
            } else {
                Entry::Invalid
            };
        }
        match word & 3 {
            bits::PAGE => Entry::Table(address),
            bits::BLOCK => Entry::Leaf(address),
            _ => Entry::Invalid,
        }
    }

    #[inline(always)]
    fn attributes(&self, prot: Prot, level: i8, _run: bool) -> u64 {
        let index = prot.bits() as usize & (Prot::COMBINATIONS - 1);
        let block = self.style.attributes[index];
        if block != 0 && level == 3 { block | self.style.page } else { block }
    }

    #[inline(always)]
    fn leaf(&self, attributes: u64, pa: u64) -> u64 {
        Self::encode(pa) | attributes
    }

    fn reattribute(&self, word: u64, level: i8, to: i8) -> u64 {
        let mut attributes = word & !Self::ADDRESS & !bits::CONTIGUOUS;
        if level == 3 {
            attributes &= !self.style.page;
        }
        if to == 3 { attributes | self.style.page } else { attributes }
    }

    #[inline(always)]
    fn in_run(&self, word: u64, _level: i8) -> bool {
        word & bits::CONTIGUOUS != 0
    }

    #[inline(always)]
    fn with_run(&self, attributes: u64, _level: i8, run: bool) -> u64 {
        if run { attributes | bits::CONTIGUOUS } else { attributes & !bits::CONTIGUOUS }
    }

    fn is_written(&self, word: u64) -> bool {
        // What is writable without DBM was so from the start.
        let writable = match self.style.dirty {
            DirtyBit::None => false,
            DirtyBit::S1 => word & bits::AP_RDONLY == 0,
            DirtyBit::S2 => word & bits::S2AP_WRITE != 0,
        };
        writable && word & bits::DBM != 0
    }

    fn cleaned(&self, word: u64) -> u64 {
        match self.style.dirty {
            DirtyBit::None => word,
            DirtyBit::S1 => word | bits::AP_RDONLY,
            DirtyBit::S2 => word & !bits::S2AP_WRITE,
        }
    }
}
