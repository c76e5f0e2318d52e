//! Event records to typed faults (§7.3).

use palisade_hal::{StreamId, SubstreamId};
use palisade_iommu::{Access, FaultClass, FaultKind, FaultRecord};

use crate::spec::EventRecord;

/// CLASS encodings (§7.3.13).
const CLASS_CD: u64 = 0b00;
const CLASS_TT: u64 = 0b01;
const CLASS_IN: u64 = 0b10;

/// Decodes one record. Fields that its kind does not have read as zero, false or absent.
pub fn decode(record: &EventRecord) -> FaultRecord {
    let words = &record.0;
    let flag = |field: crate::spec::Field| field.get(words) == 1;
    let kind = FaultKind::from_number(EventRecord::NUMBER.get(words) as u8);
    let substream = SubstreamId::new(EventRecord::SUBSTREAM_ID.get(words) as u32);
    // C_BAD_SUBSTREAMID has no SSV: its SubstreamID is always valid (§7.3.9). F_STREAM_DISABLED
    // has none at all (§7.3.7).
    let has_substream = match kind {
        FaultKind::BadSubstreamId => true,
        FaultKind::StreamDisabled => false,
        _ => flag(EventRecord::SSV),
    };
    let access = kind.is_access() || has_access(kind);
    let stalls = matches!(
        kind,
        FaultKind::Translation
            | FaultKind::AddrSize
            | FaultKind::AccessFlag
            | FaultKind::Permission
    );
    let stage2 = kind.is_access() && flag(EventRecord::S2);
    FaultRecord {
        kind,
        stream: StreamId::new(EventRecord::STREAM_ID.get(words) as u32),
        substream: has_substream.then_some(substream),
        access: Access {
            write: access && !flag(EventRecord::RNW),
            execute: access && flag(EventRecord::IND),
            privileged: access && flag(EventRecord::PNU),
        },
        class: match EventRecord::CLASS.get(words) {
            _ if !kind.is_access() => FaultClass::None,
            CLASS_CD => FaultClass::Context,
            CLASS_TT => FaultClass::Table,
            CLASS_IN => FaultClass::Input,
            _ => FaultClass::None,
        },
        stage2,
        stall: (stalls && flag(EventRecord::STALL)).then(|| EventRecord::STAG.get(words) as u16),
        address: if has_address(kind) { EventRecord::INPUT_ADDR.get(words) } else { 0 },
        ipa: if stage2 && stalls { EventRecord::IPA.get_address(words) } else { 0 },
        raw: *words,
    }
}

/// Kinds beyond the translation faults that carry RnW, InD and PnU.
fn has_access(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::UnsupportedUpstream | FaultKind::TranslForbidden | FaultKind::TlbConflict
    )
}

/// Kinds whose words 2 hold the transaction's address.
fn has_address(kind: FaultKind) -> bool {
    kind.is_access()
        || has_access(kind)
        || matches!(kind, FaultKind::BadAtsTreq | FaultKind::CfgConflict | FaultKind::PageRequest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word0(number: u64, stream: u64) -> u64 {
        stream << 32 | number
    }

    /// A write without translation at stage 2 (§7.3.13), as QEMU's model records it.
    #[test]
    fn translation_fault_of_stage_2() {
        let record =
            EventRecord([word0(0x10, 0x0008), 1 << 39 | 0b10 << 40, 0x4000_1004, 0x4000_1000]);
        let fault = decode(&record);
        assert_eq!(fault.kind, FaultKind::Translation);
        assert_eq!(fault.stream, StreamId::new(8));
        assert_eq!(fault.substream, None);
        assert!(fault.access.write && !fault.access.execute && !fault.access.privileged);
        assert_eq!(fault.class, FaultClass::Input);
        assert!(fault.stage2);
        assert_eq!((fault.address, fault.ipa), (0x4000_1004, 0x4000_1000));
        assert_eq!(fault.stall, None);
        assert_eq!(fault.raw, record.0);
    }

    #[test]
    fn stalled_privileged_read_of_a_substream() {
        let record = EventRecord([
            word0(0x13, 0xffff_fff0) | 1 << 11 | 0xabcde << 12,
            0xbeef | 1 << 31 | 1 << 33 | 1 << 35 | 0b10 << 40,
            0x1234_5678_9abc,
            0xffff_ffff_ffff_f000,
        ]);
        let fault = decode(&record);
        assert_eq!(fault.kind, FaultKind::Permission);
        assert_eq!(fault.substream, Some(SubstreamId::new(0xabcde)));
        assert_eq!(fault.stall, Some(0xbeef));
        assert!(!fault.access.write && fault.access.privileged);
        // The IPA of a stage 1 fault is UNKNOWN and never shown.
        assert_eq!(fault.ipa, 0);
    }

    #[test]
    fn configuration_errors_have_neither_access_nor_address() {
        for number in [0x02, 0x03, 0x04, 0x06, 0x09, 0x0a, 0x25] {
            let fault = decode(&EventRecord([word0(number, 1), u64::MAX, u64::MAX, u64::MAX]));
            assert_eq!(fault.kind as u64, number);
            assert_eq!((fault.address, fault.ipa, fault.stall), (0, 0, None));
            assert!(!fault.access.write && !fault.stage2);
            assert_eq!(fault.class, FaultClass::None);
        }
        let bad = decode(&EventRecord([word0(0x08, 1) | 5 << 12, 0, 0, 0]));
        assert_eq!(bad.substream, Some(SubstreamId::new(5)));
    }

    /// Every number decodes to something, and nothing of any record panics.
    #[test]
    fn every_number_decodes() {
        for number in 0..=255u64 {
            for fill in [0, u64::MAX] {
                let fault = decode(&EventRecord([fill & !0xff | number, fill, fill, fill]));
                let known = FaultKind::from_number(number as u8);
                assert_eq!(fault.kind, known);
            }
        }
    }
}
