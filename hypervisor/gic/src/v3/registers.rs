//! Register offsets and fields (IHI 0069, 12.8 to 12.11).
use palisade_hal::mmio::Reg;
use tock_registers::register_bitfields;

register_bitfields![u32,
    /// GICD_CTLR as Non-secure software sees it (12.9.4).
    pub GICD_CTLR [
        EnableGrp1 OFFSET(0) NUMBITS(1) [],
        EnableGrp1A OFFSET(1) NUMBITS(1) [],
        ARE OFFSET(4) NUMBITS(1) []
    ],
    /// GICD_TYPER (12.9.38).
    pub GICD_TYPER [
        ITLinesNumber OFFSET(0) NUMBITS(5) []
    ],
    /// GICR_WAKER (12.11.42).
    pub GICR_WAKER [
        ProcessorSleep OFFSET(1) NUMBITS(1) [],
        ChildrenAsleep OFFSET(2) NUMBITS(1) []
    ]
];

/// GICD_CTLR.
pub const CTLR: Reg<u32, GICD_CTLR::Register> = Reg::at(0x0);
/// GICD_TYPER.
pub const TYPER: Reg<u32, GICD_TYPER::Register> = Reg::at(0x4);
/// RWP, a write still on its way: bit 31 of GICD_CTLR.
pub const GICD_RWP: u32 = 31;
/// RWP of GICR_CTLR, which is at offset 0 too (12.11.2).
pub const GICR_RWP: u32 = 3;
/// GICR_TYPER: affinity in bits 63:32, Last in bit 4, VLPIS in bit 1 (12.11.41).
pub const RD_TYPER: u64 = 0x8;
/// GICR_WAKER.
pub const RD_WAKER: Reg<u32, GICR_WAKER::Register> = Reg::at(0x14);

/// `GICD_IGROUPR<n>`; this and the next at the same offset in a redistributor's second frame.
pub const IGROUPR: u64 = 0x80;
/// `GICD_ISENABLER<n>`.
pub const ISENABLER: u64 = 0x100;
/// `GICD_ICENABLER<n>`.
pub const ICENABLER: u64 = 0x180;
/// `GICD_ICPENDR<n>`.
pub const ICPENDR: u64 = 0x280;
/// `GICD_ICACTIVER<n>`.
pub const ICACTIVER: u64 = 0x380;
/// `GICD_IPRIORITYR<n>`.
pub const IPRIORITYR: u64 = 0x400;
/// `GICD_ICFGR<n>`.
pub const ICFGR: u64 = 0xc00;
/// `GICD_IROUTER<n>`, indexed by INTID.
pub const IROUTER: u64 = 0x6000;

/// Bytes of one redistributor frame.
pub const FRAME: u64 = 0x1_0000;
