//! The driver (IHI 0048, chapters 4 and 5).
use core::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::{barrier, mmio::Mmio};

use crate::{
    Ack, FIRST_SPI, Gic, GicError, ListRegister, MAX_CORES, MaintenanceControl, Trigger, Version,
    interrupt::FIRST_SPECIAL,
};

/// Priority of every interrupt unless configured otherwise.
const PRIORITY: u8 = 0xa0;

/// Distributor registers (4.3).
mod gicd {
    pub const CTLR: u64 = 0x0;
    pub const TYPER: u64 = 0x4;
    pub const IGROUPR: u64 = 0x80;
    pub const ISENABLER: u64 = 0x100;
    pub const ICENABLER: u64 = 0x180;
    pub const ICPENDR: u64 = 0x280;
    pub const ICACTIVER: u64 = 0x380;
    pub const IPRIORITYR: u64 = 0x400;
    pub const ITARGETSR: u64 = 0x800;
    pub const ICFGR: u64 = 0xc00;
    pub const SGIR: u64 = 0xf00;
}

/// CPU interface registers (4.4).
mod gicc {
    pub const CTLR: u64 = 0x0;
    pub const PMR: u64 = 0x4;
    pub const IAR: u64 = 0xc;
    pub const EOIR: u64 = 0x10;
    pub const DIR: u64 = 0x1000;
    /// EnableGrp1 as Non-secure software sees it, EOImodeNS at both of its places (4.4.1).
    pub const ENABLE: u32 = 1 | 1 << 9 | 1 << 10;
}

/// Virtual interface control registers (5.3).
mod gich {
    pub const HCR: u64 = 0x0;
    pub const VTR: u64 = 0x4;
    pub const VMCR: u64 = 0x8;
    pub const APR: u64 = 0xf0;
    pub const LR: u64 = 0x100;
}

/// Where a GICv2 stands.
#[derive(Clone)]
pub struct GicV2Regions {
    /// GICD.
    pub distributor: Mmio,
    /// GICC, two pages.
    pub cpu: Mmio,
    /// GICH.
    pub control: Mmio,
}

/// A GICv2.
pub struct GicV2 {
    regions: GicV2Regions,
    interrupts: u32,
    /// The same on every core; asked for at every entry into a guest.
    list_registers: usize,
    /// The CPU interface of each core as a bit of ITARGETSR, 0 before [`Gic::init_cpu`].
    interface: [AtomicU32; MAX_CORES],
}

impl GicV2 {
    /// Takes the distributor into service: all shared interrupts off, level, at one priority.
    ///
    /// # Errors
    /// [`GicError::NoVirtualInterface`] when GICH does not answer as one.
    pub fn new(regions: GicV2Regions) -> Result<Self, GicError> {
        if regions.control.bytes() < 0x200 || regions.cpu.bytes() < 0x1004 {
            return Err(GicError::NoVirtualInterface);
        }
        let registers = &regions.distributor;
        let interrupts = (32 * ((registers.read32(gicd::TYPER) & 0x1f) + 1)).min(FIRST_SPECIAL);
        registers.write32(gicd::CTLR, 0);
        for word in 1..u64::from(interrupts.div_ceil(32)) {
            registers.write32(gicd::ICENABLER + 4 * word, !0);
            registers.write32(gicd::ICPENDR + 4 * word, !0);
            registers.write32(gicd::ICACTIVER + 4 * word, !0);
            // Ignored from the Non-secure side, where all are group 1 already.
            registers.write32(gicd::IGROUPR + 4 * word, 0);
            registers.write32(gicd::ICFGR + 8 * word, 0);
            registers.write32(gicd::ICFGR + 8 * word + 4, 0);
        }
        for word in 8..u64::from(interrupts / 4) {
            registers.write32(gicd::IPRIORITYR + 4 * word, u32::from_ne_bytes([PRIORITY; 4]));
            registers.write32(gicd::ITARGETSR + 4 * word, 0);
        }
        registers.write32(gicd::CTLR, 1);
        let list_registers = ((regions.control.read32(gich::VTR) & 0x3f) + 1) as usize;
        let interface = [const { AtomicU32::new(0) }; MAX_CORES];
        Ok(Self { regions, interrupts, list_registers, interface })
    }

    fn check(&self, intid: u32) -> Result<u64, GicError> {
        match intid < self.interrupts {
            true => Ok(u64::from(intid)),
            false => Err(GicError::NoSuchInterrupt(intid)),
        }
    }

    fn target(&self, core: usize) -> Option<u32> {
        let bit = self.interface.get(core)?.load(Ordering::Relaxed);
        (bit != 0).then_some(bit)
    }
}

impl Gic for GicV2 {
    fn version(&self) -> Version {
        Version::V2
    }

