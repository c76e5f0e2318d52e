//! The shapes of tables that are asked about: for each granule every level that a walk may start
//! at, every block size, every number of concatenated roots (2, 4, 8, 16).

use palisade_pgtable::{Config, FormatId, Quirks, SIZES_4K, SIZES_16K, SIZES_64K, View};

/// The block of level 0 that the 4 KiB granule has with FEAT_LPA2.
const BLOCK_512G: u64 = 1 << 39;
/// The block of level 1 that the 16 KiB granule has with FEAT_LPA2.
const BLOCK_64G: u64 = 1 << 36;

/// Shapes that share one line of the result.
pub struct Group {
    /// Granule, addresses, stage.
    pub name: &'static str,
    /// One table each.
    pub shapes: &'static [Config],
}

/// The CPU's stage 2. `decides`: the physical address size in bits by which the start level is
/// chosen; less than the CPU has makes roots concatenate, which the CPU allows as well.
const fn stage2(sizes: u64, ias: u8, oas: u8, decides: u8) -> Config {
    let mut config = Config::new(FormatId::Arm64LpaeS2);
    config.pgsize_bitmap = sizes;
    config.ias = ias;
    config.oas = oas;
    config.view = View::Cpu { pa_bits: decides, vmid16: false };
    config
}

const fn stage1(sizes: u64, ias: u8, oas: u8) -> Config {
    let mut config = Config::new(FormatId::Arm64LpaeS1);
    config.pgsize_bitmap = sizes;
    config.ias = ias;
    config.oas = oas;
    config
}

const fn upper(mut config: Config) -> Config {
    config.quirks = Quirks::TTBR1;
    config
}

const fn runs(mut config: Config) -> Config {
    config.contiguous = true;
    config
}

const fn wide(mut config: Config) -> Config {
    config.lpa2 = true;
    config.pgsize_bitmap |=
        if config.pgsize_bitmap & 1 << 12 != 0 { BLOCK_512G } else { BLOCK_64G };
    config
}

/// Tables as an IOMMU has them: the same to the walker.
const fn iommu(mut config: Config) -> Config {
    config.view = View::Iommu;
    config
}

/// For CPUs with 48 bits.
pub const NARROW: &[Group] = &[
    Group {
        name: "4K stage 2",
        shapes: &[
            stage2(SIZES_4K, 30, 32, 48),
            stage2(SIZES_4K, 36, 40, 48),
            stage2(SIZES_4K, 39, 44, 48),
            stage2(SIZES_4K, 48, 48, 48),
            runs(stage2(SIZES_4K, 48, 48, 48)),
            iommu(stage2(SIZES_4K, 44, 44, 0)),
            stage2(SIZES_4K, 40, 40, 40),
            stage2(SIZES_4K, 41, 42, 42),
            stage2(SIZES_4K, 42, 42, 42),
            stage2(SIZES_4K, 43, 44, 43),
        ],
    },
    Group {
        name: "16K stage 2",
        shapes: &[
            stage2(SIZES_16K, 25, 32, 48),
            stage2(SIZES_16K, 36, 40, 48),
            stage2(SIZES_16K, 42, 42, 48),
            stage2(SIZES_16K, 47, 48, 48),
            runs(stage2(SIZES_16K, 47, 48, 48)),
            stage2(SIZES_16K, 48, 48, 48),
            stage2(SIZES_16K, 37, 40, 40),
            stage2(SIZES_16K, 38, 40, 40),
            stage2(SIZES_16K, 39, 40, 40),
            iommu(stage2(SIZES_16K, 40, 40, 0)),
        ],
    },
    Group {
        name: "64K stage 2",
        shapes: &[
            stage2(SIZES_64K, 29, 32, 48),
            stage2(SIZES_64K, 36, 40, 48),
            stage2(SIZES_64K, 42, 42, 48),
            stage2(SIZES_64K, 44, 44, 48),
            stage2(SIZES_64K, 48, 48, 48),
            runs(stage2(SIZES_64K, 48, 48, 48)),
            stage2(SIZES_64K, 43, 44, 42),
            stage2(SIZES_64K, 44, 44, 42),
            stage2(SIZES_64K, 45, 48, 42),
            iommu(stage2(SIZES_64K, 46, 42, 0)),
        ],
    },
    Group {
        name: "4K stage 1",
        shapes: &[
            stage1(SIZES_4K, 30, 40),
            stage1(SIZES_4K, 39, 48),
            stage1(SIZES_4K, 48, 48),
            upper(stage1(SIZES_4K, 48, 48)),
            upper(runs(stage1(SIZES_4K, 39, 44))),
        ],
    },
    Group {
        name: "16K stage 1",
        shapes: &[
            stage1(SIZES_16K, 25, 40),
            stage1(SIZES_16K, 36, 48),
            stage1(SIZES_16K, 47, 48),
            stage1(SIZES_16K, 48, 48),
            upper(stage1(SIZES_16K, 47, 44)),
        ],
    },
    Group {
        name: "64K stage 1",
        shapes: &[
            stage1(SIZES_64K, 29, 40),
            stage1(SIZES_64K, 42, 48),
            stage1(SIZES_64K, 48, 48),
            upper(stage1(SIZES_64K, 42, 44)),
            upper(runs(stage1(SIZES_64K, 48, 48))),
        ],
    },
];

