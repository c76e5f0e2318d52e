//! The register pages (chapter 6): offsets, write protection, delayed acknowledgement.

use crate::bits::{mask, ones};
use crate::driver_fault::DriverFault;
use crate::model::Model;
use crate::queue::Queue;

/// CR0.SMMUEN (6.3.9).
pub(crate) const SMMUEN: u32 = 1 << 0;
/// CR0.PRIQEN.
pub(crate) const PRIQEN: u32 = 1 << 1;
/// CR0.EVENTQEN.
pub(crate) const EVENTQEN: u32 = 1 << 2;
/// CR0.CMDQEN.
pub(crate) const CMDQEN: u32 = 1 << 3;
/// CR0.ATSCHK.
pub(crate) const ATSCHK: u32 = 1 << 4;
/// CR2.RECINVSID (6.3.12).
pub(crate) const RECINVSID: u32 = 1 << 1;
/// CR2.REC_CFG_ATS.
pub(crate) const REC_CFG_ATS: u32 = 1 << 3;
/// GBPA.Update (6.3.14).
pub(crate) const GBPA_UPDATE: u32 = 1 << 31;
/// GBPA.ABORT.
pub(crate) const GBPA_ABORT: u32 = 1 << 20;

/// GERROR.CMDQ_ERR (6.3.19).
pub(crate) const CMDQ_ERR: u32 = 1 << 0;
/// GERROR.EVENTQ_ABT_ERR.
pub(crate) const EVENTQ_ABT_ERR: u32 = 1 << 2;
/// GERROR.PRIQ_ABT_ERR.
pub(crate) const PRIQ_ABT_ERR: u32 = 1 << 3;
/// GERROR.MSI_CMDQ_ABT_ERR.
pub(crate) const MSI_CMDQ_ABT_ERR: u32 = 1 << 4;
/// GERROR.MSI_EVENTQ_ABT_ERR.
pub(crate) const MSI_EVENTQ_ABT_ERR: u32 = 1 << 5;
/// GERROR.MSI_PRIQ_ABT_ERR.
pub(crate) const MSI_PRIQ_ABT_ERR: u32 = 1 << 6;
/// GERROR.MSI_GERROR_ABT_ERR.
pub(crate) const MSI_GERROR_ABT_ERR: u32 = 1 << 7;
/// GERROR.SFM_ERR.
pub(crate) const SFM_ERR: u32 = 1 << 8;
const GERROR_ALL: u32 = 0x1fd;

/// An interrupt's address, payload and attributes (CFG0 to CFG2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct InterruptConfig {
    pub address: u64,
    pub data: u32,
    pub attributes: u32,
}

/// The state behind both pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registers {
    pub cr0: u32,
    pub cr0ack: u32,
    pub cr1: u32,
    pub cr2: u32,
    pub gbpa: u32,
    /// What bypassing transactions obey: GBPA once Update has completed.
    pub gbpa_effective: u32,
    pub irq_ctrl: u32,
    pub irq_ctrlack: u32,
    pub gerror: u32,
    pub gerrorn: u32,
    /// GERROR, EVENTQ, PRIQ.
    pub interrupts: [InterruptConfig; 3],
    pub strtab_base: u64,
    pub strtab_cfg: u32,
    pub cmdq: Queue,
    pub cmdq_error: u32,
    pub evtq: Queue,
    pub priq: Queue,
}

impl Registers {
    /// The errors that software has not acknowledged.
    pub fn active_errors(&self) -> u32 {
        (self.gerror ^ self.gerrorn) & GERROR_ALL
    }

    /// Whether a CR0 function is, or is becoming, enabled.
    fn busy(&self, bits: u32) -> bool {
        (self.cr0 | self.cr0ack) & bits != 0
    }
}

/// The 64-bit registers; everything else is 32 bits wide.
const WIDE: [u64; 7] = [0x68, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0];

impl Model {
    /// Reads a register: `width` is 4 or 8 bytes.
    pub fn mmio_read(&mut self, offset: u64, width: u32) -> u64 {
        self.counters.reads += 1;
        if !self.check_width(offset, width) {
            return 0;
        }
        let wide = offset & !7;
        if width == 4 && WIDE.contains(&wide) {
            return self.read_register(wide) >> ((offset & 4) * 8) & 0xffff_ffff;
        }
        self.read_register(offset)
    }

    fn check_width(&mut self, offset: u64, width: u32) -> bool {
        let wide = WIDE.contains(&(offset & !7));
        let good = match width {
            4 => offset & 3 == 0,
            8 => wide && offset & 7 == 0,
            _ => false,
        };
        if !good {
            self.blame(DriverFault::Width { offset, width });
        }
        good
    }

