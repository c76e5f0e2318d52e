//! Stage 2, 64 and 32 bits (DDI 0487, D8.3.2): the CPU's view and an IOMMU's.

use palisade_hal::PhysAddr;

use super::lpae::{DirtyBit, Style, bits};
use crate::config::{Config, Quirks, View};
use crate::geometry::{Geometry, size_code};
use crate::prot::Prot;
use crate::regs::Stage2Regs;

/// What stage 2 knows.
pub(crate) const QUIRKS: Quirks = Quirks::S2FWB.union(Quirks::NO_WARN);

/// S2AP of these permissions (D8.4.2).
pub(crate) fn access(prot: Prot) -> u64 {
    let mut word = 0;
    if prot.contains(Prot::READ) {
        word |= bits::S2AP_READ;
    }
    if prot.contains(Prot::WRITE) {
        word |= bits::S2AP_WRITE;
    }
    word
}

fn block(config: &Config, prot: Prot) -> u64 {
    // MemAttr[3:0] (D8.6.6): Device-nGnRE, non-cacheable, write-back.
    let memory = if prot.contains(Prot::DEVICE) {
        0x1
    } else if !prot.contains(Prot::CACHE) {
        0x5
    } else if config.quirks.contains(Quirks::S2FWB) {
        0x6
    } else {
        0xf
    };
    let mut word = bits::BLOCK | bits::AF | access(prot) | memory << bits::ATTR_SHIFT;
    word |= if prot.contains(Prot::CACHE) { bits::SH_INNER } else { bits::SH_OUTER };
    if config.s2_dirty && prot.contains(Prot::WRITE) {
        word |= bits::DBM;
    }
    if !prot.contains(Prot::EXEC) {
        word |= match config.view {
            // XN[1:0] = 0b10: never executable. 0b11 would be executable at EL1 (D8.4.2).
            View::Cpu { .. } => bits::XN,
            View::Iommu => bits::XN | bits::PXN,
        };
    }
    word
}

/// The bits of stage 2's descriptors.
pub(crate) fn style(config: &Config) -> Style {
    Style {
        attributes: Style::attributes(|prot| block(config, prot)),
        page: bits::PAGE & !bits::BLOCK,
        table: bits::PAGE,
        dirty: if config.s2_dirty { DirtyBit::S2 } else { DirtyBit::None },
    }
}

/// The registers of a stage-2 table (VTCR_EL2, D24.2.224).
pub(crate) fn registers(config: &Config, shape: &Geometry, root: PhysAddr) -> Stage2Regs {
    let (sl0, sl2) = shape.start_code();
    let mut regs = Stage2Regs {
        vttbr_baddr: root,
        t0sz: 64 - shape.ias,
        sl0,
        sl2,
        irgn: u8::from(config.coherent_walk),
        orgn: u8::from(config.coherent_walk),
        sh: if config.coherent_walk { 3 } else { 2 },
        tg: shape.tg0(),
        ps: size_code(shape.oas).unwrap_or(0),
        ds: config.lpa2,
        hd: config.s2_dirty,
        vtcr: 0,
    };
    let mut vtcr = u64::from(regs.packed()) | u64::from(regs.ds) << 32 | u64::from(sl2) << 33;
    if regs.hd {
        vtcr |= 1 << 21 | 1 << 22;
    }
    if let View::Cpu { vmid16, .. } = config.view {
        vtcr |= 1 << 31 | u64::from(vmid16) << 19;
    }
    regs.vtcr = vtcr;
    regs
}
