//! Stream table entries (5.2) and level 1 descriptors (5.1), and when they are ILLEGAL.

use crate::bits::{bit, field, mask, ones};
use crate::driver_fault::DriverFault;
use crate::features::{Features, StallModel, address_bits};

/// STE.S1DSS (5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultSubstream {
    Terminate,
    Bypass,
    Zero,
}

/// What stage 2 needs for a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage2 {
    pub vmid: u16,
    pub granule: u32,
    pub input_bits: u32,
    pub start_level: u32,
    pub table: u64,
    pub output_bits: u32,
    pub ignore_access_flag: bool,
    pub protect_walks: bool,
    pub update_access_flag: bool,
    pub update_dirty: bool,
    pub force_write_back: bool,
    pub record: bool,
    pub stall: bool,
}

/// How an STE locates CDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contexts {
    /// log2 of the CDs of a second-level table; `None` for a linear table.
    pub leaf_log2: Option<u32>,
    pub table: u64,
    /// log2 of the number of CDs; 0 without substreams.
    pub log2: u32,
    pub default: DefaultSubstream,
    pub stall_disabled: bool,
    pub el2: bool,
}

/// STE.EATS, after all that makes it ineffective but ATSCHK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ats {
    Off,
    Full,
    Split,
}

/// A valid STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ste {
    /// Config[2]: traffic can pass.
    pub pass: bool,
    pub stage1: Option<Contexts>,
    pub stage2: Option<Stage2>,
    pub vmid: u16,
    pub ats: Ats,
    pub merge_events: bool,
    pub response_pasid: bool,
}

/// Reads an STE; the error says why it is ILLEGAL (C_BAD_STE).
pub(crate) fn parse(
    raw: &[u64; 8],
    features: &Features,
    faults: &mut Vec<DriverFault>,
) -> Result<Ste, &'static str> {
    if !bit(raw[0], 0) {
        return Err("V = 0");
    }
    let config = field(raw[0], 3, 1);
    let mut ste = Ste {
        pass: config & 4 != 0,
        stage1: None,
        stage2: None,
        vmid: field(raw[2], 15, 0) as u16,
        ats: Ats::Off,
        merge_events: bit(raw[1], 19),
        response_pasid: bit(raw[1], 18),
    };
    if !ste.pass {
        return Ok(ste);
    }
    check_reserved(raw, faults);
    if config & 1 != 0 {
        if !features.stage1 {
            return Err("stage 1 is not implemented");
        }
        ste.stage1 = Some(contexts(raw, config, features, faults)?);
    }
    if config & 2 != 0 {
        if !features.stage2 {
            return Err("stage 2 is not implemented");
        }
        ste.stage2 = Some(stage2(raw, features, faults)?);
    }
    if config & 3 != 0 && features.stage2 && !features.vmid16 && ste.vmid > 0xff {
        return Err("S2VMID has more than 8 bits");
    }
    if features.ats && config & 3 != 0 {
        let stalls = ste.stage2.is_some() && bit(raw[2], 57);
        ste.ats = match field(raw[1], 29, 28) {
            1 if stalls => return Err("EATS = 1 with S2S = 1"),
            1 => Ats::Full,
            2 if config != 7 => return Err("EATS = 2 without both stages"),
            2 if bit(raw[2], 57) => return Err("EATS = 2 with S2S = 1"),
            2 if !features.split_ats => return Err("EATS = 2 without split-stage ATS"),
            2 => Ats::Split,
            _ => Ats::Off,
        };
    }
    Ok(ste)
}

fn check_reserved(raw: &[u64; 8], faults: &mut Vec<DriverFault>) {
    let reserved = [
        (raw[0], mask(58, 56)),
        (raw[1], mask(43, 41)),
        (raw[3], mask(63, 52) | mask(3, 0)),
        (raw[4], mask(63, 0)),
        (raw[5], mask(63, 0)),
        (raw[6], mask(63, 0)),
        (raw[7], mask(63, 0)),
    ];
    for (word, mask) in reserved {
        if word & mask != 0 {
            faults.push(DriverFault::Res0 { what: "STE", bits: word & mask });
        }
    }
}

fn contexts(
    raw: &[u64; 8],
    config: u64,
    features: &Features,
    faults: &mut Vec<DriverFault>,
) -> Result<Contexts, &'static str> {
    let log2 = if features.ssid_bits == 0 { 0 } else { field(raw[0], 63, 59) as u32 };
    if log2 > features.ssid_bits {
        return Err("S1CDMax above SSIDSIZE");
    }
    let format = if log2 == 0 { 0 } else { field(raw[0], 5, 4) };
    if format != 0 && !features.two_level_contexts {
        return Err("two-level CD table without CD2L");
    }
    let leaf_log2 = match format {
        1 => Some(6),
        2 => Some(10),
        _ => None,
    };
    let table = raw[0] & mask(55, 6);
    if config == 5 && table >> features.oas != 0 {
        faults.push(DriverFault::OutOfRange { what: "S1ContextPtr", address: table });
    }
    // The table is aligned to its size; lower bits are taken as zero (5.2, S1ContextPtr).
    let size = match leaf_log2 {
        None => 64u64 << log2,
        Some(leaf) => (8u64 << log2.saturating_sub(leaf)).max(64),
    };
    if table & (size - 1) != 0 {
        faults.push(DriverFault::MisalignedBase {
            what: "S1ContextPtr",
            address: table,
            alignment: size,
        });
    }
    let el2 = match field(raw[1], 31, 30) {
        _ if config != 5 || !features.hyp => false,
        0 => false,
        2 => true,
        _ => return Err("STRW reserved"),
    };
    let stall_disabled = bit(raw[1], 27);
    if stall_disabled && features.stall != StallModel::Both {
        return Err("S1STALLD without a configurable stall model");
    }
    let default = match field(raw[1], 1, 0) {
        1 => DefaultSubstream::Bypass,
        2 => DefaultSubstream::Zero,
        _ => DefaultSubstream::Terminate,
    };
    Ok(Contexts { leaf_log2, table: table & !(size - 1), log2, default, stall_disabled, el2 })
}

