//! The SMMU that a guest is shown in place of this one (§6.3.1 to §6.3.6).

use palisade_iommu::GuestIdentity;

use crate::features::Features;
use crate::regs::{IDR0, IDR1, IDR3, IDR5};

/// Width of a StreamID that a guest uses: a PCI requester id.
const STREAM_BITS: u32 = 16;
/// log2 of its largest command and event queue: what an exit's share empties, and a page.
const COMMANDS_LOG2: u32 = 8;
const EVENTS_LOG2: u32 = 7;
/// IDR0.TTF: VMSAv8-64 alone.
const AARCH64: u32 = 0b10;
/// IDR0.TTENDIAN: little-endian alone.
const LITTLE: u32 = 0b10;
/// IDR0.STALL_MODEL: faults never stall.
const NO_STALLS: u32 = 0b01;
/// SMMU_AIDR: SMMUv3.2, whose range commands are shown (§6.3.8).
const VERSION: u32 = 0x02;

/// What a guest may know of an SMMU with these features; its addresses have `ipa_bits`.
///
/// Stage 2 and everything that belongs to it is the hypervisor's; so are device TLBs, page requests
/// and stalls, which a guest could leave unanswered. Hardware updates of its tables are not shown
/// yet. Errata are the driver's: IIDR reads zero.
pub(crate) fn shown(features: &Features, ipa_bits: u8) -> GuestIdentity {
    let flag = |set: bool| u32::from(set);
    let idr0 = IDR0::S1P::SET
        + IDR0::TTF.val(AARCH64)
        + IDR0::COHACC.val(flag(features.coherent))
        + IDR0::ASID16.val(flag(features.asid_bits == 16))
        // A message is a word that the hypervisor writes: where it would be seen by the guest's
        // caches, whatever the physical SMMU can do.
        + IDR0::MSI.val(flag(features.coherent))
        + IDR0::CD2L.val(flag(features.two_level_contexts))
        + IDR0::TTENDIAN.val(LITTLE)
        + IDR0::STALL_MODEL.val(NO_STALLS)
        + IDR0::TERM_MODEL.val(flag(features.term_abort_only))
        + IDR0::ST_LEVEL.val(1);
    let idr1 = IDR1::SIDSIZE.val(STREAM_BITS)
        + IDR1::SSIDSIZE.val(u32::from(features.substream_bits))
        + IDR1::EVENTQS.val(EVENTS_LOG2)
        + IDR1::CMDQS.val(COMMANDS_LOG2);
    let idr3 = IDR3::RIL.val(flag(features.ril));
    let idr5 = IDR5::OAS.val(output_size(ipa_bits, features.output_bits))
        + IDR5::GRAN4K::SET
        + IDR5::GRAN16K.val(flag(features.granules & 1 << 14 != 0))
        + IDR5::GRAN64K.val(flag(features.granules & 1 << 16 != 0));
    let features = [idr0.value, idr1.value, 0, idr3.value, 0, idr5.value];
    GuestIdentity { features, version: VERSION }
}

/// IDR5.OAS (§6.3.6) for addresses of `ipa_bits`: the next size there is, at least 40 bits, at
/// most the physical one.
const fn output_size(ipa_bits: u8, physical: u8) -> u32 {
    match if ipa_bits < physical { ipa_bits } else { physical } {
        _ if physical <= 32 => 0,
        _ if physical <= 36 => 1,
        0..=40 => 2,
        41..=42 => 3,
        43..=44 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;

    /// QEMU 10's SMMU, with everything besides that must not be seen.
    #[test]
    fn what_is_the_hypervisors_is_not_shown() {
        let hidden = 1 << 5 | 3 << 6 | 1 << 9 | 1 << 10 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 20;
        let id = IdRegisters {
            idr0: 0x0d44_101b & !(3 << 24) | hidden,
            idr1: 0x0273_0010 | 20 << 6,
            idr3: 0x1404 | 1 << 8 | 1 << 10,
            idr5: 0x74,
        };
        let shown = shown(&Features::new(&id).unwrap(), 39);
        // S1P, TTF = 2, COHACC, ASID16, MSI, TTENDIAN = 2, STALL_MODEL = 1, TERM_MODEL,
        // ST_LEVEL = 1.
        assert_eq!(shown.features[0], 0x0d40_301a, "{:#x}", shown.features[0]);
        assert_eq!(shown.features[1], 0x0107_0510);
        assert_eq!(shown.features[2..5], [0, 1 << 10, 0]);
        assert_eq!(shown.features[5], 0x72);
    }

    #[test]
    fn addresses_are_no_wider_than_either_side() {
        let table = [(39, 48, 2), (40, 40, 2), (42, 48, 3), (44, 48, 4), (48, 44, 4), (48, 52, 5)];
        for (ipa, physical, oas) in table.into_iter().chain([(39, 36, 1), (39, 32, 0)]) {
            assert_eq!(output_size(ipa, physical), oas, "{ipa} {physical}");
        }
    }
}
