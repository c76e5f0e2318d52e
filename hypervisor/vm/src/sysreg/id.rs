//! ID registers that tell the truth: what the core has, less what is not passed on.
use palisade_hal::guest;

/// What the virtual platform has beside the core's own features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The GIC CPU interface is in system registers.
    pub gicv3: bool,
    /// Bits of an IPA.
    pub ipa_bits: u8,
}

/// What a vCPU reads in its ID registers: made once when it starts, on its core.
#[derive(Clone, Debug)]
pub struct IdRegisters([u64; 64]);

impl IdRegisters {
    /// Of the calling core.
    pub fn here(features: Features) -> Self {
        Self(core::array::from_fn(|index| {
            let (crm, op2) = ((index >> 3) as u8, index as u8 & 7);
            id_register(crm, op2, guest::id_register(crm, op2), features)
        }))
    }

    /// The register `(3, 0, 0, crm, op2)`, `crm` from 1 to 7.
    fn get(&self, crm: u8, op2: u8) -> u64 {
        self.0[usize::from((crm & 7) << 3 | op2 & 7)]
    }

    /// If `esr` tells of the load of an ID register (ESR_EL2.ISS of class 0x18; DDI 0487, D24.2.37):
    /// the general register that it goes to, 31 is XZR, and what it reads.
    #[inline]
    pub fn answer(&self, esr: u64) -> Option<(usize, u64)> {
        // Op0 21:20, Op1 16:14, CRn 13:10, CRm 4:1 (8 to 15 are none), a load in bit 0.
        const MASK: u64 = 3 << 20 | 7 << 14 | 0xf << 10 | 8 << 1 | 1;
        let (crm, op2) = (esr >> 1 & 7, esr >> 17 & 7);
        let is_one = esr & MASK == 3 << 20 | 1 && crm != 0;
        is_one.then(|| ((esr >> 5 & 0x1f) as usize, self.get(crm as u8, op2 as u8)))
    }
}

/// One four-bit field at bit `shift`.
const fn field(value: u64, shift: u32) -> u64 {
    value >> shift & 0xf
}

/// `value` with the field at `shift` set to `to`.
const fn with(value: u64, shift: u32, to: u64) -> u64 {
    value & !(0xf << shift) | to << shift
}

/// The fields, each by its bit position, that are passed on; all others read 0.
const fn keep(value: u64, fields: &[u32]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < fields.len() {
        mask |= 0xf << fields[index];
        index += 1;
    }
    value & mask
}

/// What a guest reads in the ID register `(3, 0, 0, crm, op2)`, of which the core says `own`.
pub fn id_register(crm: u8, op2: u8, own: u64, features: Features) -> u64 {
    match (crm, op2) {
        // AArch32 at EL0 and the FP/SIMD description: as they are, but no debug, no PMU, no GIC
        // interface for AArch32 (ID_PFR1.GIC 31:28; ID_DFR0 all 0).
        (1, 2) => 0,
        (1, 1) => keep(own, &[0, 4, 8, 16]),
        // ID_PFR0, ID_PFR2, ID_DFR1: no RAS (31:28; fraction 11:8), AMU (23:20), PMU.
        (1, 0) => with(with(own, 28, 0), 20, 0),
        (3, 4) => with(own, 8, 0),
        (3, 5) => 0,
        (1..=3, _) => own,
        (4, 0) => pfr0(own, features),
        // ID_AA64PFR1: BT, SSBS. No MTE, SME, RAS fraction.
        (4, 1) => keep(own, &[0, 4]),
        (5, 0) => dfr0(own),
        // ID_AA64ISAR0: all but TME (27:24).
        (6, 0) => with(own, 24, 0),
        // ID_AA64ISAR1: all but LS64 (63:60).
        (6, 1) => with(own, 60, 0),
        // ID_AA64ISAR2: WFxT, RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB. No MOPS.
        (6, 2) => keep(own, &[0, 4, 8, 12, 20, 24, 28]),
        (7, 0) => mmfr0(own, features),
        // ID_AA64MMFR1: HAFDBS, HPDS, PAN, XNX, ETS, AFP, nTLBPA. No VHE, LORegions, HCRX.
        (7, 1) => keep(own, &[0, 12, 20, 28, 36, 44, 48]),
        // ID_AA64MMFR2: all but NV (27:24), FWB (43:40), EVT (59:56).
        (7, 2) => with(with(with(own, 24, 0), 40, 0), 56, 0),
        // What is not known here needs state or traps that are not here either: SVE, SME, …
        _ => 0,
    }
}

