//! ID registers that tell the truth: what the core has, less what is not passed on.

/// What the virtual platform has beside the core's own features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The GIC CPU interface is in system registers.
    pub gicv3: bool,
    /// Bits of an IPA.
    pub ipa_bits: u8,
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
