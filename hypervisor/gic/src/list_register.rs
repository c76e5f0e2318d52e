//! List registers: the interrupts that a guest's CPU interface sees.
//!
//! One value for both generations; the drivers pack it as `ICH_LR<n>_EL2` (IHI 0069, 12.4.8) or
//! `GICH_LR<n>` (IHI 0048, 5.3.11).

/// State of the interrupt in a list register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LrState {
    /// The register is free.
    #[default]
    Invalid,
    /// Waiting for the guest's acknowledge.
    Pending,
    /// Acknowledged and not yet deactivated.
    Active,
    /// Active, and pending once more.
    PendingActive,
}

impl LrState {
    /// The state with these two bits.
    pub const fn new(pending: bool, active: bool) -> Self {
        match (pending, active) {
            (false, false) => Self::Invalid,
            (true, false) => Self::Pending,
            (false, true) => Self::Active,
            (true, true) => Self::PendingActive,
        }
    }

    /// The two-bit encoding, the same in both generations: bit 0 pending, bit 1 active.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Invalid => 0,
            Self::Pending => 1,
            Self::Active => 2,
            Self::PendingActive => 3,
        }
    }

    /// Reads the two-bit encoding; higher bits are ignored.
    pub const fn from_bits(bits: u32) -> Self {
        Self::new(bits & 1 != 0, bits & 2 != 0)
    }

    /// Whether the interrupt waits for an acknowledge.
    pub const fn pending(self) -> bool {
        self.bits() & 1 != 0
    }

    /// Whether the interrupt is active.
    pub const fn active(self) -> bool {
        self.bits() & 2 != 0
    }
}

/// One list register. Aligned so that a copy is three loads and stores where they must be aligned.
#[repr(align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRegister {
    /// The number the guest sees.
    pub intid: u32,
    /// Its priority; the hardware may keep the upper five bits only.
    pub priority: u8,
    /// Group 1 (else group 0).
    pub group1: bool,
    /// Where it stands.
    pub state: LrState,
    /// The physical interrupt that the guest's deactivation deactivates too.
    pub hardware: Option<u32>,
    /// Ask for a maintenance interrupt when the guest ends it. Software interrupts only.
    pub eoi_maintenance: bool,
    /// GICv2: the core that sent a software-generated interrupt.
    pub source: u8,
}

impl ListRegister {
    /// Packs as `ICH_LR<n>_EL2` (IHI 0069, 12.4.8).
    pub const fn to_v3(self) -> u64 {
        if matches!(self.state, LrState::Invalid) {
            return 0;
        }
        let mut lr = self.intid as u64
            | (self.priority as u64) << 48
            | (self.group1 as u64) << 60
            | (self.state.bits() as u64) << 62;
        match self.hardware {
            Some(pintid) => lr |= 1 << 61 | ((pintid & 0x1fff) as u64) << 32,
            None => lr |= (self.eoi_maintenance as u64) << 41,
        }
        lr
    }

    /// Unpacks `ICH_LR<n>_EL2`.
    pub const fn from_v3(lr: u64) -> Self {
        let hardware = lr >> 61 & 1 != 0;
        Self {
            intid: lr as u32,
            priority: (lr >> 48) as u8,
            group1: lr >> 60 & 1 != 0,
            state: LrState::from_bits((lr >> 62) as u32),
            hardware: if hardware { Some((lr >> 32) as u32 & 0x1fff) } else { None },
            eoi_maintenance: !hardware && lr >> 41 & 1 != 0,
            source: 0,
        }
    }

    /// Packs as `GICH_LR<n>` (IHI 0048, 5.3.11): priority 27:23, state 29:28, group 30, HW 31.
    pub const fn to_v2(self) -> u32 {
        if matches!(self.state, LrState::Invalid) {
            return 0;
        }
        let mut lr = (self.intid & 0x3ff)
            | (self.priority as u32 >> 3) << 23
            | self.state.bits() << 28
            | (self.group1 as u32) << 30;
        match self.hardware {
            Some(pintid) => lr |= 1 << 31 | (pintid & 0x3ff) << 10,
            None => lr |= (self.source as u32 & 7) << 10 | (self.eoi_maintenance as u32) << 19,
        }
        lr
    }

    /// Unpacks `GICH_LR<n>`.
    pub const fn from_v2(lr: u32) -> Self {
        let hardware = lr >> 31 != 0;
        Self {
            intid: lr & 0x3ff,
            priority: ((lr >> 23 & 0x1f) << 3) as u8,
            group1: lr >> 30 & 1 != 0,
            state: LrState::from_bits(lr >> 28),
            hardware: if hardware { Some(lr >> 10 & 0x3ff) } else { None },
            eoi_maintenance: !hardware && lr >> 19 & 1 != 0,
            source: if hardware { 0 } else { (lr >> 10 & 7) as u8 },
        }
    }
}

/// When the virtual interface asks for the hypervisor (ICH_HCR_EL2, IHI 0069 12.4.5; GICH_HCR,
/// IHI 0048 5.3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaintenanceControl {
    /// The virtual interface is on.
    pub enable: bool,
    /// Ask when no list register is pending (NPIE): more interrupts wait than there were
    /// registers.
    pub no_pending: bool,
    /// Ask when the guest ends an interrupt that no list register holds (LRENPIE): active
    /// interrupts were moved out.
    pub not_present: bool,
}

impl MaintenanceControl {
    /// The register's bits, the same in both generations; EOIcount is written as zero.
    pub const fn bits(self) -> u32 {
        self.enable as u32 | (self.not_present as u32) << 2 | (self.no_pending as u32) << 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_packs_to_golden_words_and_back() {
        let soft = ListRegister {
            intid: 33,
            priority: 0xa0,
            group1: true,
            state: LrState::Pending,
            eoi_maintenance: true,
            ..ListRegister::default()
        };
        assert_eq!(soft.to_v3(), 0x50a0_0200_0000_0021);
        assert_eq!(ListRegister::from_v3(soft.to_v3()), soft);
        let hard = ListRegister {
            hardware: Some(27),
            eoi_maintenance: false,
            state: LrState::Active,
            intid: 27,
            ..soft
        };
        assert_eq!(hard.to_v3(), 0xb0a0_001b_0000_001b);
        assert_eq!(ListRegister::from_v3(hard.to_v3()), hard);
    }

    #[test]
    fn v2_packs_to_golden_words_and_back() {
        let sgi = ListRegister {
            intid: 3,
            priority: 0xa0,
            state: LrState::Pending,
            source: 2,
            ..ListRegister::default()
        };
        assert_eq!(sgi.to_v2(), 0x1a00_0803);
        assert_eq!(ListRegister::from_v2(sgi.to_v2()), sgi);
        let hard = ListRegister {
            intid: 27,
            hardware: Some(27),
            group1: true,
            state: LrState::PendingActive,
            priority: 0x80,
            ..ListRegister::default()
        };
        assert_eq!(hard.to_v2(), 0xf800_6c1b);
        assert_eq!(ListRegister::from_v2(hard.to_v2()), hard);
    }

    #[test]
    fn an_invalid_register_is_all_zero() {
        let lr = ListRegister { intid: 40, priority: 1, ..ListRegister::default() };
        assert_eq!((lr.to_v3(), lr.to_v2()), (0, 0));
    }
}
