//! What a caller asks for: format, sizes, quirks and policies.

use bitflags::bitflags;

/// The formats, by the number that indexes the registry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum FormatId {
    /// VMSAv8-32 long descriptors, stage 1 (DDI 0487, G5.5).
    Arm32LpaeS1 = 0,
    /// VMSAv8-32 long descriptors, stage 2 (G5.5).
    Arm32LpaeS2 = 1,
    /// VMSAv8-64, stage 1 (D8.3).
    Arm64LpaeS1 = 2,
    /// VMSAv8-64, stage 2 (D8.3).
    Arm64LpaeS2 = 3,
    /// ARMv7 short descriptors (G5.4), with MediaTek's extension.
    ArmV7s = 4,
    /// The Mali GPUs' variant of long descriptors.
    ArmMaliLpae = 5,
}

impl FormatId {
    /// How many formats there are.
    pub const COUNT: usize = 6;
    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Arm32LpaeS1,
        Self::Arm32LpaeS2,
        Self::Arm64LpaeS1,
        Self::Arm64LpaeS2,
        Self::ArmV7s,
        Self::ArmMaliLpae,
    ];

    /// The name used in messages, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm32LpaeS1 => "arm-32-lpae-s1",
            Self::Arm32LpaeS2 => "arm-32-lpae-s2",
            Self::Arm64LpaeS1 => "arm-64-lpae-s1",
            Self::Arm64LpaeS2 => "arm-64-lpae-s2",
            Self::ArmV7s => "arm-v7s",
            Self::ArmMaliLpae => "arm-mali-lpae",
        }
    }
}

bitflags! {
    /// Deviations from a format's plain form. A quirk that the format does not
    /// know is an error.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Quirks: u32 {
        /// Entries and tables are non-secure: stage 1 and v7s.
        const NS = 1 << 0;
        /// v7s: no access permissions and no XN in the entries.
        const NO_PERMS = 1 << 1;
        /// v7s: MediaTek's 35-bit physical addresses; needs `NO_PERMS`.
        const MTK_EXT = 1 << 3;
        /// v7s: MediaTek's tables above 4 GiB; needs `MTK_EXT`.
        const MTK_TTBR_EXT = 1 << 4;
        /// Stage 1: the table serves the upper half of the address space (TTBR1).
        const TTBR1 = 1 << 5;
        /// Stage 1: walks are outer write-back write-allocate; non-coherent walks only.
        const OUTER_WBWA = 1 << 6;
        /// Stage 1: hardware-managed dirty state (DBM).
        const HD = 1 << 7;
        /// Stage 2: MemAttr has the meaning of FEAT_S2FWB.
        const S2FWB = 1 << 8;
        /// LPAE: expected failures are not logged.
        const NO_WARN = 1 << 9;
    }
}

/// Who walks a stage-2 table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum View {
    /// An IOMMU: nothing executes, both XN bits are set.
    #[default]
    Iommu,
    /// The CPU's stage 2: XN alone in bit 54 (FEAT_XNX), VTCR_EL2's RES1 bit set,
    /// the start level decided by the implemented physical address size.
    Cpu {
        /// Implemented physical address size in bits (ID_AA64MMFR0_EL1.PARange).
        pa_bits: u8,
        /// VMIDs have 16 bits (VTCR_EL2.VS).
        vmid16: bool,
    },
}

/// What an operation does that would touch part of a block, or of a run of
/// entries with the contiguous hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SplitPolicy {
    /// It is an error and nothing changes.
    #[default]
    Refuse,
    /// Break before make: clear, invalidate and wait, then write the smaller pieces
    /// (DDI 0487, D8.17.1). Accesses in between fault.
    BreakBeforeMake,
    /// Replace in place, then invalidate: where FEAT_BBML2 (or SMMU_IDR3.BBML = 2) says so.
    InPlace,
}

