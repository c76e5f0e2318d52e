//! Command decoding (chapter 4): refuses whatever the features do not offer.

use crate::bits::{bit, field, mask};
use crate::features::Features;

/// The addresses that a TLBI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// log2 of the granule that entries must have been inserted with (TG).
    pub granule: Option<u32>,
    /// The level that leaf entries must have come from (TTL).
    pub level: Option<u32>,
    /// Leaf entries only.
    pub leaf: bool,
}

/// How a CMD_SYNC says that it is done (4.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// CS = SIG_NONE: by CONS alone.
    None,
    /// CS = SIG_IRQ with an address: a write of `data`.
    Msi {
        /// MSIAddress.
        address: u64,
        /// MSIData.
        data: u32,
    },
    /// CS = SIG_IRQ without an address: the wired interrupt.
    Wire,
    /// CS = SIG_SEV.
    Event,
}

/// A legal command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// CMD_PREFETCH_CONFIG.
    PrefetchConfig {
        /// StreamID.
        stream: u32,
        /// SubstreamID, where SSV = 1.
        substream: Option<u32>,
    },
    /// CMD_PREFETCH_ADDR.
    PrefetchAddress {
        /// StreamID.
        stream: u32,
        /// SubstreamID, where SSV = 1.
        substream: Option<u32>,
        /// Address.
        address: u64,
    },
    /// CMD_CFGI_STE.
    CfgiSte {
        /// StreamID.
        stream: u32,
        /// Leaf.
        leaf: bool,
    },
    /// CMD_CFGI_STE_RANGE; the whole table (CMD_CFGI_ALL) with `log2` = 32.
    CfgiSteRange {
        /// First StreamID.
        stream: u32,
        /// log2 of the number of streams.
        log2: u32,
    },
    /// CMD_CFGI_CD.
    CfgiCd {
        /// StreamID.
        stream: u32,
        /// Index of the CD.
        substream: u32,
        /// Leaf.
        leaf: bool,
    },
    /// CMD_CFGI_CD_ALL.
    CfgiCdAll {
        /// StreamID.
        stream: u32,
    },
    /// CMD_TLBI_NH_ALL.
    TlbiNhAll {
        /// VMID.
        vmid: u16,
    },
    /// CMD_TLBI_NH_ASID.
    TlbiNhAsid {
        /// VMID.
        vmid: u16,
        /// ASID.
        asid: u16,
    },
    /// CMD_TLBI_NH_VA, and CMD_TLBI_NH_VAA where `asid` is `None`.
    TlbiNhVa {
        /// VMID.
        vmid: u16,
        /// ASID.
        asid: Option<u16>,
        /// What.
        range: Range,
    },
    /// CMD_TLBI_EL2_ALL.
    TlbiEl2All,
    /// CMD_TLBI_EL2_ASID.
    TlbiEl2Asid {
        /// ASID.
        asid: u16,
    },
    /// CMD_TLBI_EL2_VA, and CMD_TLBI_EL2_VAA where `asid` is `None`.
    TlbiEl2Va {
        /// ASID.
        asid: Option<u16>,
        /// What.
        range: Range,
    },
    /// CMD_TLBI_S12_VMALL.
    TlbiS12Vmall {
        /// VMID.
        vmid: u16,
    },
    /// CMD_TLBI_S2_IPA.
    TlbiS2Ipa {
        /// VMID.
        vmid: u16,
        /// What.
        range: Range,
    },
    /// CMD_TLBI_NSNH_ALL.
    TlbiNsnhAll,
    /// CMD_ATC_INV.
    AtcInv {
        /// StreamID.
        stream: u32,
        /// SubstreamID, where SSV = 1.
        substream: Option<u32>,
        /// Global.
        global: bool,
        /// First address.
        start: u64,
        /// Last address.
        end: u64,
    },
    /// CMD_PRI_RESP.
    PriResp {
        /// StreamID.
        stream: u32,
        /// SubstreamID, where SSV = 1.
        substream: Option<u32>,
        /// PRGIndex.
        group: u16,
        /// Resp: 0 failure, 1 invalid, 2 success.
        response: u8,
    },
    /// CMD_RESUME.
    Resume {
        /// StreamID.
        stream: u32,
        /// STAG.
        tag: u16,
        /// Action: retry, not terminate.
        retry: bool,
        /// Abort, where terminated.
        abort: bool,
    },
    /// CMD_STALL_TERM.
    StallTerm {
        /// StreamID.
        stream: u32,
    },
    /// CMD_SYNC.
    Sync {
        /// CS and its parameters.
        signal: Signal,
    },
}

