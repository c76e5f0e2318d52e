//! Commands (§4).

use super::Field;

/// A command opcode (§4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Opcode {
    /// CMD_PREFETCH_CONFIG.
    PrefetchConfig = 0x01,
    /// CMD_PREFETCH_ADDR.
    PrefetchAddr = 0x02,
    /// CMD_CFGI_STE.
    CfgiSte = 0x03,
    /// CMD_CFGI_STE_RANGE, and with Range = 31 CMD_CFGI_ALL.
    CfgiSteRange = 0x04,
    /// CMD_CFGI_CD.
    CfgiCd = 0x05,
    /// CMD_CFGI_CD_ALL.
    CfgiCdAll = 0x06,
    /// CMD_TLBI_NH_ALL.
    TlbiNhAll = 0x10,
    /// CMD_TLBI_NH_ASID.
    TlbiNhAsid = 0x11,
    /// CMD_TLBI_NH_VA.
    TlbiNhVa = 0x12,
    /// CMD_TLBI_NH_VAA.
    TlbiNhVaa = 0x13,
    /// CMD_TLBI_EL2_ALL.
    TlbiEl2All = 0x20,
    /// CMD_TLBI_S12_VMALL.
    TlbiS12Vmall = 0x28,
    /// CMD_TLBI_S2_IPA.
    TlbiS2Ipa = 0x2a,
    /// CMD_TLBI_NSNH_ALL.
    TlbiNsnhAll = 0x30,
    /// CMD_ATC_INV.
    AtcInv = 0x40,
    /// CMD_PRI_RESP.
    PriResp = 0x41,
    /// CMD_RESUME.
    Resume = 0x44,
    /// CMD_STALL_TERM.
    StallTerm = 0x45,
    /// CMD_SYNC.
    Sync = 0x46,
}

/// CMD_SYNC.CS: how completion is signalled (§4.7.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Cs {
    /// Not at all: poll CMDQ_CONS.
    None = 0b00,
    /// By an interrupt: a message where an address is given, else the wired one.
    Irq = 0b01,
    /// By an event, as SEV makes one.
    Sev = 0b10,
}

/// CMD_PRI_RESP.Resp (§4.5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum PriResponse {
    /// ResponseFailure: a permanent error, here "page requests are not served".
    Failure = 0b00,
    /// InvalidRequest: a page of the group could not be made present.
    Invalid = 0b01,
    /// Success.
    Success = 0b10,
}

/// CMD_RESUME's Action and Abort together (§4.7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum ResumeAction {
    /// Action = 0, Abort = 0: end the transaction as if it read zeroes or wrote nothing.
    TerminateSilently = 0b00,
    /// Action = 1: retry it.
    Retry = 0b01,
    /// Action = 0, Abort = 1: end the transaction with an abort.
    Abort = 0b10,
}

/// One command: two little-endian 64-bit words (§4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cmd(pub [u64; 2]);

impl Cmd {
    /// Opcode, bits \[7:0\].
    pub const OPCODE: Field = Field::bits(7, 0);
    /// SSec, bit \[10\]: must be 0 on the Non-secure queue.
    pub const SSEC: Field = Field::bit(10);
    /// SSV, bit \[11\].
    pub const SSV: Field = Field::bit(11);
    /// SubstreamID, bits \[31:12\].
    pub const SUBSTREAM_ID: Field = Field::bits(31, 12);
    /// StreamID, bits \[63:32\].
    pub const STREAM_ID: Field = Field::bits(63, 32);
    /// Leaf, bit \[64\], of CFGI and TLBI commands.
    pub const LEAF: Field = Field::bit(64);
    /// Range, bits \[68:64\], of CMD_CFGI_STE_RANGE.
    pub const RANGE: Field = Field::bits(68, 64);
    /// NUM, bits \[16:12\].
    pub const NUM: Field = Field::bits(16, 12);
    /// SCALE, bits \[24:20\] (5 bits without IDR5.DS).
    pub const SCALE: Field = Field::bits(24, 20);
    /// VMID, bits \[47:32\].
    pub const VMID: Field = Field::bits(47, 32);
    /// ASID, bits \[63:48\].
    pub const ASID: Field = Field::bits(63, 48);
    /// TTL, bits \[73:72\].
    pub const TTL: Field = Field::bits(73, 72);
    /// TG, bits \[75:74\].
    pub const TG: Field = Field::bits(75, 74);
    /// Address, bits \[127:76\], the address's bits \[63:12\].
    pub const ADDRESS: Field = Field::bits(127, 76);
    /// Global, bit \[9\], of CMD_ATC_INV.
    pub const GLOBAL: Field = Field::bit(9);
    /// Size, bits \[69:64\], of CMD_ATC_INV.
    pub const SIZE: Field = Field::bits(69, 64);
    /// PRGIndex, bits \[72:64\], of CMD_PRI_RESP.
    pub const PRG_INDEX: Field = Field::bits(72, 64);
    /// Resp, bits \[77:76\], of CMD_PRI_RESP.
    pub const RESP: Field = Field::bits(77, 76);
    /// Ac and Ab, bits \[13:12\], of CMD_RESUME.
    pub const ACTION: Field = Field::bits(13, 12);
    /// STAG, bits \[79:64\], of CMD_RESUME.
    pub const STAG: Field = Field::bits(79, 64);
    /// CS, bits \[13:12\], of CMD_SYNC.
    pub const CS: Field = Field::bits(13, 12);
    /// MSH, bits \[23:22\], of CMD_SYNC.
    pub const MSH: Field = Field::bits(23, 22);
    /// MSIAttr, bits \[27:24\], of CMD_SYNC.
    pub const MSI_ATTR: Field = Field::bits(27, 24);
    /// MSIData, bits \[63:32\], of CMD_SYNC.
    pub const MSI_DATA: Field = Field::bits(63, 32);
    /// MSIAddr, bits \[119:66\], the address's bits \[55:2\].
    pub const MSI_ADDRESS: Field = Field::bits(119, 66);

    /// The command's opcode byte.
    pub fn opcode(&self) -> u8 {
        (self.0[0] & Cmd::OPCODE.mask()) as u8
    }

    /// Whether it is a CMD_SYNC.
    pub fn is_sync(&self) -> bool {
        self.opcode() == Opcode::Sync as u8
    }
}
