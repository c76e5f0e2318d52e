//! Stream table: L1STD (§5.1) and STE (§5.2).

use super::{Field, Words};

/// Level 1 stream table descriptor, 8 bytes (§5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct L1std(pub u64);

impl L1std {
    /// Span, bits \[4:0\]: 0 = no level 2 array, n = 2^(n-1) STEs.
    pub const SPAN: Field = Field::bits(4, 0);
    /// L2Ptr, bits \[51:6\] (SMMUv3.1: up to 52-bit addresses).
    pub const L2_PTR: Field = Field::bits(51, 6);
}

/// STE.Config, bits \[3:1\] (§5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Config {
    /// Report abort to the device, record no event.
    Abort = 0b000,
    /// Both stages bypass.
    Bypass = 0b100,
    /// Stage 1 translates, stage 2 bypasses.
    Stage1 = 0b101,
    /// Stage 1 bypasses, stage 2 translates.
    Stage2 = 0b110,
    /// Both stages translate.
    Nested = 0b111,
}

/// STE.S1Fmt, bits \[5:4\]: the shape of the CD table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum S1Fmt {
    /// One linear table.
    Linear = 0b00,
    /// Two levels with 4 KiB leaves of 64 CDs.
    Leaf4K = 0b01,
    /// Two levels with 64 KiB leaves of 1024 CDs.
    Leaf64K = 0b10,
}

/// STE.S1DSS, bits \[65:64\]: what a transaction without SubstreamID gets when substreams are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum S1Dss {
    /// Abort, F_STREAM_DISABLED.
    Terminate = 0b00,
    /// Stage 1 bypasses.
    Bypass = 0b01,
    /// The CD at index 0.
    Substream0 = 0b10,
}

/// STE.EATS, bits \[93:92\].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Eats {
    /// Translation requests are refused; with ATSCHK, Translated traffic too.
    Off = 0b00,
    /// Full ATS: the device gets physical addresses.
    Full = 0b01,
    /// Split-stage ATS: the device gets IPAs.
    SplitStage = 0b10,
}

/// Stream table entry, 64 bytes (§5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ste(pub Words);

impl Ste {
    /// V, bit \[0\].
    pub const V: Field = Field::bit(0);
    /// Config, bits \[3:1\].
    pub const CONFIG: Field = Field::bits(3, 1);
    /// S1Fmt, bits \[5:4\].
    pub const S1FMT: Field = Field::bits(5, 4);
    /// S1ContextPtr, bits \[51:6\].
    pub const S1_CONTEXT_PTR: Field = Field::bits(51, 6);
    /// S1CDMax, bits \[63:59\]: log2 of the number of CDs.
    pub const S1_CD_MAX: Field = Field::bits(63, 59);
    /// S1DSS, bits \[65:64\].
    pub const S1DSS: Field = Field::bits(65, 64);
    /// S1CIR, bits \[67:66\]: inner cacheability of CD fetches.
    pub const S1CIR: Field = Field::bits(67, 66);
    /// S1COR, bits \[69:68\]: outer cacheability of CD fetches.
    pub const S1COR: Field = Field::bits(69, 68);
    /// S1CSH, bits \[71:70\]: shareability of CD fetches.
    pub const S1CSH: Field = Field::bits(71, 70);
    /// MEV, bit \[83\]: similar events may be merged.
    pub const MEV: Field = Field::bit(83);
    /// S2FWB, bit \[89\].
    pub const S2FWB: Field = Field::bit(89);
    /// S1STALLD, bit \[91\]: CDs may not select the stall model.
    pub const S1STALLD: Field = Field::bit(91);
    /// EATS, bits \[93:92\].
    pub const EATS: Field = Field::bits(93, 92);
    /// STRW, bits \[95:94\].
    pub const STRW: Field = Field::bits(95, 94);
    /// SHCFG, bits \[109:108\].
    pub const SHCFG: Field = Field::bits(109, 108);
    /// S2VMID, bits \[143:128\].
    pub const S2VMID: Field = Field::bits(143, 128);
    /// The fields from S2T0SZ to S2PS, bits \[178:160\], laid out as VTCR_EL2\[18:0\].
    pub const S2VTCR: Field = Field::bits(178, 160);
    /// S2T0SZ, bits \[165:160\].
    pub const S2T0SZ: Field = Field::bits(165, 160);
    /// S2SL0, bits \[167:166\].
    pub const S2SL0: Field = Field::bits(167, 166);
    /// S2TG, bits \[175:174\].
    pub const S2TG: Field = Field::bits(175, 174);
    /// S2PS, bits \[178:176\].
    pub const S2PS: Field = Field::bits(178, 176);
    /// S2AA64, bit \[179\]: the stage 2 tables are VMSAv8-64.
    pub const S2AA64: Field = Field::bit(179);
    /// S2ENDI, bit \[180\].
    pub const S2ENDI: Field = Field::bit(180);
    /// S2AFFD, bit \[181\]: no access flag faults.
    pub const S2AFFD: Field = Field::bit(181);
    /// S2PTW, bit \[182\]: a stage 1 walk into Device memory faults.
    pub const S2PTW: Field = Field::bit(182);
    /// S2HD, bit \[183\].
    pub const S2HD: Field = Field::bit(183);
    /// S2HA, bit \[184\].
    pub const S2HA: Field = Field::bit(184);
    /// S2S, bit \[185\]: stage 2 faults stall.
    pub const S2S: Field = Field::bit(185);
    /// S2R, bit \[186\]: stage 2 faults are recorded.
    pub const S2R: Field = Field::bit(186);
    /// S2SL0_2, bit \[194\].
    pub const S2SL0_2: Field = Field::bit(194);
    /// S2DS, bit \[195\].
    pub const S2DS: Field = Field::bit(195);
    /// S2TTB, bits \[243:196\], the address's bits \[51:4\].
    pub const S2TTB: Field = Field::bits(243, 196);
}
