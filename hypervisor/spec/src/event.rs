//! Event records (§7.3) and page requests (§8).

use super::Field;

/// An event's number (§7.3): those that software makes of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EventNumber {
    /// C_BAD_STREAMID.
    BadStreamId = 0x02,
    /// F_STE_FETCH.
    SteFetch = 0x03,
    /// C_BAD_STE.
    BadSte = 0x04,
}

/// An event record: four little-endian 64-bit words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EventRecord(pub [u64; 4]);

impl EventRecord {
    /// Event number, bits \[7:0\].
    pub const NUMBER: Field = Field::bits(7, 0);
    /// SSV, bit \[11\].
    pub const SSV: Field = Field::bit(11);
    /// SubstreamID, bits \[31:12\].
    pub const SUBSTREAM_ID: Field = Field::bits(31, 12);
    /// StreamID, bits \[63:32\].
    pub const STREAM_ID: Field = Field::bits(63, 32);
    /// STAG, bits \[79:64\].
    pub const STAG: Field = Field::bits(79, 64);
    /// Stall, bit \[95\].
    pub const STALL: Field = Field::bit(95);
    /// PnU, bit \[97\].
    pub const PNU: Field = Field::bit(97);
    /// InD, bit \[98\].
    pub const IND: Field = Field::bit(98);
    /// RnW, bit \[99\].
    pub const RNW: Field = Field::bit(99);
    /// S2, bit \[103\].
    pub const S2: Field = Field::bit(103);
    /// CLASS, bits \[105:104\].
    pub const CLASS: Field = Field::bits(105, 104);
    /// InputAddr, bits \[191:128\].
    pub const INPUT_ADDR: Field = Field::bits(191, 128);
    /// IPA, bits \[247:204\], the address's bits \[55:12\].
    pub const IPA: Field = Field::bits(247, 204);
}

/// A PRI queue entry: two little-endian 64-bit words (§8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageRequest(pub [u64; 2]);

impl PageRequest {
    /// StreamID, bits \[31:0\].
    pub const STREAM_ID: Field = Field::bits(31, 0);
    /// SubstreamID, bits \[51:32\].
    pub const SUBSTREAM_ID: Field = Field::bits(51, 32);
    /// Last, bit \[62\]: the group is complete and wants an answer.
    pub const LAST: Field = Field::bit(62);
    /// SSV, bit \[63\].
    pub const SSV: Field = Field::bit(63);
    /// PRGIndex, bits \[72:64\].
    pub const PRG_INDEX: Field = Field::bits(72, 64);
}
