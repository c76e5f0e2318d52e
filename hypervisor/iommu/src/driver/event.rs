//! Fault records in typed form.

use arrayvec::ArrayVec;
use palisade_hal::{StreamId, SubstreamId};

/// Kind of an event, named as in IHI 0070 §7.3; the value is the event's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultKind {
    /// Unsupported upstream transaction.
    UnsupportedUpstream = 0x01,
    /// StreamID out of range.
    BadStreamId = 0x02,
    /// Stream table entry fetch aborted.
    SteFetch = 0x03,
    /// Invalid stream table entry.
    BadSte = 0x04,
    /// ATS translation request refused.
    BadAtsTreq = 0x05,
    /// A stream that aborts was used.
    StreamDisabled = 0x06,
    /// Translation request by a transaction marked translated.
    TranslForbidden = 0x07,
    /// Substream out of range or not allowed.
    BadSubstreamId = 0x08,
    /// Context descriptor fetch aborted.
    CdFetch = 0x09,
    /// Invalid context descriptor.
    BadCd = 0x0a,
    /// External abort in a table walk.
    WalkEabt = 0x0b,
    /// No translation.
    Translation = 0x10,
    /// Address outside the output size.
    AddrSize = 0x11,
    /// Access flag clear.
    AccessFlag = 0x12,
    /// Permission refused.
    Permission = 0x13,
    /// TLB conflict.
    TlbConflict = 0x20,
    /// Configuration cache conflict.
    CfgConflict = 0x21,
    /// Speculative request for a page.
    PageRequest = 0x24,
    /// VMS fetch aborted.
    VmsFetch = 0x25,
    /// A number that the manual does not define.
    Unknown = 0xff,
}

impl FaultKind {
    /// Decodes an event number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0x01 => Self::UnsupportedUpstream,
            0x02 => Self::BadStreamId,
            0x03 => Self::SteFetch,
            0x04 => Self::BadSte,
            0x05 => Self::BadAtsTreq,
            0x06 => Self::StreamDisabled,
            0x07 => Self::TranslForbidden,
            0x08 => Self::BadSubstreamId,
            0x09 => Self::CdFetch,
            0x0a => Self::BadCd,
            0x0b => Self::WalkEabt,
            0x10 => Self::Translation,
            0x11 => Self::AddrSize,
            0x12 => Self::AccessFlag,
            0x13 => Self::Permission,
            0x20 => Self::TlbConflict,
            0x21 => Self::CfgConflict,
            0x24 => Self::PageRequest,
            0x25 => Self::VmsFetch,
            _ => Self::Unknown,
        }
    }

    /// The manual's name of the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnsupportedUpstream => "F_UUT",
            Self::BadStreamId => "C_BAD_STREAMID",
            Self::SteFetch => "F_STE_FETCH",
            Self::BadSte => "C_BAD_STE",
            Self::BadAtsTreq => "F_BAD_ATS_TREQ",
            Self::StreamDisabled => "F_STREAM_DISABLED",
            Self::TranslForbidden => "F_TRANSL_FORBIDDEN",
            Self::BadSubstreamId => "C_BAD_SUBSTREAMID",
            Self::CdFetch => "F_CD_FETCH",
            Self::BadCd => "C_BAD_CD",
            Self::WalkEabt => "F_WALK_EABT",
            Self::Translation => "F_TRANSLATION",
            Self::AddrSize => "F_ADDR_SIZE",
            Self::AccessFlag => "F_ACCESS",
            Self::Permission => "F_PERMISSION",
            Self::TlbConflict => "F_TLB_CONFLICT",
            Self::CfgConflict => "F_CFG_CONFLICT",
            Self::PageRequest => "E_PAGE_REQUEST",
            Self::VmsFetch => "F_VMS_FETCH",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The event describes one access (F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION,
    /// F_WALK_EABT): its address fields are valid.
    pub const fn is_access(self) -> bool {
        matches!(
            self,
            Self::Translation
                | Self::AddrSize
                | Self::AccessFlag
                | Self::Permission
                | Self::WalkEabt
        )
    }
}

/// What the faulting transaction wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A write.
    pub write: bool,
    /// An instruction fetch.
    pub execute: bool,
    /// Privileged.
    pub privileged: bool,
}

impl Access {
    /// The word that reports use: `read`, `write` or `execute`.
    pub const fn name(self) -> &'static str {
        match self {
            Self { write: true, .. } => "write",
            Self { execute: true, .. } => "execute",
            _ => "read",
        }
    }
}

/// What was being accessed when the fault happened (the CLASS field).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// The context descriptor.
    Context,
    /// A table entry of stage 1.
    Table,
    /// The transaction's own address.
    Input,
    /// Not given for this kind.
    None,
}

/// One decoded record of the event queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Kind.
    pub kind: FaultKind,
    /// Stream.
    pub stream: StreamId,
    /// Substream, if the transaction named one.
    pub substream: Option<SubstreamId>,
    /// Access, where the kind has one.
    pub access: Access,
    /// Class, where the kind has one.
    pub class: FaultClass,
    /// The fault arose in stage 2.
    pub stage2: bool,
    /// Tag to answer with [`resume`](super::IommuDriver::resume), if the transaction stalls.
    pub stall: Option<u16>,
    /// Input address, where the kind has one.
    pub address: u64,
    /// IPA of a stage 2 fault.
    pub ipa: u64,
    /// The record as the hardware wrote it.
    pub raw: [u64; 4],
}

/// Answer to a stalled transaction (IHI 0070 §4.6, CMD_RESUME).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// Translate it again.
    Retry,
    /// Terminate it with an abort.
    Abort,
    /// Terminate it silently, reads as zero (only where the hardware offers it, else abort).
    Terminate,
}

/// Streams of one drain that went over their budgets.
pub const STORMS: usize = 16;

/// What [`drain_events`](super::IommuDriver::drain_events) found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records delivered.
    pub records: usize,
    /// The queue overflowed since the last call: records were lost.
    pub overflowed: bool,
    /// The budget ended before the queue did: call again.
    pub more: bool,
    /// Streams that went over their budgets: each is here once, and its further records are
    /// dropped, until its budget is [renewed](super::IommuDriver::renew_budget). One that finds
    /// no room here is here after a later record of its own.
    pub storms: ArrayVec<StreamId, STORMS>,
}
