//! Registers (§6.3), with the manual's names and offsets.

use palisade_hal::mmio::Reg;
use palisade_spec::register;
use tock_registers::register_bitfields;

register_bitfields![u32,
    pub IDR0 [
        ST_LEVEL OFFSET(27) NUMBITS(2) [],
        TERM_MODEL OFFSET(26) NUMBITS(1) [],
        STALL_MODEL OFFSET(24) NUMBITS(2) [Both = 0, NoStall = 1, Force = 2],
        TTENDIAN OFFSET(21) NUMBITS(2) [Mixed = 0, Little = 2, Big = 3],
        VATOS OFFSET(20) NUMBITS(1) [],
        CD2L OFFSET(19) NUMBITS(1) [],
        VMID16 OFFSET(18) NUMBITS(1) [],
        VMW OFFSET(17) NUMBITS(1) [],
        PRI OFFSET(16) NUMBITS(1) [],
        ATOS OFFSET(15) NUMBITS(1) [],
        SEV OFFSET(14) NUMBITS(1) [],
        MSI OFFSET(13) NUMBITS(1) [],
        ASID16 OFFSET(12) NUMBITS(1) [],
        NS1ATS OFFSET(11) NUMBITS(1) [],
        ATS OFFSET(10) NUMBITS(1) [],
        HYP OFFSET(9) NUMBITS(1) [],
        HTTU OFFSET(6) NUMBITS(2) [],
        BTM OFFSET(5) NUMBITS(1) [],
        COHACC OFFSET(4) NUMBITS(1) [],
        TTF OFFSET(2) NUMBITS(2) [],
        S1P OFFSET(1) NUMBITS(1) [],
        S2P OFFSET(0) NUMBITS(1) [],
    ],
    pub IDR1 [
        TABLES_PRESET OFFSET(30) NUMBITS(1) [],
        QUEUES_PRESET OFFSET(29) NUMBITS(1) [],
        REL OFFSET(28) NUMBITS(1) [],
        ATTR_TYPES_OVR OFFSET(27) NUMBITS(1) [],
        CMDQS OFFSET(21) NUMBITS(5) [],
        EVENTQS OFFSET(16) NUMBITS(5) [],
        PRIQS OFFSET(11) NUMBITS(5) [],
        SSIDSIZE OFFSET(6) NUMBITS(5) [],
        SIDSIZE OFFSET(0) NUMBITS(6) [],
    ],
    pub IDR3 [
        BBML OFFSET(11) NUMBITS(2) [],
        RIL OFFSET(10) NUMBITS(1) [],
        FWB OFFSET(8) NUMBITS(1) [],
    ],
    pub IDR5 [
        STALL_MAX OFFSET(16) NUMBITS(16) [],
        VAX OFFSET(10) NUMBITS(2) [],
        DS OFFSET(7) NUMBITS(1) [],
        GRAN64K OFFSET(6) NUMBITS(1) [],
        GRAN16K OFFSET(5) NUMBITS(1) [],
        GRAN4K OFFSET(4) NUMBITS(1) [],
        OAS OFFSET(0) NUMBITS(3) [],
    ],
    pub CR0 [
        ATSCHK OFFSET(4) NUMBITS(1) [],
        CMDQEN OFFSET(3) NUMBITS(1) [],
        EVENTQEN OFFSET(2) NUMBITS(1) [],
        PRIQEN OFFSET(1) NUMBITS(1) [],
        SMMUEN OFFSET(0) NUMBITS(1) [],
    ],
    pub CR1 [
        TABLE_SH OFFSET(10) NUMBITS(2) [NonShareable = 0, Outer = 2, Inner = 3],
        TABLE_OC OFFSET(8) NUMBITS(2) [NonCacheable = 0, WriteBack = 1],
        TABLE_IC OFFSET(6) NUMBITS(2) [NonCacheable = 0, WriteBack = 1],
        QUEUE_SH OFFSET(4) NUMBITS(2) [NonShareable = 0, Outer = 2, Inner = 3],
        QUEUE_OC OFFSET(2) NUMBITS(2) [NonCacheable = 0, WriteBack = 1],
        QUEUE_IC OFFSET(0) NUMBITS(2) [NonCacheable = 0, WriteBack = 1],
    ],
    pub CR2 [
        PTM OFFSET(2) NUMBITS(1) [],
        RECINVSID OFFSET(1) NUMBITS(1) [],
        E2H OFFSET(0) NUMBITS(1) [],
    ],
    pub GBPA [
        UPDATE OFFSET(31) NUMBITS(1) [],
        ABORT OFFSET(20) NUMBITS(1) [],
    ],
    pub IRQ_CTRL [
        EVENTQ_IRQEN OFFSET(2) NUMBITS(1) [],
        PRIQ_IRQEN OFFSET(1) NUMBITS(1) [],
        GERROR_IRQEN OFFSET(0) NUMBITS(1) [],
    ],
    pub GERROR [
        SFM_ERR OFFSET(8) NUMBITS(1) [],
        MSI_GERROR_ABT_ERR OFFSET(7) NUMBITS(1) [],
        MSI_PRIQ_ABT_ERR OFFSET(6) NUMBITS(1) [],
        MSI_EVENTQ_ABT_ERR OFFSET(5) NUMBITS(1) [],
        MSI_CMDQ_ABT_ERR OFFSET(4) NUMBITS(1) [],
        PRIQ_ABT_ERR OFFSET(3) NUMBITS(1) [],
        EVENTQ_ABT_ERR OFFSET(2) NUMBITS(1) [],
        CMDQ_ERR OFFSET(0) NUMBITS(1) [],
    ],
    pub STRTAB_BASE_CFG [
        FMT OFFSET(16) NUMBITS(2) [Linear = 0, TwoLevel = 1],
        SPLIT OFFSET(6) NUMBITS(5) [],
        LOG2SIZE OFFSET(0) NUMBITS(6) [],
    ],
    pub CMDQ_CONS [
        ERR OFFSET(24) NUMBITS(7) [None = 0, Ill = 1, Abt = 2, AtcInvSync = 3],
    ],
];