/// ID_AA64PFR0_EL1 (D24.2.75).
const fn pfr0(own: u64, features: Features) -> u64 {
    // EL0, FP, AdvSIMD, DIT, CSV3; EL1 is AArch64 only, EL2 and EL3 are not there; no RAS, SVE,
    // MPAM, AMU, RME.
    let value = keep(own, &[0, 16, 20, 48, 60]);
    let value = with(value, 4, 1);
    let value = with(value, 24, if features.gicv3 { 1 } else { 0 });
    // CSV2_2 would need SCXTNUM_ELx.
    with(value, 56, if field(own, 56) == 0 { 0 } else { 1 })
}

/// ID_AA64DFR0_EL1 (D24.2.59): the core's own debug version, breakpoints (15:12), watchpoints
/// (23:20) and context comparators (31:28), which the vCPU has to itself; no PMU, trace, profiling.
const fn dfr0(own: u64) -> u64 {
    keep(own, &[0, 12, 20, 28])
}

/// ID_AA64MMFR0_EL1 (D24.2.70).
const fn mmfr0(own: u64, features: Features) -> u64 {
    // ASIDBits, BigEnd, SNSMem, BigEndEL0, the three granules of stage 1, ExS.
    let value = keep(own, &[4, 8, 12, 16, 20, 24, 28, 44]);
    // PARange: the least size that holds the IPA space, but no more than the core has.
    let wanted = match features.ipa_bits {
        0..=32 => 0,
        33..=36 => 1,
        37..=40 => 2,
        41..=42 => 3,
        43..=44 => 4,
        _ => 5,
    };
    let has = field(own, 0);
    let range = if has < wanted { has } else { wanted };
    // FEAT_LPA2 (4 KiB granule 1, 16 KiB granule 2) needs 52 bits: plain granules here.
    let value = if field(value, 28) == 1 { with(value, 28, 0) } else { value };
    let value = if field(value, 20) == 2 { with(value, 20, 1) } else { value };
    value | range
}

#[cfg(test)]
mod tests {
    use palisade_hal::fake::guest;

    use super::*;

    const V3: Features = Features { gicv3: true, ipa_bits: 39 };

    #[test]
    fn levels_extensions_and_counters_that_are_not_there_are_not_named() {
        // Everything a core could have.
        let pfr0 = id_register(4, 0, 0x1111_1121_2311_2222, V3);
        assert_eq!(pfr0 >> 8 & 0xff, 0, "no EL2, no EL3");
        assert_eq!(pfr0 >> 4 & 0xf, 1, "EL1 is AArch64 only");
        assert_eq!(pfr0 >> 28 & 0xff, 0, "no RAS, no SVE");
        assert_eq!(pfr0 >> 24 & 0xf, 1, "the GIC interface");
        assert_eq!(id_register(4, 0, !0, Features { gicv3: false, ..V3 }) >> 24 & 0xf, 0);
        let dfr0 = id_register(5, 0, 0x10_3050_10b6_1506, V3);
        assert_eq!(dfr0, 0x10b0_1006, "no PMU, trace or profiling");
        assert_eq!(id_register(4, 4, !0, V3), 0, "no SVE");
        assert_eq!(id_register(1, 2, 0x0301_0066, V3), 0, "nor for AArch32");
        assert_eq!(id_register(3, 5, 0x11, V3), 0, "nor its second register");
        assert_eq!(id_register(1, 0, !0, V3) & 0xf0f0_0000, 0, "RAS and AMU for AArch32");
        assert_eq!(id_register(3, 4, !0, V3) & 0xf00, 0, "RAS fraction");
    }