/// Why a command cannot be consumed, or was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CERROR_ILL.
    Illegal(&'static str),
    /// Legal, but the manual promises nothing about it.
    Unpredictable,
}

/// Reads one command.
///
/// # Errors
/// [`Refusal::Illegal`] for everything 4.1.3 names, non-zero reserved bits included;
/// [`Refusal::Unpredictable`] for the alignments of 4.4.1.1.
pub fn decode(raw: [u64; 2], features: &Features) -> Result<Command, Refusal> {
    let [low, high] = raw;
    let stream = (low >> 32) as u32;
    let substream = field(low, 31, 12) as u32;
    let with_substream = bit(low, 11).then_some(substream);
    let vmid = field(low, 47, 32) as u16;
    let asid = field(low, 63, 48) as u16;
    // The bits each command uses, besides its opcode.
    let used = |low_used: u64, high_used: u64| {
        if low & !(low_used | 0xff) != 0 || high & !high_used != 0 {
            Err(Refusal::Illegal("reserved bits set"))
        } else {
            Ok(())
        }
    };
    let need = |have: bool, why| if have { Ok(()) } else { Err(Refusal::Illegal(why)) };
    let sid = mask(63, 32);
    let ssid = mask(31, 12);
    match low & 0xff {
        0x01 => {
            used(sid | ssid | 1 << 11, 0)?;
            Ok(Command::PrefetchConfig { stream, substream: with_substream })
        }
        0x02 => {
            used(sid | ssid | 1 << 11, mask(63, 12) | mask(9, 0))?;
            let address = high & !0xfff;
            Ok(Command::PrefetchAddress { stream, substream: with_substream, address })
        }
        0x03 => {
            used(sid, 1)?;
            Ok(Command::CfgiSte { stream, leaf: bit(high, 0) })
        }
        0x04 => {
            used(sid, mask(4, 0))?;
            Ok(Command::CfgiSteRange { stream, log2: field(high, 4, 0) as u32 + 1 })
        }
        0x05 => {
            need(features.stage1, "no stage 1")?;
            used(sid | ssid, 1)?;
            Ok(Command::CfgiCd { stream, substream, leaf: bit(high, 0) })
        }
        0x06 => {
            need(features.stage1, "no stage 1")?;
            used(sid, 0)?;
            Ok(Command::CfgiCdAll { stream })
        }
        0x10 => {
            need(features.stage1, "no stage 1")?;
            used(mask(47, 32), 0)?;
            Ok(Command::TlbiNhAll { vmid })
        }
        0x11 => {
            need(features.stage1, "no stage 1")?;
            used(mask(63, 32), 0)?;
            Ok(Command::TlbiNhAsid { vmid, asid })
        }
        0x12 | 0x13 => {
            need(features.stage1, "no stage 1")?;
            let by_asid = low & 0xff == 0x12;
            let tags = if by_asid { mask(63, 32) } else { mask(47, 32) };
            used(tags | range_bits(features).0, range_bits(features).1)?;
            let range = range(raw, features)?;
            Ok(Command::TlbiNhVa { vmid, asid: by_asid.then_some(asid), range })
        }
        0x20 => {
            need(features.hyp, "no EL2")?;
            used(0, 0)?;
            Ok(Command::TlbiEl2All)
        }
        0x21 => {
            need(features.hyp, "no EL2")?;
            used(mask(63, 48), 0)?;
            Ok(Command::TlbiEl2Asid { asid })
        }
        0x22 | 0x23 => {
            need(features.hyp, "no EL2")?;
            let by_asid = low & 0xff == 0x22;
            let tags = if by_asid { mask(63, 48) } else { 0 };
            used(tags | range_bits(features).0, range_bits(features).1)?;
            let range = range(raw, features)?;
            Ok(Command::TlbiEl2Va { asid: by_asid.then_some(asid), range })
        }
        0x28 => {
            need(features.stage2, "no stage 2")?;
            used(mask(47, 32), 0)?;
            Ok(Command::TlbiS12Vmall { vmid })
        }
        0x2a => {
            need(features.stage2, "no stage 2")?;
            used(mask(47, 32) | range_bits(features).0, range_bits(features).1 & !mask(63, 56))?;
            Ok(Command::TlbiS2Ipa { vmid, range: range(raw, features)? })
        }
        0x30 => {
            used(0, 0)?;
            Ok(Command::TlbiNsnhAll)
        }
        0x40 => {
            need(features.ats, "no ATS")?;
            used(sid | ssid | 1 << 11 | 1 << 9, mask(63, 12) | mask(5, 0))?;
            let size = field(high, 5, 0) as u32;
            need(size <= 52, "ATC_INV size above 52")?;
            let span = if size >= 52 { u64::MAX } else { (0x1000 << size) - 1 };
            let start = high & !0xfff & !span;
            Ok(Command::AtcInv {
                stream,
                substream: with_substream,
                global: bit(low, 9),
                start,
                end: start | span,
            })
        }
        0x41 => {
            need(features.pri, "no PRI")?;
            used(sid | ssid | 1 << 11, mask(8, 0) | mask(13, 12))?;
            let response = field(high, 13, 12) as u8;
            need(response != 3, "reserved PRI response")?;
            let group = field(high, 8, 0) as u16;
            Ok(Command::PriResp { stream, substream: with_substream, group, response })
        }
        0x44 => {
            need(features.can_stall(), "no stalls")?;
            used(sid | 1 << 12 | 1 << 13, mask(15, 0))?;
            let (retry, abort) = (bit(low, 12), bit(low, 13));
            Ok(Command::Resume { stream, tag: high as u16, retry, abort })
        }
        0x45 => {
            need(features.can_stall(), "no stalls")?;
            used(sid, 0)?;
            Ok(Command::StallTerm { stream })
        }
        0x46 => {
            used(mask(63, 32) | mask(27, 22) | mask(13, 12), mask(55, 2) | 1 << 63)?;
            let signal = match field(low, 13, 12) {
                0 => Signal::None,
                1 if features.msi && high & mask(55, 2) != 0 => {
                    Signal::Msi { address: high & mask(55, 2), data: (low >> 32) as u32 }
                }
                1 => Signal::Wire,
                2 => Signal::Event,
                _ => return Err(Refusal::Illegal("reserved completion signal")),
            };
            Ok(Command::Sync { signal })
        }
        _ => Err(Refusal::Illegal("unknown opcode")),
    }
}

