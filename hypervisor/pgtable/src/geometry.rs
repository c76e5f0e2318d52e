//! One derivation of levels, roots and sizes; the registers and the walker both
//! start from it, so that they cannot disagree.

use crate::config::{Config, FormatId, Quirks, View};
use crate::error::ConfigError;

/// Shape of an LPAE table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// log2 of the granule.
    pub granule: u32,
    /// Input address bits.
    pub ias: u8,
    /// Output address bits.
    pub oas: u8,
    /// Level of the root, −1 to 3.
    pub start: i8,
    /// Number of concatenated root tables, 1 to 16.
    pub roots: usize,
    /// Supported page sizes.
    pub sizes: u64,
}

/// Stage, for the rules that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    One,
    Two,
}

impl Geometry {
    /// The shape for `config` (DDI 0487, D8.2: translation granules and start levels).
    ///
    /// # Errors
    /// Sizes that the format or the granule does not have.
    pub fn derive(config: &Config, stage: Stage) -> Result<Self, ConfigError> {
        let format = config.format;
        let granule = match config.pgsize_bitmap & (1 << 12 | 1 << 14 | 1 << 16) {
            0 => return Err(ConfigError::PageSizes(format, config.pgsize_bitmap)),
            sizes => sizes.trailing_zeros(),
        };
        if config.lpa2 && granule == 16 {
            return Err(ConfigError::Option(format));
        }
        let most = if granule == 16 || config.lpa2 { 52 } else { 48 };
        if !(25..=52).contains(&config.ias) {
            return Err(ConfigError::InputSize(format, config.ias));
        }
        let ias = config.ias.min(most);
        let oas = config.oas.min(most);
        size_code(oas)
            .filter(|_| config.oas <= 52)
            .ok_or(ConfigError::OutputSize(format, config.oas))?;

        let step = granule - 3;
        let levels = (u32::from(ias) - granule).div_ceil(step);
        let mut start = 4 - levels as i8;
        let mut roots = 1;
        if stage == Stage::Two {
            let decides = match config.view {
                View::Cpu { pa_bits, .. } => pa_bits.min(most),
                View::Iommu => oas,
            };
            if !start_allowed(granule, start, decides, config.lpa2) {
                start += 1;
                let covered = granule + (4 - start as u32) * step;
                roots = 1usize << u32::from(ias).saturating_sub(covered);
            }
            if roots > 16 {
                return Err(ConfigError::InputSize(format, config.ias));
            }
        }

        let mut sizes = match granule {
            12 => 1 << 12 | 1 << 21 | 1 << 30,
            14 => 1 << 14 | 1 << 25,
            _ => 1 << 16 | 1 << 29,
        };
        if config.lpa2 {
            sizes |= if granule == 12 { 1 << 39 } else { 1 << 36 };
        }
        if granule == 16 && oas > 48 {
            sizes |= 1 << 42;
        }
        // A block size only where asked for, and where a table of its level exists.
        let largest = granule + (3 - start.max(0) as u32) * step;
        sizes &= config.pgsize_bitmap & ((2u64 << largest) - 1);
        Ok(Self { granule, ias, oas, start, roots, sizes })
    }

    /// TG0 of VTCR_EL2 and TCR_EL1 (D24.2.224): 4 KiB 0, 64 KiB 1, 16 KiB 2.
    pub fn tg0(&self) -> u8 {
        match self.granule {
            12 => 0,
            14 => 2,
            _ => 1,
        }
    }

    /// TG1 of TCR_EL1 (D24.2.211): 16 KiB 1, 4 KiB 2, 64 KiB 3.
    pub fn tg1(&self) -> u8 {
        match self.granule {
            12 => 2,
            14 => 1,
            _ => 3,
        }
    }

    /// SL0 and SL2 of VTCR_EL2 (D24.2.224).
    pub fn start_code(&self) -> (u8, bool) {
        match (self.granule, self.start) {
            (12, -1) => (0, true),
            (12, start) => ((2 - start).rem_euclid(4) as u8, false),
            (_, start) => ((3 - start) as u8, false),
        }
    }
}

/// Whether stage 2 may start at `start` on a machine with that many address bits
/// (D8.2: concatenated translation tables).
fn start_allowed(granule: u32, start: i8, bits: u8, lpa2: bool) -> bool {
    match (granule, start) {
        (12, -1) => lpa2 && bits >= 52,
        (12, 0) => bits >= 44,
        (14, 0) => lpa2 && bits >= 52,
        (14, 1) => bits >= 42,
        (16, 1) => bits >= 44,
        _ => true,
    }
}

/// PS, IPS: the code of an output address size (D24.2.224), `None` for others.
pub(crate) fn size_code(bits: u8) -> Option<u8> {
    Some(match bits {
        32 => 0,
        36 => 1,
        40 => 2,
        42 => 3,
        44 => 4,
        48 => 5,
        52 => 6,
        _ => return None,
    })
}

/// Refuses quirks outside `known`.
pub(crate) fn only_quirks(config: &Config, known: Quirks) -> Result<(), ConfigError> {
    if known.contains(config.quirks) {
        Ok(())
    } else {
        Err(ConfigError::Quirks(config.format, config.quirks.difference(known)))
    }
}

/// Refuses a 32-bit or Mali configuration beyond its limits.
pub(crate) fn at_most(config: &Config, ias: u8, oas: u8) -> Result<(), ConfigError> {
    let format: FormatId = config.format;
    if config.ias > ias {
        return Err(ConfigError::InputSize(format, config.ias));
    }
    if config.oas > oas {
        return Err(ConfigError::OutputSize(format, config.oas));
    }
    if config.lpa2 {
        return Err(ConfigError::Option(format));
    }
    Ok(())
}
