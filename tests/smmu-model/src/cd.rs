//! Context descriptors (5.4) and level 1 descriptors (5.3), and when they are ILLEGAL.

use crate::bits::{bit, field, mask};
use crate::driver_fault::DriverFault;
use crate::features::{Features, StallModel, address_bits};

/// One of the two VA regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub input_bits: u32,
    pub granule: u32,
    pub table: u64,
    pub start_level: u32,
    pub ignore_top_byte: bool,
    pub no_hierarchy: bool,
}

/// A valid CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cd {
    /// TTB0 and TTB1; `None` where EPDx = 1.
    pub regions: [Option<Region>; 2],
    pub asid: u16,
    pub output_bits: u32,
    pub ignore_access_flag: bool,
    pub update_access_flag: bool,
    pub update_dirty: bool,
    pub write_execute_never: bool,
    pub privileged_access_never: bool,
    pub abort: bool,
    pub record: bool,
    pub stall: bool,
}

/// Reads a CD reached through an STE with `stall_disabled` (S1STALLD) and `el2` (STRW).
/// The error says why it is ILLEGAL (C_BAD_CD).
pub(crate) fn parse(
    raw: &[u64; 8],
    stall_disabled: bool,
    el2: bool,
    features: &Features,
    faults: &mut Vec<DriverFault>,
) -> Result<Cd, &'static str> {
    let word = raw[0];
    if !bit(word, 31) {
        return Err("V = 0");
    }
    if !bit(word, 41) {
        return Err("AA64 = 0 without VMSAv8-32");
    }
    let disabled = [!el2 && bit(word, 14), el2 || bit(word, 30)];
    if disabled != [true, true] && bit(word, 15) {
        return Err("ENDI is big-endian");
    }
    let (dirty, access) = (bit(word, 42), bit(word, 43));
    if access && features.httu == 0 || dirty && features.httu < 2 {
        return Err("HA or HD without HTTU");
    }
    let (stall, record, abort) = (bit(word, 44), bit(word, 45), bit(word, 46));
    if features.terminate_aborts && !abort {
        return Err("A = 0 where termination always aborts");
    }
    match features.stall {
        StallModel::Both if stall && stall_disabled => return Err("S = 1 with S1STALLD = 1"),
        StallModel::TerminateOnly if stall => return Err("S = 1 without the stall model"),
        StallModel::StallOnly if !stall => return Err("S = 0 where stalls are forced"),
        _ => {}
    }
    let asid = field(word, 63, 48) as u16;
    if !el2 && !features.asid16 && asid > 0xff {
        return Err("ASID has more than 8 bits");
    }
    let output_bits = address_bits(field(word, 34, 32)).min(features.oas);
    let granules = [
        match field(word, 7, 6) {
            0 => Some(12),
            1 => Some(16),
            2 => Some(14),
            _ => None,
        },
        match field(word, 23, 22) {
            1 => Some(14),
            2 => Some(12),
            3 => Some(16),
            _ => None,
        },
    ];
    let mut regions = [None; 2];
    for (i, region) in regions.iter_mut().enumerate() {
        if disabled[i] {
            continue;
        }
        let tsz = if i == 0 { field(word, 5, 0) } else { field(word, 21, 16) } as u32;
        if !(16..=39).contains(&tsz) {
            return Err("TxSZ out of range");
        }
        let granule = granules[i].filter(|granule| features.has_granule(*granule));
        let granule = granule.ok_or("TGx reserved or not implemented")?;
        let ttb = raw[1 + i];
        let table = ttb & mask(51, 4);
        if table >> output_bits != 0 {
            return Err("TTBx outside IPS");
        }
        let input_bits = 64 - tsz;
        let stride = granule - 3;
        let start_level = 4 - (input_bits - granule).div_ceil(stride);
        let shift = granule + stride * (3 - start_level);
        let alignment = (8u64 << (input_bits - shift)).max(16);
        if table & (alignment - 1) != 0 {
            faults.push(DriverFault::MisalignedBase { what: "TTBx", address: table, alignment });
        }
        if ttb & mask(57, 52) != 0 {
            faults.push(DriverFault::Res0 { what: "CD.TTBx", bits: ttb & mask(57, 52) });
        }
        *region = Some(Region {
            input_bits,
            granule,
            table: table & !(alignment - 1),
            start_level,
            ignore_top_byte: bit(word, 38 + i as u32),
            no_hierarchy: bit(ttb, 1),
        });
    }
    for word in raw.iter().skip(6).filter(|word| **word != 0) {
        faults.push(DriverFault::Res0 { what: "CD", bits: *word });
    }
    Ok(Cd {
        regions,
        asid,
        output_bits,
        ignore_access_flag: bit(word, 35),
        update_access_flag: access,
        update_dirty: dirty && access,
        write_execute_never: bit(word, 36),
        privileged_access_never: bit(word, 40),
        abort,
        record,
        stall,
    })
}

/// Reads a level 1 CD descriptor (5.3) for leaves of 2^`leaf_log2` CDs: the leaf's address.
pub(crate) fn level1(raw: u64, leaf_log2: u32, faults: &mut Vec<DriverFault>) -> Option<u64> {
    if !bit(raw, 0) {
        return None;
    }
    let table = raw & mask(55, 12);
    let alignment = 64u64 << leaf_log2;
    if table & (alignment - 1) != 0 {
        faults.push(DriverFault::MisalignedBase { what: "L1CD.L2Ptr", address: table, alignment });
    }
    Some(table & !(alignment - 1))
}