/// SMMU_IDR0 (§6.3.1).
pub const IDR0: Reg<u32, IDR0::Register> = Reg::at(register::IDR0);
/// SMMU_IDR1 (§6.3.2).
pub const IDR1: Reg<u32, IDR1::Register> = Reg::at(register::IDR1);
/// SMMU_IDR3 (§6.3.4).
pub const IDR3: Reg<u32, IDR3::Register> = Reg::at(register::IDR3);
/// SMMU_IDR5 (§6.3.6).
pub const IDR5: Reg<u32, IDR5::Register> = Reg::at(register::IDR5);
/// SMMU_IIDR (§6.3.7).
pub const IIDR: Reg<u32> = Reg::at(register::IIDR);
/// SMMU_CR0 (§6.3.9).
pub const CR0: Reg<u32, CR0::Register> = Reg::at(register::CR0);
/// SMMU_CR0ACK (§6.3.10).
pub const CR0ACK: Reg<u32, CR0::Register> = Reg::at(register::CR0ACK);
/// SMMU_CR1 (§6.3.11).
pub const CR1: Reg<u32, CR1::Register> = Reg::at(register::CR1);
/// SMMU_CR2 (§6.3.12).
pub const CR2: Reg<u32, CR2::Register> = Reg::at(register::CR2);
/// SMMU_GBPA (§6.3.14).
pub const GBPA: Reg<u32, GBPA::Register> = Reg::at(register::GBPA);
/// SMMU_IRQ_CTRL (§6.3.16).
pub const IRQ_CTRL: Reg<u32, IRQ_CTRL::Register> = Reg::at(register::IRQ_CTRL);
/// SMMU_IRQ_CTRLACK (§6.3.18).
pub const IRQ_CTRLACK: Reg<u32, IRQ_CTRL::Register> = Reg::at(register::IRQ_CTRLACK);
/// SMMU_GERROR (§6.3.19).
pub const GERROR: Reg<u32, GERROR::Register> = Reg::at(register::GERROR);
/// SMMU_GERRORN (§6.3.20).
pub const GERRORN: Reg<u32, GERROR::Register> = Reg::at(register::GERRORN);
/// SMMU_GERROR_IRQ_CFG0 (§6.3.21): address of the message, 0 = none.
pub const GERROR_IRQ_CFG0: Reg<u64> = Reg::at(register::GERROR_IRQ_CFG0);
/// SMMU_STRTAB_BASE (§6.3.24).
pub const STRTAB_BASE: Reg<u64> = Reg::at(register::STRTAB_BASE);
/// SMMU_STRTAB_BASE_CFG (§6.3.25).
pub const STRTAB_BASE_CFG: Reg<u32, STRTAB_BASE_CFG::Register> = Reg::at(register::STRTAB_BASE_CFG);
/// SMMU_CMDQ_BASE (§6.3.26).
pub const CMDQ_BASE: Reg<u64> = Reg::at(register::CMDQ_BASE);
/// SMMU_CMDQ_PROD (§6.3.27).
pub const CMDQ_PROD: Reg<u32> = Reg::at(register::CMDQ_PROD);
/// SMMU_CMDQ_CONS (§6.3.28).
pub const CMDQ_CONS: Reg<u32, CMDQ_CONS::Register> = Reg::at(register::CMDQ_CONS);
/// SMMU_EVENTQ_BASE (§6.3.29).
pub const EVENTQ_BASE: Reg<u64> = Reg::at(register::EVENTQ_BASE);
/// SMMU_EVENTQ_IRQ_CFG0 (§6.3.30).
pub const EVENTQ_IRQ_CFG0: Reg<u64> = Reg::at(register::EVENTQ_IRQ_CFG0);
/// SMMU_PRIQ_BASE (§6.3.33).
pub const PRIQ_BASE: Reg<u64> = Reg::at(0xc0);
/// SMMU_PRIQ_IRQ_CFG0 (§6.3.34).
pub const PRIQ_IRQ_CFG0: Reg<u64> = Reg::at(0xd0);
/// SMMU_EVENTQ_PROD (§6.3.95), on page 1.
pub const EVENTQ_PROD: Reg<u32> = Reg::at(register::EVENTQ_PROD);
/// SMMU_EVENTQ_CONS (§6.3.96), on page 1.
pub const EVENTQ_CONS: Reg<u32> = Reg::at(register::EVENTQ_CONS);
/// SMMU_PRIQ_PROD (§6.3.97), on page 1.
pub const PRIQ_PROD: Reg<u32> = Reg::at(0x1_00c8);
/// SMMU_PRIQ_CONS (§6.3.98), on page 1.
pub const PRIQ_CONS: Reg<u32> = Reg::at(0x1_00cc);

/// RA of STRTAB_BASE, RA of CMDQ_BASE, WA of EVENTQ_BASE and PRIQ_BASE: an allocation hint.
pub const BASE_ALLOCATE: u64 = 1 << 62;
/// OVFLG of EVENTQ_PROD and PRIQ_PROD, OVACKFLG of the CONS registers (§6.3.95, §6.3.96).
pub const OVERFLOW: u32 = register::OVERFLOW;