fn stage2(
    raw: &[u64; 8],
    features: &Features,
    faults: &mut Vec<DriverFault>,
) -> Result<Stage2, &'static str> {
    if !bit(raw[2], 51) {
        return Err("S2AA64 = 0 without VMSAv8-32");
    }
    if bit(raw[2], 52) {
        return Err("S2ENDI is big-endian");
    }
    let granule = match field(raw[2], 47, 46) {
        0 => 12,
        1 => 16,
        2 => 14,
        _ => return Err("S2TG reserved"),
    };
    if !features.has_granule(granule) {
        return Err("S2TG is not implemented");
    }
    let tsz = field(raw[2], 37, 32) as u32;
    if tsz > 39 || tsz < 16.max(64 - features.oas) {
        return Err("S2T0SZ out of range");
    }
    let input_bits = 64 - tsz;
    let start_level = match (granule, field(raw[2], 39, 38)) {
        (12, 0) => 2,
        (12, 1) => 1,
        (12, 2) if features.oas >= 44 => 0,
        (14 | 16, 0) => 3,
        (14 | 16, 1) => 2,
        (14, 2) => 1,
        (16, 2) if features.oas >= 44 => 1,
        _ => return Err("S2SL0 reserved"),
    };
    // The first table resolves between 1 and 4 bits more than a whole one.
    let stride = granule - 3;
    let shift = granule + stride * (3 - start_level);
    if input_bits <= shift || input_bits > shift + stride + 4 {
        return Err("S2SL0 inconsistent with S2T0SZ");
    }
    let output_bits = address_bits(field(raw[2], 50, 48)).min(features.oas);
    let table = raw[3] & mask(51, 4);
    if table >> output_bits != 0 {
        return Err("S2TTB outside S2PS");
    }
    let alignment = (8u64 << (input_bits - shift)).max(16);
    if table & (alignment - 1) != 0 {
        faults.push(DriverFault::MisalignedBase { what: "S2TTB", address: table, alignment });
    }
    let (dirty, access) = (bit(raw[2], 55), bit(raw[2], 56));
    if access && features.httu == 0 || dirty && features.httu < 2 {
        return Err("S2HA or S2HD without HTTU");
    }
    let stall = bit(raw[2], 57);
    match features.stall {
        StallModel::TerminateOnly if stall => return Err("S2S without the stall model"),
        StallModel::StallOnly if !stall => return Err("S2S = 0 where stalls are forced"),
        _ => {}
    }
    let force_write_back = bit(raw[1], 25);
    if force_write_back && !features.fwb {
        faults.push(DriverFault::Res0 { what: "STE.S2FWB", bits: 1 << 25 });
    }
    if field(raw[2], 31, 16) != 0 {
        faults.push(DriverFault::Res0 { what: "STE", bits: field(raw[2], 31, 16) });
    }
    if raw[2] & mask(63, 60) != 0 {
        faults.push(DriverFault::Res0 { what: "STE", bits: raw[2] & mask(63, 60) });
    }
    Ok(Stage2 {
        vmid: field(raw[2], 15, 0) as u16,
        granule,
        input_bits,
        start_level,
        table: table & !(alignment - 1),
        output_bits,
        ignore_access_flag: bit(raw[2], 53),
        protect_walks: bit(raw[2], 54),
        update_access_flag: access,
        update_dirty: dirty && access,
        force_write_back: force_write_back && features.fwb,
        record: bit(raw[2], 58),
        stall,
    })
}

/// What a level 1 stream table descriptor spans (5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamTable {
    pub table: u64,
    pub log2: u32,
}

/// Reads a level 1 descriptor; `None` where no stream beneath it is valid.
pub(crate) fn level1(
    raw: u64,
    split: u32,
    features: &Features,
    faults: &mut Vec<DriverFault>,
) -> Option<StreamTable> {
    let span = field(raw, 4, 0) as u32;
    if span == 0 {
        return None;
    }
    if span > split + 1 {
        faults.push(DriverFault::Reserved { what: "L1STD.Span", value: u64::from(span) });
        return None;
    }
    let log2 = span - 1;
    let table = raw & mask(55, 6);
    let size = 64u64 << log2;
    if table & ones(log2 + 6) != 0 {
        faults.push(DriverFault::MisalignedBase {
            what: "L1STD.L2Ptr",
            address: table,
            alignment: size,
        });
    }
    if table >> features.oas != 0 {
        faults.push(DriverFault::OutOfRange { what: "L1STD.L2Ptr", address: table });
    }
    Some(StreamTable { table: table & !(size - 1), log2 })
}