    fn read_register(&mut self, offset: u64) -> u64 {
        let regs = &self.regs;
        let value = match offset {
            0x00 => self.features.idr0(),
            0x04 => self.features.idr1(),
            0x08 => 0,
            0x0c => self.features.idr3(),
            0x10 => 0,
            0x14 => self.features.idr5(),
            0x18 => self.features.iidr,
            0x1c => self.features.version,
            0x20 => regs.cr0,
            0x24 => regs.cr0ack,
            0x28 => regs.cr1,
            0x2c => regs.cr2,
            0x40 | 0x48 => 0,
            0x44 => regs.gbpa,
            0x50 => regs.irq_ctrl,
            0x54 => regs.irq_ctrlack,
            0x60 => regs.gerror,
            0x64 => regs.gerrorn,
            0x68 => return regs.interrupts[0].address,
            0x70 => regs.interrupts[0].data,
            0x74 => regs.interrupts[0].attributes,
            0x80 => return regs.strtab_base,
            0x88 => regs.strtab_cfg,
            0x90 => return regs.cmdq.base,
            0x98 => regs.cmdq.prod,
            0x9c => regs.cmdq.cons | regs.cmdq_error << 24,
            0xa0 => return regs.evtq.base,
            0xb0 => return regs.interrupts[1].address,
            0xb8 => regs.interrupts[1].data,
            0xbc => regs.interrupts[1].attributes,
            0xc0 => return regs.priq.base,
            0xd0 => return regs.interrupts[2].address,
            0xd8 => regs.interrupts[2].data,
            0xdc => regs.interrupts[2].attributes,
            0x1_00a8 => regs.evtq.prod,
            0x1_00ac => regs.evtq.cons,
            0x1_00c8 => regs.priq.prod,
            0x1_00cc => regs.priq.cons,
            _ => {
                self.blame(DriverFault::NoRegister { offset });
                0
            }
        };
        u64::from(value)
    }

