//! Mali's long descriptors: pages have type 1 and no access flag, permissions are
//! those of stage 2 and memory types those of stage 1; always four levels.

use palisade_hal::PhysAddr;

use super::lpae::{DirtyBit, Style, bits};
use super::{lpae_s1, lpae_s2};
use crate::config::{Config, SIZES_4K};
use crate::error::ConfigError;
use crate::geometry::{Geometry, at_most};
use crate::prot::Prot;
use crate::regs::MaliRegs;

/// TRANSTAB: a table, read through the inner caches.
const TRANSTAB_TABLE: u64 = 3 | 1 << 2;
/// TRANSTAB: the table is outer shareable.
const TRANSTAB_SHARE_OUTER: u64 = 1 << 4;
/// MEMATTR by AttrIndx: 0x88 the GPU's default, 0x8d write-allocate, 0x88.
const MEMATTR: u64 = 0x88_8d88;

/// The shape: the 4 KiB granule, at most 48 bits in and 40 out, root at level 0.
pub(crate) fn shape(config: &Config, mut shape: Geometry) -> Result<Geometry, ConfigError> {
    at_most(config, 48, 40)?;
    if shape.granule != 12 {
        return Err(ConfigError::PageSizes(config.format, config.pgsize_bitmap));
    }
    if config.contiguous || config.s2_dirty {
        return Err(ConfigError::Option(config.format));
    }
    shape.start = 0;
    shape.roots = 1;
    shape.sizes = SIZES_4K & config.pgsize_bitmap;
    Ok(shape)
}

fn block(prot: Prot) -> u64 {
    let mut word = bits::BLOCK | bits::SH_OUTER | lpae_s2::access(prot) | lpae_s1::attr_index(prot);
    if !prot.contains(Prot::EXEC) {
        word |= bits::XN | bits::PXN;
    }
    word
}

/// The bits of Mali's descriptors.
pub(crate) fn style() -> Style {
    Style {
        attributes: Style::attributes(block),
        page: 0,
        table: bits::PAGE,
        dirty: DirtyBit::None,
    }
}

/// TRANSTAB and MEMATTR.
pub(crate) fn registers(config: &Config, root: PhysAddr) -> MaliRegs {
    let share = if config.coherent_walk { TRANSTAB_SHARE_OUTER } else { 0 };
    MaliRegs { transtab: root.get() | TRANSTAB_TABLE | share, memattr: MEMATTR }
}
