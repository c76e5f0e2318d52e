//! Event records (7.3): what they say and how they lie in the queue.

use crate::bits::{bit, field};

/// The event numbers of 7.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// F_UUT (7.3.2).
    UnsupportedTransaction = 0x01,
    /// C_BAD_STREAMID (7.3.3).
    BadStreamId = 0x02,
    /// F_STE_FETCH (7.3.4).
    SteFetch = 0x03,
    /// C_BAD_STE (7.3.5).
    BadSte = 0x04,
    /// F_BAD_ATS_TREQ (7.3.6).
    BadAtsRequest = 0x05,
    /// F_STREAM_DISABLED (7.3.7).
    StreamDisabled = 0x06,
    /// F_TRANSL_FORBIDDEN (7.3.8).
    TranslationForbidden = 0x07,
    /// C_BAD_SUBSTREAMID (7.3.9).
    BadSubstreamId = 0x08,
    /// F_CD_FETCH (7.3.10).
    CdFetch = 0x09,
    /// C_BAD_CD (7.3.11).
    BadCd = 0x0a,
    /// F_WALK_EABT (7.3.12).
    WalkAbort = 0x0b,
    /// F_TRANSLATION (7.3.13).
    Translation = 0x10,
    /// F_ADDR_SIZE (7.3.14).
    AddressSize = 0x11,
    /// F_ACCESS (7.3.15).
    AccessFlag = 0x12,
    /// F_PERMISSION (7.3.16).
    Permission = 0x13,
    /// F_TLB_CONFLICT (7.3.17).
    TlbConflict = 0x20,
    /// F_CFG_CONFLICT (7.3.18).
    ConfigConflict = 0x21,
    /// E_PAGE_REQUEST (7.3.19).
    PageRequest = 0x24,
    /// F_VMS_FETCH (7.3.20).
    VmsFetch = 0x25,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [EventKind; 19] = [
        EventKind::UnsupportedTransaction,
        EventKind::BadStreamId,
        EventKind::SteFetch,
        EventKind::BadSte,
        EventKind::BadAtsRequest,
        EventKind::StreamDisabled,
        EventKind::TranslationForbidden,
        EventKind::BadSubstreamId,
        EventKind::CdFetch,
        EventKind::BadCd,
        EventKind::WalkAbort,
        EventKind::Translation,
        EventKind::AddressSize,
        EventKind::AccessFlag,
        EventKind::Permission,
        EventKind::TlbConflict,
        EventKind::ConfigConflict,
        EventKind::PageRequest,
        EventKind::VmsFetch,
    ];

    /// One of the four that A, R and S govern (5.5).
    pub fn is_translation_related(self) -> bool {
        matches!(
            self,
            EventKind::Translation
                | EventKind::AddressSize
                | EventKind::AccessFlag
                | EventKind::Permission
        )
    }
}

/// What the SMMU was doing when a translation fault arose (7.3, CLASS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 0b00: fetching a CD.
    Cd,
    /// 0b01: fetching a stage 1 descriptor.
    Table,
    /// 0b10: translating the input address.
    Input,
}

/// One event record, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event number.
    pub kind: EventKind,
    /// StreamID.
    pub stream: u32,
    /// SubstreamID, where SSV = 1.
    pub substream: Option<u32>,
    /// S2: the fault arose at stage 2.
    pub stage2: bool,
    /// CLASS.
    pub class: Class,
    /// Stall, with its STAG.
    pub stall: Option<u16>,
    /// RnW.
    pub read: bool,
    /// InD.
    pub instruction: bool,
    /// PnU.
    pub privileged: bool,
    /// TTRnW.
    pub table_read: bool,
    /// InputAddr.
    pub address: u64,
    /// IPA or FetchAddr.
    pub second_address: u64,
}

impl Event {
    /// A record with nothing but kind and stream.
    pub fn new(kind: EventKind, stream: u32, substream: Option<u32>) -> Self {
        Event {
            kind,
            stream,
            substream,
            stage2: false,
            class: Class::Cd,
            stall: None,
            read: false,
            instruction: false,
            privileged: false,
            table_read: false,
            address: 0,
            second_address: 0,
        }
    }

    /// The four doublewords of the record.
    pub fn encode(&self) -> [u64; 4] {
        let mut words = [0u64; 4];
        words[0] = self.kind as u64 | u64::from(self.stream) << 32;
        if let Some(substream) = self.substream {
            words[0] |= 1 << 11 | u64::from(substream & 0xf_ffff) << 12;
        }
        let attributes = u64::from(self.privileged) << 33
            | u64::from(self.instruction) << 34
            | u64::from(self.read) << 35;
        match self.kind {
            EventKind::BadStreamId
            | EventKind::BadSte
            | EventKind::StreamDisabled
            | EventKind::BadSubstreamId
            | EventKind::BadCd
            | EventKind::ConfigConflict => {}
            EventKind::SteFetch | EventKind::CdFetch | EventKind::VmsFetch => {
                words[3] = self.second_address & !7;
            }
            EventKind::UnsupportedTransaction
            | EventKind::BadAtsRequest
            | EventKind::TranslationForbidden => {
                words[1] = attributes;
                words[2] = self.address;
            }
            EventKind::PageRequest => words[2] = self.address & !0xfff,
            EventKind::WalkAbort
            | EventKind::Translation
            | EventKind::AddressSize
            | EventKind::AccessFlag
            | EventKind::Permission
            | EventKind::TlbConflict => {
                let class = match self.class {
                    Class::Cd => 0,
                    Class::Table => 1,
                    Class::Input => 2,
                };
                words[1] = attributes
                    | u64::from(self.stage2) << 39
                    | class << 40
                    | u64::from(self.table_read) << 44;
                if let Some(tag) = self.stall {
                    words[1] |= 1 << 31 | u64::from(tag);
                }
                words[2] = self.address;
                let low = if self.kind == EventKind::WalkAbort { 7 } else { 0xfff };
                words[3] = self.second_address & !low;
            }
        }
        words
    }

    /// Reads a record back, for tests; `None` for an unknown event number.
    pub fn decode(words: [u64; 4]) -> Option<Event> {
        let kind = EventKind::ALL.into_iter().find(|kind| *kind as u64 == words[0] & 0xff)?;
        let mut event = Event::new(kind, (words[0] >> 32) as u32, None);
        if bit(words[0], 11) || kind == EventKind::BadSubstreamId {
            event.substream = Some(field(words[0], 31, 12) as u32);
        }
        event.privileged = bit(words[1], 33);
        event.instruction = bit(words[1], 34);
        event.read = bit(words[1], 35);
        event.stage2 = bit(words[1], 39);
        event.class = match field(words[1], 41, 40) {
            0 => Class::Cd,
            1 => Class::Table,
            _ => Class::Input,
        };
        event.table_read = bit(words[1], 44);
        if bit(words[1], 31) {
            event.stall = Some(words[1] as u16);
        }
        event.address = words[2];
        event.second_address = words[3];
        Some(event)
    }
}
