//! STE and CD images as pure functions of what they shall say.
//!
//! Nothing here reads memory or knows a register, so each image can be compared byte for byte.

use crate::spec::{Cd, Config, Eats, Field, S1Dss, S1Fmt, Ste, Words};

/// What of the SMMU's features changes an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImageFeatures {
    /// IDR1.ATTR_TYPES_OVR: SHCFG is read, and 0 would mean Non-shareable.
    pub attr_types_ovr: bool,
    /// CR2.E2H: streams of the host run in the EL2-E2H world.
    pub e2h: bool,
    /// IDR0.STALL_MODEL = 0: whether a fault stalls is configurable.
    pub stalls_configurable: bool,
}

/// Stage 1 as an STE describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SteStage1 {
    /// The CD table's shape.
    pub s1_fmt: S1Fmt,
    /// PA (or, under stage 2, IPA) of the CD table.
    pub s1_context_ptr: u64,
    /// log2 of the number of CDs.
    pub s1_cd_max: u8,
    /// What transactions without a SubstreamID get.
    pub s1_dss: S1Dss,
    /// Whether CDs may select the stall model.
    pub stall: bool,
    /// Whether the device may use ATS.
    pub ats: bool,
}

/// Stage 2 as an STE describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SteStage2 {
    /// VMID; never 0.
    pub vmid: u16,
    /// VTCR_EL2\[18:0\]: T0SZ, SL0, IRGN0, ORGN0, SH0, TG0, PS.
    pub vtcr: u32,
    /// PA of the root table.
    pub s2ttb: u64,
    /// Whether faults stall.
    pub stall: bool,
    /// Whether the tables' attributes are of the FWB kind.
    pub fwb: bool,
    /// Whether the device may use ATS.
    pub ats: bool,
}

/// Stage 1 tables of one substream, as a CD describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CdStage1 {
    /// Input address size is 64 − T0SZ bits.
    pub t0sz: u8,
    /// Granule: 4K 0, 64K 1, 16K 2.
    pub tg0: u8,
    /// Inner and outer cacheability, and shareability, of walks: IRGN, ORGN, SH.
    pub walk: (u8, u8, u8),
    /// Output address size code.
    pub ips: u8,
    /// Whether hardware sets the access flag.
    pub ha: bool,
    /// Whether hardware updates the dirty state; needs `ha`.
    pub hd: bool,
    /// Whether faults stall.
    pub stall: bool,
    /// ASID.
    pub asid: u16,
    /// Whether the ASID is the driver's own, not shared with the CPUs.
    pub aset: bool,
    /// PA (or IPA) of the root table.
    pub ttb0: u64,
    /// MAIR0 and MAIR1.
    pub mair: u64,
}

/// Write-Back, Read- and Write-Allocate, for S1CIR and S1COR (§5.2).
const CACHE_WRITE_BACK: u64 = 0b01;
/// Inner Shareable, for S1CSH (§5.2).
const INNER_SHAREABLE: u64 = 0b11;
/// Use the incoming shareability, for SHCFG (§5.2).
const SHCFG_INCOMING: u64 = 0b01;
/// STRW of the host's own streams when CR2.E2H = 1 (§5.2).
const STRW_EL2: u64 = 0b10;

fn set_flag(words: &mut Words, field: Field, on: bool) {
    field.set(words, u64::from(on));
}

/// The image by which a stream aborts silently (§5.2, Config = 0b000).
pub fn ste_abort() -> Ste {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, Config::Abort as u64);
    Ste(words)
}

/// The image by which a stream bypasses both stages (§5.2, Config = 0b100).
///
/// The driver never writes it; it exists so that the writer's transitions can be checked.
pub fn ste_bypass(features: ImageFeatures) -> Ste {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, Config::Bypass as u64);
    if features.attr_types_ovr {
        Ste::SHCFG.set(&mut words, SHCFG_INCOMING);
    }
    Ste(words)
}

fn put_stage1(words: &mut Words, features: ImageFeatures, stage1: &SteStage1) {
    Ste::S1FMT.set(words, stage1.s1_fmt as u64);
    Ste::S1_CONTEXT_PTR.set_address(words, stage1.s1_context_ptr);
    Ste::S1_CD_MAX.set(words, u64::from(stage1.s1_cd_max));
    Ste::S1DSS.set(words, stage1.s1_dss as u64);
    Ste::S1CIR.set(words, CACHE_WRITE_BACK);
    Ste::S1COR.set(words, CACHE_WRITE_BACK);
    Ste::S1CSH.set(words, INNER_SHAREABLE);
    // Legal only where stalling is configurable, and then needed where stalls are unsafe (PCIe).
    set_flag(words, Ste::S1STALLD, features.stalls_configurable && !stage1.stall);
    Ste::EATS.set(words, if stage1.ats { Eats::Full } else { Eats::Off } as u64);
}