    fn init_cpu(&self, core: usize, mpidr: u64) -> Result<(), GicError> {
        let slot = self.interface.get(core).ok_or(GicError::NoSuchCore(core))?;
        let registers = &self.regions.distributor;
        registers.write32(gicd::ICENABLER, !0);
        registers.write32(gicd::ICPENDR, !0);
        registers.write32(gicd::ICACTIVER, !0);
        registers.write32(gicd::IGROUPR, 0);
        for word in 0..8 {
            registers.write32(gicd::IPRIORITYR + 4 * word, u32::from_ne_bytes([PRIORITY; 4]));
        }
        // The private interrupts' targets read as the reading core's own interface (4.3.12); a
        // controller for a single core reads as zero.
        let targets = registers.read32(gicd::ITARGETSR);
        let own = (targets | targets >> 8 | targets >> 16 | targets >> 24) & 0xff;
        let fallback = 1u32.checked_shl((mpidr & 7) as u32).unwrap_or(1);
        slot.store(if own != 0 { own } else { fallback }, Ordering::Relaxed);
        self.reset_virtual();
        self.regions.cpu.write32(gicc::PMR, 0xff);
        self.regions.cpu.write32(gicc::CTLR, gicc::ENABLE);
        registers.write32(gicd::ISENABLER, 1 << crate::KICK_SGI);
        Ok(())
    }

    fn acknowledge(&self) -> Option<Ack> {
        let ack = Ack::from_raw(self.regions.cpu.read32(gicc::IAR) & 0x1fff);
        barrier::dsb_sy();
        (ack.intid() < FIRST_SPECIAL).then_some(ack)
    }

    fn priority_drop(&self, ack: Ack) {
        self.regions.cpu.write32(gicc::EOIR, ack.raw());
    }

    fn deactivate(&self, ack: Ack) {
        barrier::dsb_sy();
        self.regions.cpu.write32(gicc::DIR, ack.raw());
    }

    fn send_sgi(&self, core: usize, sgi: u32) {
        if let Some(target) = self.target(core) {
            barrier::dsb_ishst();
            self.regions.distributor.write32(gicd::SGIR, target << 16 | sgi & 0xf);
        }
    }

    fn set_enabled(&self, intid: u32, enabled: bool) -> Result<(), GicError> {
        let word = self.check(intid)? / 32;
        let base = if enabled { gicd::ISENABLER } else { gicd::ICENABLER };
        self.regions.distributor.write32(base + 4 * word, 1 << (intid % 32));
        Ok(())
    }

    fn configure(&self, intid: u32, trigger: Trigger, priority: u8) -> Result<(), GicError> {
        let registers = &self.regions.distributor;
        let number = self.check(intid)?;
        registers.write8(gicd::IPRIORITYR + number, priority);
        let at = gicd::ICFGR + 4 * (number / 16);
        let bit = 2 << (intid % 16 * 2);
        let old = registers.read32(at);
        let new = if trigger == Trigger::Edge { old | bit } else { old & !bit };
        if new != old {
            registers.write32(at, new);
        }
        Ok(())
    }

    fn clear(&self, intid: u32) -> Result<(), GicError> {
        let (word, bit) = (4 * (self.check(intid)? / 32), 1 << (intid % 32));
        // 4.3.10, 4.3.8.
        self.regions.distributor.write32(gicd::ICACTIVER + word, bit);
        self.regions.distributor.write32(gicd::ICPENDR + word, bit);
        Ok(())
    }

    fn route(&self, spi: u32, core: usize) -> Result<(), GicError> {
        if spi < FIRST_SPI {
            return Err(GicError::NoSuchInterrupt(spi));
        }
        let number = self.check(spi)?;
        let target = self.target(core).ok_or(GicError::NoSuchCore(core))?;
        self.regions.distributor.write8(gicd::ITARGETSR + number, target as u8);
        Ok(())
    }

    fn list_registers(&self) -> usize {
        self.list_registers
    }

    fn read_lr(&self, index: usize) -> ListRegister {
        ListRegister::from_v2(self.regions.control.read32(gich::LR + 4 * index as u64))
    }

    fn write_lr(&self, index: usize, lr: ListRegister) {
        self.regions.control.write32(gich::LR + 4 * index as u64, lr.to_v2());
    }

    fn set_maintenance(&self, control: MaintenanceControl) {
        self.regions.control.write32(gich::HCR, control.bits());
    }

    fn unmatched_ends(&self) -> u32 {
        self.regions.control.read32(gich::HCR) >> 27
    }

    fn reset_virtual(&self) {
        let registers = &self.regions.control;
        registers.write32(gich::HCR, 0);
        registers.write32(gich::VMCR, 0);
        registers.write32(gich::APR, 0);
        for index in 0..self.list_registers() as u64 {
            registers.write32(gich::LR + 4 * index, 0);
        }
    }
}
