//! Stage 1, 64 and 32 bits (DDI 0487, D8.3.1).

use palisade_hal::PhysAddr;

use super::lpae::{DirtyBit, Style, bits};
use crate::config::{Config, Quirks};
use crate::geometry::{Geometry, size_code};
use crate::prot::Prot;
use crate::regs::Stage1Regs;

/// What stage 1 knows.
pub(crate) const QUIRKS: Quirks = Quirks::NS
    .union(Quirks::TTBR1)
    .union(Quirks::OUTER_WBWA)
    .union(Quirks::HD)
    .union(Quirks::NO_WARN);

/// Memory types by AttrIndx (MAIR_EL1): 0 non-cacheable, 1 write-back
/// read/write-allocate, 2 Device-nGnRE, 3 inner non-cacheable outer write-back.
pub(crate) const MAIR: u64 = 0xf404_ff44;

/// AttrIndx of these permissions.
pub(crate) fn attr_index(prot: Prot) -> u64 {
    let index = if prot.contains(Prot::DEVICE) {
        2
    } else if prot.contains(Prot::CACHE) {
        1
    } else {
        0
    };
    index << bits::ATTR_SHIFT
}

fn block(quirks: Quirks, prot: Prot) -> u64 {
    let mut word = bits::BLOCK | bits::NG | bits::AF | attr_index(prot);
    if !prot.contains(Prot::WRITE) {
        word |= bits::AP_RDONLY;
    } else if quirks.contains(Quirks::HD) {
        word |= bits::DBM;
    }
    if !prot.contains(Prot::PRIV) {
        word |= bits::AP_UNPRIV;
    }
    word |= if prot.contains(Prot::CACHE) { bits::SH_INNER } else { bits::SH_OUTER };
    if quirks.contains(Quirks::NS) {
        word |= bits::NS;
    }
    if !prot.contains(Prot::EXEC) {
        word |= bits::XN | bits::PXN;
    }
    word
}

/// The bits of stage 1's descriptors.
pub(crate) fn style(config: &Config) -> Style {
    let quirks = config.quirks;
    let ns = if quirks.contains(Quirks::NS) { bits::NS_TABLE } else { 0 };
    Style {
        attributes: Style::attributes(|prot| block(quirks, prot)),
        page: bits::PAGE & !bits::BLOCK,
        table: bits::PAGE | ns,
        dirty: if quirks.contains(Quirks::HD) { DirtyBit::S1 } else { DirtyBit::None },
    }
}

/// The registers of a stage-1 table (TCR_EL1, D24.2.211).
pub(crate) fn registers(config: &Config, shape: &Geometry, root: PhysAddr) -> Stage1Regs {
    let outer = config.coherent_walk || config.quirks.contains(Quirks::OUTER_WBWA);
    let ttbr1 = config.quirks.contains(Quirks::TTBR1);
    Stage1Regs {
        ttbr: root,
        tsz: 64 - shape.ias,
        tg: if ttbr1 { shape.tg1() } else { shape.tg0() },
        sh: if config.coherent_walk { 3 } else { 2 },
        irgn: u8::from(config.coherent_walk),
        orgn: u8::from(outer),
        ips: size_code(shape.oas).unwrap_or(0),
        mair: MAIR,
        ttbr1,
        ds: config.lpa2,
    }
}