/// The image of a stream under stage 1 alone (§5.2, Config = 0b101).
///
/// With a stage 2 implemented its TLB entries are tagged with S2VMID all the same, so `vmid` must
/// be one that no VM has (0).
pub fn ste_stage1(features: ImageFeatures, stage1: &SteStage1, vmid: u16) -> Ste {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, Config::Stage1 as u64);
    put_stage1(&mut words, features, stage1);
    if features.e2h {
        Ste::STRW.set(&mut words, STRW_EL2);
    }
    if features.attr_types_ovr && stage1.s1_dss == S1Dss::Bypass {
        Ste::SHCFG.set(&mut words, SHCFG_INCOMING);
    }
    Ste::S2VMID.set(&mut words, u64::from(vmid));
    Ste(words)
}

fn put_stage2(words: &mut Words, features: ImageFeatures, stage2: &SteStage2) {
    set_flag(words, Ste::S2FWB, stage2.fwb);
    Ste::EATS.set(words, if stage2.ats { Eats::Full } else { Eats::Off } as u64);
    if features.attr_types_ovr {
        Ste::SHCFG.set(words, SHCFG_INCOMING);
    }
    Ste::S2VMID.set(words, u64::from(stage2.vmid));
    Ste::S2VTCR.set(words, u64::from(stage2.vtcr));
    Ste::S2AA64.set(words, 1);
    // A nested stage 1 walk may not wander into device registers.
    Ste::S2PTW.set(words, 1);
    set_flag(words, Ste::S2S, stage2.stall);
    Ste::S2R.set(words, 1);
    Ste::S2TTB.set_address(words, stage2.s2ttb);
}

/// The image of a stream under stage 2 alone (§5.2, Config = 0b110).
pub fn ste_stage2(features: ImageFeatures, stage2: &SteStage2) -> Ste {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, Config::Stage2 as u64);
    put_stage2(&mut words, features, stage2);
    Ste(words)
}

/// The image of a stream under both stages (§5.2, Config = 0b111); its ATS is stage 2's choice.
pub fn ste_nested(features: ImageFeatures, stage1: &SteStage1, stage2: &SteStage2) -> Ste {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, Config::Nested as u64);
    put_stage1(&mut words, features, stage1);
    put_stage2(&mut words, features, stage2);
    Ste(words)
}

/// The image of a context descriptor with the lower half (TTB0) enabled (§5.4).
pub fn cd_stage1(stage1: &CdStage1) -> Cd {
    let mut words = [0; 8];
    Cd::T0SZ.set(&mut words, u64::from(stage1.t0sz));
    Cd::TG0.set(&mut words, u64::from(stage1.tg0));
    let (irgn, orgn, sh) = stage1.walk;
    Cd::IR0.set(&mut words, u64::from(irgn));
    Cd::OR0.set(&mut words, u64::from(orgn));
    Cd::SH0.set(&mut words, u64::from(sh));
    Cd::EPD1.set(&mut words, 1);
    Cd::V.set(&mut words, 1);
    Cd::IPS.set(&mut words, u64::from(stage1.ips));
    Cd::AA64.set(&mut words, 1);
    set_flag(&mut words, Cd::HD, stage1.hd);
    set_flag(&mut words, Cd::HA, stage1.ha);
    set_flag(&mut words, Cd::S, stage1.stall);
    Cd::R.set(&mut words, 1);
    Cd::A.set(&mut words, 1);
    set_flag(&mut words, Cd::ASET, stage1.aset);
    Cd::ASID.set(&mut words, u64::from(stage1.asid));
    Cd::TTB0.set_address(&mut words, stage1.ttb0);
    Cd::MAIR.set(&mut words, stage1.mair);
    Cd(words)
}

/// The image by which a live descriptor stops translating: still valid, so that a late
/// transaction is no C_BAD_CD, but with walks off and faults unrecorded.
///
/// `stall_forced` keeps S = 1 and R = 1, which stall model 2 demands (§5.4).
pub fn cd_quiesced(live: &Cd, stall_forced: bool) -> Cd {
    let mut words = live.0;
    Cd::EPD0.set(&mut words, 1);
    for field in [Cd::T0SZ, Cd::TG0, Cd::IR0, Cd::OR0, Cd::SH0] {
        field.set(&mut words, 0);
    }
    Cd::TTB0.set(&mut words, 0);
    if !stall_forced {
        Cd::S.set(&mut words, 0);
        Cd::R.set(&mut words, 0);
    }
    Cd(words)
}