    /// Writes a register: `width` is 4 or 8 bytes.
    pub fn mmio_write(&mut self, offset: u64, width: u32, value: u64) {
        self.counters.writes += 1;
        if !self.check_width(offset, width) {
            return;
        }
        let wide = offset & !7;
        if width == 4 && WIDE.contains(&wide) {
            let shift = (offset & 4) * 8;
            let old = self.read_register(wide);
            let value = old & !(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift;
            return self.write_wide(wide, value);
        }
        if width == 8 {
            return self.write_wide(offset, value);
        }
        self.write_word(offset, value as u32);
    }

    /// True, and a fault on record, if `offset` is read-only because of CR0 bits.
    fn protected(&mut self, offset: u64, bits: u32) -> bool {
        let busy = self.regs.busy(bits);
        if busy {
            self.blame(DriverFault::WrittenWhileEnabled { offset });
        }
        busy
    }

    fn reserved(&mut self, what: &'static str, bits: u64) {
        if bits != 0 {
            self.blame(DriverFault::Res0 { what, bits });
        }
    }

    fn write_wide(&mut self, offset: u64, value: u64) {
        match offset {
            0x68 | 0xb0 | 0xd0 => {
                let (index, enable) = match offset {
                    0x68 => (0, 1),
                    0xb0 => (1, 4),
                    _ => (2, 2),
                };
                self.reserved("IRQ_CFG0", value & !mask(55, 2));
                if self.interrupt_protected(offset, enable) {
                    return;
                }
                self.regs.interrupts[index].address = value & mask(55, 2);
            }
            0x80 => {
                self.reserved("STRTAB_BASE", value & !(mask(55, 6) | 1 << 62));
                if !self.protected(offset, SMMUEN) {
                    self.regs.strtab_base = value;
                }
            }
            0x90 | 0xa0 | 0xc0 => {
                let (what, enable) = match offset {
                    0x90 => ("CMDQ_BASE", CMDQEN),
                    0xa0 => ("EVENTQ_BASE", EVENTQEN),
                    _ => ("PRIQ_BASE", PRIQEN),
                };
                self.reserved(what, value & !(mask(55, 5) | mask(4, 0) | 1 << 62));
                if !self.protected(offset, enable) {
                    match offset {
                        0x90 => self.regs.cmdq.base = value,
                        0xa0 => self.regs.evtq.base = value,
                        _ => self.regs.priq.base = value,
                    }
                }
            }
            _ => self.blame(DriverFault::NoRegister { offset }),
        }
    }

    fn interrupt_protected(&mut self, offset: u64, enable: u32) -> bool {
        let busy = (self.regs.irq_ctrl | self.regs.irq_ctrlack) & enable != 0;
        if busy {
            self.blame(DriverFault::WrittenWhileEnabled { offset });
        }
        busy
    }

    fn write_word(&mut self, offset: u64, value: u32) {
        match offset {
            0x00..=0x1c | 0x24 | 0x40 | 0x54 | 0x60 => {
                self.blame(DriverFault::ReadOnly { offset });
            }
            0x20 => self.write_cr0(value),
            0x28 => {
                self.reserved("CR1", u64::from(value & !0xfff));
                let old = self.regs.cr1;
                let tables = (value ^ old) & 0xfc0;
                let queues = (value ^ old) & 0x03f;
                let busy = tables != 0 && self.regs.busy(SMMUEN)
                    || queues != 0 && self.regs.busy(CMDQEN | EVENTQEN | PRIQEN);
                if busy {
                    self.blame(DriverFault::WrittenWhileEnabled { offset });
                } else {
                    self.regs.cr1 = value;
                }
            }
            0x2c => {
                self.reserved("CR2", u64::from(value & !0xf));
                if !self.protected(offset, SMMUEN) {
                    self.regs.cr2 = value & 0xf;
                }
            }
            0x44 => self.write_gbpa(value),
            0x50 => {
                self.reserved("IRQ_CTRL", u64::from(value & !0x7));
                let flux =
                    (self.regs.irq_ctrl ^ self.regs.irq_ctrlack) & (value ^ self.regs.irq_ctrl);
                if flux != 0 {
                    self.blame(DriverFault::UpdateInProgress { offset, bits: flux });
                }
                self.regs.irq_ctrl = (self.regs.irq_ctrl & flux) | (value & 7 & !flux);
                self.arm_register_delay();
            }
            0x64 => {
                let toggled = (value ^ self.regs.gerrorn) & GERROR_ALL;
                let idle = toggled & !self.regs.active_errors();
                if idle != 0 {
                    self.blame(DriverFault::AcknowledgedNothing { bits: idle });
                }
                self.regs.gerrorn = value & GERROR_ALL;
            }
            0x70 | 0x74 | 0xb8 | 0xbc | 0xd8 | 0xdc => {
                let (index, enable) = match offset & 0xf0 {
                    0x70 => (0, 1),
                    0xb0 => (1, 4),
                    _ => (2, 2),
                };
                if self.interrupt_protected(offset, enable) {
                    return;
                }
                if offset & 4 == 0 {
                    self.regs.interrupts[index].data = value;
                } else {
                    self.reserved("IRQ_CFG2", u64::from(value & !0x3f));
                    self.regs.interrupts[index].attributes = value & 0x3f;
                }
            }
            0x88 => {
                self.reserved("STRTAB_BASE_CFG", u64::from(value & !0x3_07ff));
                if !self.protected(offset, SMMUEN) {
                    self.regs.strtab_cfg = value;
                }
            }
            0x98 => {
                self.counters.command_publications += 1;
                let log2 = self.regs.cmdq.log2(self.features.cmdq_log2);
                self.reserved("CMDQ_PROD", u64::from(value) & !ones(log2 + 1));
                self.regs.cmdq.prod = value & ones(log2 + 1) as u32;
                if self.regs.busy(CMDQEN) {
                    let queue = self.regs.cmdq;
                    let used = queue.used(log2);
                    if used.is_none() {
                        self.blame(DriverFault::QueueIndex {
                            what: "command",
                            prod: queue.prod,
                            cons: queue.cons,
                        });
                    }
                }
            }
            0x9c => {
                if !self.protected(offset, CMDQEN) {
                    self.regs.cmdq.cons = value & 0xf_ffff;
                    self.regs.cmdq_error = value >> 24 & 0x7f;
                }
            }
            0x1_00a8 => {
                if !self.protected(offset, EVENTQEN) {
                    self.regs.evtq.prod = value;
                }
            }
            0x1_00ac => {
                self.regs.evtq.cons = value;
                let log2 = self.regs.evtq.log2(self.features.evtq_log2);
                self.check_consumer("event", self.regs.evtq, log2);
            }
            0x1_00c8 => {
                if !self.protected(offset, PRIQEN) {
                    self.regs.priq.prod = value;
                }
            }
            0x1_00cc => {
                self.regs.priq.cons = value;
                let log2 = self.regs.priq.log2(self.features.priq_log2);
                self.check_consumer("page request", self.regs.priq, log2);
            }
            _ => self.blame(DriverFault::NoRegister { offset }),
        }
    }

    fn check_consumer(&mut self, what: &'static str, queue: Queue, log2: u32) {
        let queue_of_indexes = Queue { prod: queue.prod & !(1 << 31), ..queue };
        if queue_of_indexes.used(log2).is_none() {
            self.blame(DriverFault::QueueIndex { what, prod: queue.prod, cons: queue.cons });
        }
    }

    fn write_gbpa(&mut self, value: u32) {
        if value & GBPA_UPDATE == 0 || self.regs.gbpa & GBPA_UPDATE != 0 {
            self.blame(DriverFault::GbpaUpdate { value });
            return;
        }
        self.reserved("GBPA", u64::from(value & 0x7fe0_c0e0));
        self.regs.gbpa = value;
        self.arm_register_delay();
    }

    fn write_cr0(&mut self, value: u32) {
        let mut reserved = value & !0x1f;
        if !self.features.pri {
            reserved |= value & PRIQEN;
        }
        if !self.features.ats {
            reserved |= value & ATSCHK;
        }
        self.reserved("CR0", u64::from(reserved));
        let value = value & !reserved;
        let old = self.regs.cr0;
        let flux = (old ^ self.regs.cr0ack) & (value ^ old);
        if flux != 0 {
            self.blame(DriverFault::UpdateInProgress { offset: 0x20, bits: flux });
        }
        let value = (old & flux) | (value & !flux);
        let rising = value & !old;
        self.regs.cr0 = value;
        self.check_enabling(rising);
        self.arm_register_delay();
    }

    /// What must hold of a base and its configuration when its function is switched on.
    fn check_enabling(&mut self, rising: u32) {
        let queues = [
            ("CMDQ_BASE", CMDQEN, self.regs.cmdq, self.features.cmdq_log2, 4),
            ("EVENTQ_BASE", EVENTQEN, self.regs.evtq, self.features.evtq_log2, 5),
            ("PRIQ_BASE", PRIQEN, self.regs.priq, self.features.priq_log2, 4),
        ];
        for (what, enable, queue, max, entry_log2) in queues {
            if rising & enable == 0 {
                continue;
            }
            let log2 = queue.base as u32 & 0x1f;
            if log2 > max {
                self.blame(DriverFault::Reserved { what, value: u64::from(log2) });
            }
            self.check_base(
                what,
                queue.base & mask(55, 5),
                (1 << (log2.min(max) + entry_log2)).max(32),
            );
        }
        if rising & SMMUEN != 0 {
            let (log2, split, two_level) = self.stream_table_shape();
            if log2 > self.features.sid_bits {
                let value = u64::from(log2);
                self.blame(DriverFault::Reserved { what: "STRTAB_BASE_CFG.LOG2SIZE", value });
            }
            let format = self.regs.strtab_cfg >> 16 & 3;
            if format > 1 || format == 1 && !self.features.two_level_streams {
                let value = u64::from(format);
                self.blame(DriverFault::Reserved { what: "STRTAB_BASE_CFG.FMT", value });
            }
            if two_level && ![6, 8, 10].contains(&split) {
                let value = u64::from(split);
                self.blame(DriverFault::Reserved { what: "STRTAB_BASE_CFG.SPLIT", value });
            }
            let size = if two_level {
                (8u64 << log2.saturating_sub(split).min(32)).max(64)
            } else {
                64 << log2.min(32)
            };
            self.check_base("STRTAB_BASE", self.regs.strtab_base & mask(55, 6), size);
        }
    }

    fn check_base(&mut self, what: &'static str, address: u64, alignment: u64) {
        if address & (alignment - 1) != 0 {
            self.blame(DriverFault::MisalignedBase { what, address, alignment });
        }
        if address >> self.features.oas != 0 {
            self.blame(DriverFault::OutOfRange { what, address });
        }
    }

    /// LOG2SIZE, SPLIT and whether the table has two levels (6.3.25).
    pub(crate) fn stream_table_shape(&self) -> (u32, u32, bool) {
        let cfg = self.regs.strtab_cfg;
        let two_level = cfg >> 16 & 3 == 1 && self.features.two_level_streams;
        (cfg & 0x3f, cfg >> 6 & 0x1f, two_level)
    }

    /// The acknowledgement of a register update comes a few steps later.
    fn arm_register_delay(&mut self) {
        let most = if self.rng.percent(25) { 60 } else { 6 };
        self.register_delay = self.rng.below(most) as u32;
    }

    /// Completes register updates whose delay is over (CR0ACK, IRQ_CTRLACK, GBPA.Update).
    pub(crate) fn finish_registers(&mut self) {
        if self.injected.frozen_registers {
            return;
        }
        if self.register_delay > 0 {
            self.register_delay -= 1;
            return;
        }
        if self.regs.gbpa & GBPA_UPDATE != 0 {
            self.regs.gbpa &= !GBPA_UPDATE;
            self.regs.gbpa_effective = self.regs.gbpa;
        }
        self.regs.irq_ctrlack = self.regs.irq_ctrl;
        let (old, new) = (self.regs.cr0ack, self.regs.cr0);
        if old == new {
            return;
        }
        let falling = old & !new;
        if falling & SMMUEN != 0 {
            self.finish_all_posted();
            self.terminate_all_stalls();
        }
        if falling & EVENTQEN != 0 {
            self.flush_events();
        }
        self.regs.cr0ack = new;
    }
}
