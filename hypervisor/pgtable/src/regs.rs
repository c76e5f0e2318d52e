//! What the hardware's registers must hold for a table.

use palisade_hal::PhysAddr;

/// Stage 1 (DDI 0487, TCR_EL1, D24.2.211; MAIR_EL1; IHI 0070, CD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage1Regs {
    /// Address of the root.
    pub ttbr: PhysAddr,
    /// 64 − input address size.
    pub tsz: u8,
    /// Granule as TG0 encodes it, or as TG1 does for a TTBR1 table.
    pub tg: u8,
    /// Shareability of walks: 2 outer, 3 inner.
    pub sh: u8,
    /// Inner cacheability of walks: 0 non-cacheable, 1 write-back.
    pub irgn: u8,
    /// Outer cacheability of walks.
    pub orgn: u8,
    /// Output address size (IPS): 0 to 6.
    pub ips: u8,
    /// Memory types that AttrIndx selects from.
    pub mair: u64,
    /// Whether the table belongs in TTBR1.
    pub ttbr1: bool,
    /// Descriptors are in the 52-bit form of FEAT_LPA2 (TCR.DS).
    pub ds: bool,
}

impl Stage1Regs {
    /// T0SZ, IRGN0, ORGN0, SH0 and TG0 as TCR_EL1 has them in bits 15:0.
    pub const fn tcr_low(&self) -> u64 {
        self.tsz as u64
            | (self.irgn as u64) << 8
            | (self.orgn as u64) << 10
            | (self.sh as u64) << 12
            | (self.tg as u64) << 14
    }

    /// TCR_EL1 for this table alone: its own half, IPS, DS, and walks of the other
    /// half disabled (EPD).
    pub const fn tcr(&self) -> u64 {
        let low = self.tcr_low();
        let own = if self.ttbr1 { low << 16 | 1 << 7 } else { low | 1 << 23 };
        own | (self.ips as u64) << 32 | (self.ds as u64) << 59
    }
}

/// Stage 2 (DDI 0487, VTCR_EL2, D24.2.224; IHI 0070, STE.S2*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stage2Regs {
    /// Address of the (first) root table.
    pub vttbr_baddr: PhysAddr,
    /// 64 − input address size.
    pub t0sz: u8,
    /// Start level as SL0 encodes it for the granule.
    pub sl0: u8,
    /// Start level, upper bit (VTCR_EL2.SL2, STE.S2SL0_2); LPA2 only.
    pub sl2: bool,
    /// Inner cacheability of walks: 0 non-cacheable, 1 write-back.
    pub irgn: u8,
    /// Outer cacheability of walks.
    pub orgn: u8,
    /// Shareability of walks: 2 outer, 3 inner.
    pub sh: u8,
    /// Granule: 0 is 4 KiB, 1 is 64 KiB, 2 is 16 KiB.
    pub tg: u8,
    /// Output address size: 0 to 6.
    pub ps: u8,
    /// Descriptors are in the 52-bit form of FEAT_LPA2 (VTCR_EL2.DS, STE.S2DS).
    pub ds: bool,
    /// Hardware updates of access flag and dirty state (HA, HD).
    pub hd: bool,
    /// The whole of VTCR_EL2, for the CPU's view; equal to [`Self::packed`] and
    /// the LPA2 and dirty bits otherwise.
    pub vtcr: u64,
}

impl Stage2Regs {
    /// Bits 18:0 of VTCR_EL2, which are also STE.S2VTCR's bits in the same order.
    pub const fn packed(&self) -> u32 {
        self.t0sz as u32
            | (self.sl0 as u32) << 6
            | (self.irgn as u32) << 8
            | (self.orgn as u32) << 10
            | (self.sh as u32) << 12
            | (self.tg as u32) << 14
            | (self.ps as u32) << 16
    }
}

/// ARMv7 short descriptors (G8.2: TTBR0, TTBCR, PRRR, NMRR).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V7sRegs {
    /// TTBR0 with its attribute bits.
    pub ttbr: u32,
    /// TTBCR.
    pub tcr: u32,
    /// NMRR.
    pub nmrr: u32,
    /// PRRR.
    pub prrr: u32,
}

/// Mali's address-space registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaliRegs {
    /// TRANSTAB: root and mode.
    pub transtab: u64,
    /// MEMATTR.
    pub memattr: u64,
}

/// The registers of a table, by kind of format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registers {
    /// LPAE, stage 1.
    Stage1(Stage1Regs),
    /// LPAE, stage 2.
    Stage2(Stage2Regs),
    /// v7s.
    V7s(V7sRegs),
    /// Mali.
    Mali(MaliRegs),
}

impl Registers {
    /// The stage-1 values, if it is one.
    pub const fn stage1(&self) -> Option<&Stage1Regs> {
        match self {
            Self::Stage1(regs) => Some(regs),
            _ => None,
        }
    }

    /// The stage-2 values, if it is one.
    pub const fn stage2(&self) -> Option<&Stage2Regs> {
        match self {
            Self::Stage2(regs) => Some(regs),
            _ => None,
        }
    }
}
