//! Context descriptor table: L1CD (§5.3) and CD (§5.4).

use super::{Field, Words};

/// Level 1 context descriptor table entry, 8 bytes (§5.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct L1cd(pub u64);

impl L1cd {
    /// V, bit \[0\].
    pub const V: Field = Field::bit(0);
    /// L2Ptr, bits \[51:12\].
    pub const L2_PTR: Field = Field::bits(51, 12);
}

/// Context descriptor, 64 bytes (§5.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cd(pub Words);

impl Cd {
    /// T0SZ, bits \[5:0\].
    pub const T0SZ: Field = Field::bits(5, 0);
    /// TG0, bits \[7:6\]: 4K 0, 64K 1, 16K 2.
    pub const TG0: Field = Field::bits(7, 6);
    /// IR0, bits \[9:8\].
    pub const IR0: Field = Field::bits(9, 8);
    /// OR0, bits \[11:10\].
    pub const OR0: Field = Field::bits(11, 10);
    /// SH0, bits \[13:12\].
    pub const SH0: Field = Field::bits(13, 12);
    /// EPD0, bit \[14\]: no walk from TTB0, every access of its half faults.
    pub const EPD0: Field = Field::bit(14);
    /// EPD1, bit \[30\].
    pub const EPD1: Field = Field::bit(30);
    /// V, bit \[31\].
    pub const V: Field = Field::bit(31);
    /// IPS, bits \[34:32\].
    pub const IPS: Field = Field::bits(34, 32);
    /// AFFD, bit \[35\].
    pub const AFFD: Field = Field::bit(35);
    /// AA64, bit \[41\].
    pub const AA64: Field = Field::bit(41);
    /// HD, bit \[42\].
    pub const HD: Field = Field::bit(42);
    /// HA, bit \[43\].
    pub const HA: Field = Field::bit(43);
    /// S, bit \[44\]: faults stall.
    pub const S: Field = Field::bit(44);
    /// R, bit \[45\]: faults are recorded.
    pub const R: Field = Field::bit(45);
    /// A, bit \[46\]: terminated faults report abort.
    pub const A: Field = Field::bit(46);
    /// ASET, bit \[47\]: the ASID is not shared with the CPUs.
    pub const ASET: Field = Field::bit(47);
    /// ASID, bits \[63:48\].
    pub const ASID: Field = Field::bits(63, 48);
    /// TTB0, bits \[115:68\], the address's bits \[51:4\].
    pub const TTB0: Field = Field::bits(115, 68);
    /// MAIR0 and MAIR1, bits \[255:192\].
    pub const MAIR: Field = Field::bits(255, 192);
}