/// What a table shall be. Start from [`Config::new`] and set what differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Which format.
    pub format: FormatId,
    /// Deviations from its plain form.
    pub quirks: Quirks,
    /// Page sizes that may be used, one bit per size in bytes. The smallest of
    /// 4 KiB, 16 KiB and 64 KiB in it is the granule; what the format does not
    /// have is masked out, and read back from the table.
    pub pgsize_bitmap: u64,
    /// Input address size in bits.
    pub ias: u8,
    /// Output address size in bits.
    pub oas: u8,
    /// Whether the walker snoops the CPU's caches; else every store is cleaned.
    pub coherent_walk: bool,
    /// Who walks a stage-2 table.
    pub view: View,
    /// What to do about parts of blocks.
    pub split: SplitPolicy,
    /// Set the contiguous hint where a run of entries allows it (LPAE, 64-bit).
    pub contiguous: bool,
    /// Stage 2: hardware-managed dirty state (VTCR_EL2.HD, STE.S2HD).
    pub s2_dirty: bool,
    /// 52-bit descriptors for the 4 KiB and 16 KiB granules (FEAT_LPA2).
    pub lpa2: bool,
}

/// 4 KiB and its blocks of 2 MiB and 1 GiB.
pub const SIZES_4K: u64 = 1 << 12 | 1 << 21 | 1 << 30;
/// 16 KiB and its block of 32 MiB.
pub const SIZES_16K: u64 = 1 << 14 | 1 << 25;
/// 64 KiB and its blocks of 512 MiB and 4 TiB.
pub const SIZES_64K: u64 = 1 << 16 | 1 << 29 | 1 << 42;

impl Config {
    /// `format` with 48-bit addresses (as far as it has them), all sizes of the
    /// 4 KiB granule, coherent walks, no quirks, and the strictest policies.
    pub const fn new(format: FormatId) -> Self {
        let (ias, oas, sizes) = match format {
            FormatId::Arm64LpaeS1 | FormatId::Arm64LpaeS2 => (48, 48, SIZES_4K | 1 << 39),
            FormatId::Arm32LpaeS1 => (32, 40, SIZES_4K),
            FormatId::Arm32LpaeS2 => (40, 40, SIZES_4K),
            FormatId::ArmMaliLpae => (48, 40, SIZES_4K),
            FormatId::ArmV7s => (32, 32, 1 << 12 | 1 << 16 | 1 << 20 | 1 << 24),
        };
        Self {
            format,
            quirks: Quirks::empty(),
            pgsize_bitmap: sizes,
            ias,
            oas,
            coherent_walk: true,
            view: View::Iommu,
            split: SplitPolicy::Refuse,
            contiguous: false,
            s2_dirty: false,
            lpa2: false,
        }
    }

    /// The CPU's stage 2 with the 4 KiB granule: `ias` bits of IPA on a machine
    /// with `pa_bits` bits of physical address.
    pub const fn cpu_stage2(ias: u8, pa_bits: u8, vmid16: bool) -> Self {
        let mut config = Self::new(FormatId::Arm64LpaeS2);
        config.ias = ias;
        config.oas = pa_bits;
        config.view = View::Cpu { pa_bits, vmid16 };
        config
    }

    /// Whether hardware records writes in these tables.
    pub const fn tracks_dirty(&self) -> bool {
        match self.format {
            FormatId::Arm64LpaeS1 | FormatId::Arm32LpaeS1 => self.quirks.contains(Quirks::HD),
            FormatId::Arm64LpaeS2 => self.s2_dirty,
            _ => false,
        }
    }

    /// An IOMMU's stage 2 with the 4 KiB granule.
    pub const fn iommu_stage2(ias: u8, oas: u8, coherent_walk: bool) -> Self {
        let mut config = Self::new(FormatId::Arm64LpaeS2);
        config.ias = ias;
        config.oas = oas;
        config.coherent_walk = coherent_walk;
        config
    }
}
