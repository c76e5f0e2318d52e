//! Register offsets (§6.2) and the fields of those that software and a virtual SMMU both handle.

/// Bytes of the two register pages (§6.2): page 1 starts 64 KiB above page 0.
pub const REGISTER_BYTES: u64 = 0x2_0000;

/// SMMU_IDR0 to SMMU_IDR5 (§6.3.1 to §6.3.6).
pub const IDR0: u64 = 0x00;
/// SMMU_IDR1.
pub const IDR1: u64 = 0x04;
/// SMMU_IDR2.
pub const IDR2: u64 = 0x08;
/// SMMU_IDR3.
pub const IDR3: u64 = 0x0c;
/// SMMU_IDR4.
pub const IDR4: u64 = 0x10;
/// SMMU_IDR5.
pub const IDR5: u64 = 0x14;
/// SMMU_IIDR (§6.3.7).
pub const IIDR: u64 = 0x18;
/// SMMU_AIDR (§6.3.8).
pub const AIDR: u64 = 0x1c;
/// SMMU_CR0 (§6.3.9).
pub const CR0: u64 = 0x20;
/// SMMU_CR0ACK (§6.3.10).
pub const CR0ACK: u64 = 0x24;
/// SMMU_CR1 (§6.3.11).
pub const CR1: u64 = 0x28;
/// SMMU_CR2 (§6.3.12).
pub const CR2: u64 = 0x2c;
/// SMMU_GBPA (§6.3.14).
pub const GBPA: u64 = 0x44;
/// SMMU_IRQ_CTRL (§6.3.16).
pub const IRQ_CTRL: u64 = 0x50;
/// SMMU_IRQ_CTRLACK (§6.3.17).
pub const IRQ_CTRLACK: u64 = 0x54;
/// SMMU_GERROR (§6.3.18).
pub const GERROR: u64 = 0x60;
/// SMMU_GERRORN (§6.3.19).
pub const GERRORN: u64 = 0x64;
/// SMMU_GERROR_IRQ_CFG0 (§6.3.20): address of the message, 64 bits, 0 = none.
pub const GERROR_IRQ_CFG0: u64 = 0x68;
/// SMMU_GERROR_IRQ_CFG1: data of the message.
pub const GERROR_IRQ_CFG1: u64 = 0x70;
/// SMMU_GERROR_IRQ_CFG2: attributes of the message.
pub const GERROR_IRQ_CFG2: u64 = 0x74;
/// SMMU_STRTAB_BASE (§6.3.23), 64 bits.
pub const STRTAB_BASE: u64 = 0x80;
/// SMMU_STRTAB_BASE_CFG (§6.3.24).
pub const STRTAB_BASE_CFG: u64 = 0x88;
/// SMMU_CMDQ_BASE (§6.3.25), 64 bits.
pub const CMDQ_BASE: u64 = 0x90;
/// SMMU_CMDQ_PROD (§6.3.26).
pub const CMDQ_PROD: u64 = 0x98;
/// SMMU_CMDQ_CONS (§6.3.27).
pub const CMDQ_CONS: u64 = 0x9c;
/// SMMU_EVENTQ_BASE (§6.3.28), 64 bits.
pub const EVENTQ_BASE: u64 = 0xa0;
/// SMMU_EVENTQ_IRQ_CFG0 (§6.3.31), 64 bits.
pub const EVENTQ_IRQ_CFG0: u64 = 0xb0;
/// SMMU_EVENTQ_IRQ_CFG1.
pub const EVENTQ_IRQ_CFG1: u64 = 0xb8;
/// SMMU_EVENTQ_IRQ_CFG2.
pub const EVENTQ_IRQ_CFG2: u64 = 0xbc;
/// SMMU_EVENTQ_PROD, on page 1.
pub const EVENTQ_PROD: u64 = 0x1_00a8;
/// SMMU_EVENTQ_CONS, on page 1.
pub const EVENTQ_CONS: u64 = 0x1_00ac;

/// CR0.SMMUEN.
pub const SMMUEN: u32 = 1 << 0;
/// CR0.EVENTQEN.
pub const EVENTQEN: u32 = 1 << 2;
/// CR0.CMDQEN.
pub const CMDQEN: u32 = 1 << 3;
/// CR0.ATSCHK.
pub const ATSCHK: u32 = 1 << 4;
/// GBPA.Update.
pub const GBPA_UPDATE: u32 = 1 << 31;
/// GBPA.ABORT.
pub const GBPA_ABORT: u32 = 1 << 20;
/// IRQ_CTRL.GERROR_IRQEN.
pub const GERROR_IRQEN: u32 = 1 << 0;
/// IRQ_CTRL.EVENTQ_IRQEN.
pub const EVENTQ_IRQEN: u32 = 1 << 2;
/// GERROR.CMDQ_ERR.
pub const CMDQ_ERR: u32 = 1 << 0;
/// GERROR.EVENTQ_ABT_ERR.
pub const EVENTQ_ABT_ERR: u32 = 1 << 2;
/// GERROR.MSI_CMDQ_ABT_ERR.
pub const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
/// GERROR.MSI_EVENTQ_ABT_ERR.
pub const MSI_EVENTQ_ABT_ERR: u32 = 1 << 5;
/// GERROR.MSI_GERROR_ABT_ERR.
pub const MSI_GERROR_ABT_ERR: u32 = 1 << 7;
/// CMDQ_CONS.ERR is at bits 30:24.
pub const CONS_ERR_SHIFT: u32 = 24;
/// CMDQ_CONS.ERR: no error.
pub const CERROR_NONE: u32 = 0;
/// CMDQ_CONS.ERR: the command is illegal (§7.1).
pub const CERROR_ILL: u32 = 1;
/// CMDQ_CONS.ERR: the command could not be read (§7.1).
pub const CERROR_ABT: u32 = 2;
/// OVFLG of EVENTQ_PROD, OVACKFLG of EVENTQ_CONS (§7.4).
pub const OVERFLOW: u32 = 1 << 31;
