//! ITS and LPI registers (IHI 0069, 12.11 for the redistributor, 12.18 and 12.19 for the ITS).

use palisade_hal::mmio::Reg;
use tock_registers::register_bitfields;

register_bitfields! [u32,
    /// GITS_CTLR (12.19.4).
    pub GITS_CTLR [
        /// The ITS translates and executes commands.
        Enabled OFFSET(0) NUMBITS(1) [],
        /// Disabled and idle.
        Quiescent OFFSET(31) NUMBITS(1) []
    ],
    /// GICR_CTLR (12.11.2).
    pub GICR_CTLR [
        /// LPIs are enabled at this redistributor; on many implementations it cannot be cleared.
        EnableLPIs OFFSET(0) NUMBITS(1) [],
        /// Register write pending.
        RWP OFFSET(3) NUMBITS(1) []
    ]
];

register_bitfields! [u64,
    /// GITS_TYPER (12.19.9).
    pub GITS_TYPER [
        /// Physical LPIs are supported.
        Physical OFFSET(0) NUMBITS(1) [],
        /// Bytes of an interrupt translation entry, minus one.
        ITT_entry_size OFFSET(4) NUMBITS(4) [],
        /// Bits of an EventID, minus one.
        ID_bits OFFSET(8) NUMBITS(5) [],
        /// Bits of a DeviceID, minus one.
        Devbits OFFSET(13) NUMBITS(5) [],
        /// RDbase is an address (1) or a processor number (0).
        PTA OFFSET(19) NUMBITS(1) [],
        /// Collections held without memory.
        HCC OFFSET(24) NUMBITS(8) [],
        /// Bits of a collection id, minus one; valid if CIL.
        CIDbits OFFSET(32) NUMBITS(4) [],
        /// CIDbits says the width; otherwise it is 16.
        CIL OFFSET(36) NUMBITS(1) []
    ],
    /// GITS_CBASER (12.19.2).
    pub GITS_CBASER [
        /// The queue is allocated.
        Valid OFFSET(63) NUMBITS(1) [],
        /// Inner cacheability: 7 = read- and write-allocate, write-back.
        InnerCache OFFSET(59) NUMBITS(3) [],
        /// Bits 51:12 of the address.
        Address OFFSET(12) NUMBITS(40) [],
        /// 1 = inner shareable.
        Shareability OFFSET(10) NUMBITS(2) [],
        /// 4 KiB pages, minus one.
        Size OFFSET(0) NUMBITS(8) []
    ],
    /// `GITS_BASER<n>` (12.19.1).
    pub GITS_BASER [
        /// The table is allocated.
        Valid OFFSET(63) NUMBITS(1) [],
        /// Two levels.
        Indirect OFFSET(62) NUMBITS(1) [],
        /// Inner cacheability.
        InnerCache OFFSET(59) NUMBITS(3) [],
        /// What the table holds.
        Type OFFSET(56) NUMBITS(3) [ Devices = 1, Collections = 4 ],
        /// Bytes of an entry, minus one.
        EntrySize OFFSET(48) NUMBITS(5) [],
        /// Bits 47:12 of the address.
        Address OFFSET(12) NUMBITS(36) [],
        /// 1 = inner shareable.
        Shareability OFFSET(10) NUMBITS(2) [],
        /// Size of a page of the table.
        PageSize OFFSET(8) NUMBITS(2) [ Kib4 = 0, Kib16 = 1, Kib64 = 2 ],
        /// Pages, minus one.
        Size OFFSET(0) NUMBITS(8) []
    ],
    /// GITS_CREADR (12.19.3).
    pub GITS_CREADR [
        /// A command error stopped the queue.
        Stalled OFFSET(0) NUMBITS(1) [],
        /// Byte offset of the next command to execute, in units of 32.
        Offset OFFSET(5) NUMBITS(15) []
    ],
    /// GICR_TYPER (12.11.35).
    pub GICR_TYPER [
        /// Physical LPIs are supported.
        PLPIS OFFSET(0) NUMBITS(1) [],
        /// Number that stands for this redistributor in commands when GITS_TYPER.PTA is 0.
        Processor_Number OFFSET(8) NUMBITS(16) []
    ],
    /// GICR_PROPBASER (12.11.33).
    pub GICR_PROPBASER [
        /// Inner cacheability.
        InnerCache OFFSET(7) NUMBITS(3) [],
        /// Bits 51:12 of the address.
        Address OFFSET(12) NUMBITS(40) [],
        /// 1 = inner shareable.
        Shareability OFFSET(10) NUMBITS(2) [],
        /// Bits of an INTID, minus one.
        IDbits OFFSET(0) NUMBITS(5) []
    ],
    /// GICR_PENDBASER (12.11.32).
    pub GICR_PENDBASER [
        /// The table is all zero: the redistributor need not read it.
        PTZ OFFSET(62) NUMBITS(1) [],
        /// Inner cacheability.
        InnerCache OFFSET(7) NUMBITS(3) [],
        /// Bits 51:16 of the address.
        Address OFFSET(16) NUMBITS(36) [],
        /// 1 = inner shareable.
        Shareability OFFSET(10) NUMBITS(2) []
    ]
];

/// Inner write-back, read- and write-allocate.
pub const CACHE_RAWAWB: u64 = 7;
/// Inner shareable.
pub const INNER_SHAREABLE: u64 = 1;

/// Control.
pub const CTLR: Reg<u32, GITS_CTLR::Register> = Reg::at(0x0000);
/// What the ITS offers.
pub const TYPER: Reg<u64, GITS_TYPER::Register> = Reg::at(0x0008);
/// Where the command queue is.
pub const CBASER: Reg<u64, GITS_CBASER::Register> = Reg::at(0x0080);
/// Byte offset of the next free slot.
pub const CWRITER: Reg<u64> = Reg::at(0x0088);
/// Byte offset of the next command to execute.
pub const CREADR: Reg<u64, GITS_CREADR::Register> = Reg::at(0x0090);
/// Tables, eight of them, 8 bytes apart.
pub const BASER: Reg<u64, GITS_BASER::Register> = Reg::at(0x0100);
/// Offset of GITS_TRANSLATER, in the second 64 KiB frame (12.18).
pub const TRANSLATER: u64 = 0x1_0040;

/// Redistributor control.
pub const R_CTLR: Reg<u32, GICR_CTLR::Register> = Reg::at(0x0000);
/// What the redistributor offers.
pub const R_TYPER: Reg<u64, GICR_TYPER::Register> = Reg::at(0x0008);
/// LPI configuration table.
pub const R_PROPBASER: Reg<u64, GICR_PROPBASER::Register> = Reg::at(0x0070);
/// LPI pending table.
pub const R_PENDBASER: Reg<u64, GICR_PENDBASER::Register> = Reg::at(0x0078);