/// The bits of an address-based TLBI that may be non-zero.
fn range_bits(features: &Features) -> (u64, u64) {
    let address = mask(63, 12) | 1;
    if features.ril { (mask(24, 20) | mask(16, 12), address | mask(11, 8)) } else { (0, address) }
}

/// The range of 4.4.1.1.
fn range(raw: [u64; 2], features: &Features) -> Result<Range, Refusal> {
    let [low, high] = raw;
    let start = high & !0xfff;
    let leaf = bit(high, 0);
    let (num, scale) = (field(low, 16, 12), field(low, 24, 20) as u32);
    let (tg, ttl) = (field(high, 11, 10) as u32, field(high, 9, 8) as u32);
    if tg == 0 {
        if num != 0 || scale != 0 || ttl != 0 {
            return Err(Refusal::Illegal("NUM, SCALE or TTL without TG"));
        }
        return Ok(Range { start, end: start | 0xfff, granule: None, level: None, leaf });
    }
    let granule = 10 + 2 * tg;
    // 16 KiB with TTL = 1 is reserved without DS and is then treated as TTL = 0.
    let level = if tg == 2 && ttl == 1 { 0 } else { ttl };
    if num == 0 && scale == 0 && level == 0 {
        return Err(Refusal::Illegal("TG without range or TTL"));
    }
    if !features.has_granule(granule) {
        return Err(Refusal::Unpredictable);
    }
    let shift = if level == 0 { granule } else { granule + (granule - 3) * (3 - level) };
    if start & ((1 << shift) - 1) != 0 {
        return Err(Refusal::Unpredictable);
    }
    let span = u128::from(num + 1) << (scale + granule);
    let end = (u128::from(start) + span - 1).min(u128::from(u64::MAX)) as u64;
    let level = (level != 0).then_some(level);
    Ok(Range { start, end, granule: Some(granule), level, leaf })
}