/// For CPUs with FEAT_LPA2 and 52 bits.
pub const WIDE: &[Group] = &[
    Group {
        name: "4K LPA2 stage 2",
        shapes: &[
            wide(stage2(SIZES_4K, 30, 40, 52)),
            wide(stage2(SIZES_4K, 39, 48, 52)),
            wide(stage2(SIZES_4K, 48, 52, 52)),
            wide(stage2(SIZES_4K, 49, 52, 52)),
            wide(stage2(SIZES_4K, 52, 52, 52)),
            wide(runs(stage2(SIZES_4K, 52, 52, 52))),
            wide(iommu(stage2(SIZES_4K, 49, 48, 0))),
            wide(stage2(SIZES_4K, 50, 52, 48)),
            wide(stage2(SIZES_4K, 51, 52, 48)),
            wide(stage2(SIZES_4K, 52, 52, 48)),
        ],
    },
    Group {
        name: "16K LPA2 stage 2",
        shapes: &[
            wide(stage2(SIZES_16K, 25, 40, 52)),
            wide(stage2(SIZES_16K, 36, 48, 52)),
            wide(stage2(SIZES_16K, 47, 52, 52)),
            wide(stage2(SIZES_16K, 48, 52, 52)),
            wide(stage2(SIZES_16K, 52, 52, 52)),
            wide(runs(stage2(SIZES_16K, 52, 52, 52))),
            wide(stage2(SIZES_16K, 48, 52, 48)),
            wide(stage2(SIZES_16K, 49, 52, 48)),
            wide(stage2(SIZES_16K, 50, 52, 48)),
            wide(iommu(stage2(SIZES_16K, 51, 48, 0))),
        ],
    },
    Group {
        name: "64K 52-bit stage 2",
        shapes: &[
            stage2(SIZES_64K, 29, 52, 52),
            stage2(SIZES_64K, 42, 52, 52),
            stage2(SIZES_64K, 48, 52, 52),
            stage2(SIZES_64K, 52, 52, 52),
            runs(stage2(SIZES_64K, 52, 52, 52)),
            stage2(SIZES_64K, 43, 52, 42),
            stage2(SIZES_64K, 44, 52, 42),
            stage2(SIZES_64K, 45, 52, 42),
            stage2(SIZES_64K, 46, 52, 42),
        ],
    },
    Group {
        name: "4K LPA2 stage 1",
        shapes: &[
            wide(stage1(SIZES_4K, 48, 52)),
            wide(stage1(SIZES_4K, 49, 52)),
            wide(stage1(SIZES_4K, 52, 52)),
            wide(upper(stage1(SIZES_4K, 52, 52))),
        ],
    },
    Group {
        name: "16K LPA2 stage 1",
        shapes: &[
            wide(stage1(SIZES_16K, 47, 52)),
            wide(stage1(SIZES_16K, 52, 52)),
            wide(upper(stage1(SIZES_16K, 52, 52))),
        ],
    },
    Group {
        name: "64K 52-bit stage 1",
        shapes: &[
            stage1(SIZES_64K, 48, 52),
            stage1(SIZES_64K, 52, 52),
            upper(stage1(SIZES_64K, 52, 52)),
        ],
    },
];