    /// Each of these would need state or traps that are not here: the controls of EL2 have them
    /// off, so that naming one to a guest would be a lie.
    #[test]
    fn what_the_controls_switch_off_is_not_named() {
        for (crm, op2, shift, name) in [
            (4, 0, 28, "RAS"),
            (4, 0, 32, "SVE"),
            (4, 0, 40, "MPAM"),
            (4, 0, 44, "AMU"),
            (4, 1, 8, "MTE"),
            (4, 1, 16, "MPAM fraction"),
            (4, 1, 24, "SME"),
            (4, 1, 32, "CSV2 fraction"),
            (4, 1, 36, "NMI"),
            (4, 1, 44, "GCS"),
            (5, 0, 4, "trace"),
            (5, 0, 8, "PMU"),
            (5, 0, 32, "SPE"),
            (5, 0, 40, "trace filter"),
            (5, 0, 44, "trace buffer"),
            (5, 0, 52, "branch record"),
            (5, 1, 32, "system PMU"),
            (6, 0, 24, "TME"),
            (6, 1, 60, "LS64"),
            (6, 2, 16, "MOPS"),
            (7, 0, 56, "FGT"),
            (7, 0, 60, "ECV"),
            (7, 1, 8, "VHE"),
            (7, 1, 16, "LOR"),
            (7, 1, 40, "HCX"),
            (7, 2, 24, "NV"),
            (7, 3, 0, "TCR2"),
            (7, 3, 4, "SCTLR2"),
            (7, 3, 8, "S1PIE"),
        ] {
            assert_eq!(id_register(crm, op2, !0, V3) >> shift & 0xf, 0, "{name}");
        }
        assert_eq!(id_register(4, 0, 2 << 56, V3) >> 56 & 0xf, 1, "CSV2_2 has SCXTNUM");
    }

    #[test]
    fn a_vcpu_reads_what_its_core_says_less_what_is_not_passed_on() {
        guest::clear();
        for crm in 1..8 {
            for op2 in 0..8 {
                guest::set_id_register(crm, op2, !u64::from(crm << 3 | op2));
            }
        }
        let table = IdRegisters::here(V3);
        guest::clear();
        for crm in 1..8 {
            for op2 in 0..8 {
                let own = !u64::from(crm << 3 | op2);
                let reads = id_register(crm, op2, own, V3);
                let load = 3 << 20 | u64::from(op2) << 17 | u64::from(crm) << 1 | 7 << 5 | 1;
                assert_eq!(table.answer(load), Some((7, reads)), "{crm} {op2}");
                for other in [1, 1 << 20, 1 << 21, 1 << 14, 1 << 10, 1 << 13, 1 << 4] {
                    assert_eq!(table.answer(load ^ other), None, "{crm} {op2} {other:#x}");
                }
            }
        }
        assert_eq!(table.answer(3 << 20 | 1), None, "MIDR_EL1 and its like do not trap");
    }

    #[test]
    fn the_physical_range_holds_the_ipa_space_and_no_more() {
        assert_eq!(id_register(7, 0, 0x1124, V3) & 0xf, 2);
        assert_eq!(id_register(7, 0, 0x1121, V3) & 0xf, 1);
        // FEAT_LPA2 of the largest core becomes the plain granules.
        let mmfr0 = id_register(7, 0, 0x2222_1112_0000_1126 | 1 << 28 | 2 << 20, V3);
        assert_eq!((mmfr0 >> 28 & 0xf, mmfr0 >> 20 & 0xf), (0, 1));
        assert_eq!(mmfr0 >> 32 & 0xfff, 0, "stage 2 granules");
    }
}
