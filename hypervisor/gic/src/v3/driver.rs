//! The driver.
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arm_gic::{
    IntId, InterruptGroup,
    gicv3::{GicCpuInterface, SgiTarget, SgiTargetGroup},
};
use palisade_hal::{
    Deadline, barrier,
    cpu::Counter,
    gic as sysreg,
    guest::{self, Ich},
    mmio::Mmio,
};

use super::registers::*;
use crate::{
    Ack, FIRST_SPI, Gic, GicError, ListRegister, LrState, MAX_CORES, MaintenanceControl, Trigger,
    Version, interrupt::FIRST_SPECIAL,
};

/// Priority of every interrupt unless configured otherwise.
const PRIORITY: u8 = 0xa0;
/// The distributor and a redistributor settle within this many microseconds.
const SETTLE_MICROS: u64 = 100_000;
/// ICC_CTLR_EL1.EOImode: ends drop the priority and deactivate apart (IHI 0069, 12.2.6).
const EOI_MODE: u64 = 1 << 1;
/// A core that was not taken into service as yet.
const NO_CORE: u64 = u64::MAX;

/// A GICv3.
pub struct GicV3 {
    distributor: Mmio,
    redistributors: Vec<Mmio>,
    interrupts: u32,
    /// MPIDR affinity of each core, [`NO_CORE`] before [`Gic::init_cpu`].
    affinity: [AtomicU64; MAX_CORES],
    /// Which region, and at what offset, each core's redistributor stands: region << 48 | offset.
    frame: [AtomicU64; MAX_CORES],
}

impl GicV3 {
    /// Takes the distributor into service: all shared interrupts off, group 1, level, at one
    /// priority. `redistributors` are the regions of redistributor frames.
    ///
    /// # Errors
    /// [`GicError::TimedOut`] when the distributor does not settle.
    pub fn new(distributor: Mmio, redistributors: Vec<Mmio>) -> Result<Self, GicError> {
        let lines = distributor.read(TYPER).read(GICD_TYPER::ITLinesNumber);
        let gic = Self {
            distributor,
            redistributors,
            interrupts: (32 * (lines + 1)).min(FIRST_SPECIAL),
            affinity: [const { AtomicU64::new(NO_CORE) }; MAX_CORES],
            frame: [const { AtomicU64::new(NO_CORE) }; MAX_CORES],
        };
        let registers = &gic.distributor;
        registers.set(CTLR, 0);
        settle(registers, GICD_RWP)?;
        for word in 1..u64::from(gic.interrupts.div_ceil(32)) {
            registers.write32(ICENABLER + 4 * word, !0);
            registers.write32(ICPENDR + 4 * word, !0);
            registers.write32(ICACTIVER + 4 * word, !0);
            registers.write32(IGROUPR + 4 * word, !0);
            registers.write32(ICFGR + 8 * word, 0);
            registers.write32(ICFGR + 8 * word + 4, 0);
        }
        for word in 8..u64::from(gic.interrupts / 4) {
            registers.write32(IPRIORITYR + 4 * word, u32::from_ne_bytes([PRIORITY; 4]));
        }
        settle(registers, GICD_RWP)?;
        // Affinity routing is on before the groups are (12.9.4).
        registers.write(CTLR, GICD_CTLR::ARE::SET);
        settle(registers, GICD_RWP)?;
        registers.write(
            CTLR,
            GICD_CTLR::ARE::SET + GICD_CTLR::EnableGrp1A::SET + GICD_CTLR::EnableGrp1::SET,
        );
        settle(registers, GICD_RWP)?;
        Ok(gic)
    }

    /// How many interrupt numbers the distributor implements, private ones included.
    pub fn interrupts(&self) -> u32 {
        self.interrupts
    }

    /// The first frame of the redistributor of a core in service: its region, its offset there,
    /// and its registers.
    pub fn frame_of(&self, core: usize) -> Option<(usize, u64, Mmio)> {
        let place = self.frame.get(core)?.load(Ordering::Relaxed);
        let (region, offset) = ((place >> 48) as usize, place & 0xffff_ffff_ffff);
        Some((region, offset, self.redistributors.get(region)?.slice(offset, FRAME)))
    }

    /// Finds the redistributor of the core with affinity `mpidr`.
    fn find(&self, mpidr: u64) -> Option<u64> {
        // GICR_TYPER has Aff3.Aff2.Aff1.Aff0 in one word, MPIDR has a gap below Aff3.
        let wanted = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
        for (index, region) in (0u64..).zip(&self.redistributors) {
            let mut offset = 0;
            while offset + 2 * FRAME <= region.bytes() {
                let typer = region.read64(offset + RD_TYPER);
                if typer >> 32 == wanted {
                    return Some(index << 48 | offset);
                }
                if typer >> 4 & 1 != 0 {
                    break;
                }
                // GICv4 redistributors have two frames more (12.10).
                offset += if typer >> 1 & 1 != 0 { 4 } else { 2 } * FRAME;
            }
        }
        None
    }

    /// The two frames of the redistributor of core `core`.
    fn redistributor(&self, core: usize) -> Option<Mmio> {
        let place = self.frame.get(core)?.load(Ordering::Relaxed);
        let region = self.redistributors.get((place >> 48) as usize)?;
        Some(region.slice(place & 0xffff_ffff_ffff, 2 * FRAME))
    }

    /// The registers that hold `intid`, and the control register and bit to settle on.
    fn home(&self, intid: u32) -> Result<(Mmio, Mmio, u32), GicError> {
        if intid < FIRST_SPI {
            let here = palisade_hal::cpu::affinity();
            let core = self
                .affinity
                .iter()
                .position(|slot| slot.load(Ordering::Relaxed) == here)
                .ok_or(GicError::NoRedistributor(here))?;
            let frames = self.redistributor(core).ok_or(GicError::NoSuchCore(core))?;
            Ok((frames.slice(FRAME, FRAME), frames, GICR_RWP))
        } else if intid < self.interrupts {
            Ok((self.distributor.clone(), self.distributor.clone(), GICD_RWP))
        } else {
            Err(GicError::NoSuchInterrupt(intid))
        }
    }

    fn target(&self, core: usize) -> Option<u64> {
        let affinity = self.affinity.get(core)?.load(Ordering::Relaxed);
        (affinity != NO_CORE).then_some(affinity)
    }
}

/// Waits until bit `rwp` of the control register at offset 0 is clear.
fn settle(registers: &Mmio, rwp: u32) -> Result<(), GicError> {
    let done = || registers.read32(0) >> rwp & 1 == 0;
    match Deadline::after(&Counter, SETTLE_MICROS).wait(&Counter, done) {
        true => Ok(()),
        false => Err(GicError::TimedOut(0)),
    }
}

impl Gic for GicV3 {
    fn version(&self) -> Version {
        Version::V3
    }

    fn init_cpu(&self, core: usize, mpidr: u64) -> Result<(), GicError> {
        let (Some(affinity), Some(frame)) = (self.affinity.get(core), self.frame.get(core)) else {
            return Err(GicError::NoSuchCore(core));
        };
        let mpidr = mpidr & 0xff_00ff_ffff;
        frame.store(self.find(mpidr).ok_or(GicError::NoRedistributor(mpidr))?, Ordering::Relaxed);
        affinity.store(mpidr, Ordering::Relaxed);
        let frames = self.redistributor(core).ok_or(GicError::NoSuchCore(core))?;

        let waker = frames.get(RD_WAKER) & !GICR_WAKER::ProcessorSleep::SET.value;
        frames.set(RD_WAKER, waker);
        let awake = || !frames.read(RD_WAKER).is_set(GICR_WAKER::ChildrenAsleep);
        if !Deadline::after(&Counter, SETTLE_MICROS).wait(&Counter, awake) {
            return Err(GicError::TimedOut(0x14));
        }
        let private = frames.slice(FRAME, FRAME);
        private.write32(ICENABLER, !0);
        private.write32(ICPENDR, !0);
        private.write32(ICACTIVER, !0);
        private.write32(IGROUPR, !0);
        for word in 0..8 {
            private.write32(IPRIORITYR + 4 * word, u32::from_ne_bytes([PRIORITY; 4]));
        }
        settle(&frames, GICR_RWP)?;

        // Guests use the system registers as well.
        GicCpuInterface::enable_system_register_el2(true);
        barrier::isb();
        GicCpuInterface::set_priority_mask(0xff);
        sysreg::set_ctlr(sysreg::ctlr() | EOI_MODE);
        GicCpuInterface::enable_group1(true);
        barrier::isb();
        self.reset_virtual();
        // The hypervisor's own calls from core to core.
        private.write32(ISENABLER, 1 << crate::KICK_SGI);
        settle(&frames, GICR_RWP)
    }

    #[inline]
    fn acknowledge(&self) -> Option<Ack> {
        let intid = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)?;
        // What the device wrote before it interrupted must be seen by the handler.
        barrier::dsb_sy();
        let special = FIRST_SPECIAL..FIRST_SPECIAL + 4;
        let intid = intid.raw_value();
        (!special.contains(&intid)).then_some(Ack::from_raw(intid))
    }

    #[inline]
    fn priority_drop(&self, ack: Ack) {
        // What IAR said is what EOIR takes, a number alone on GICv3 (12.2.10).
        sysreg::priority_drop(ack.raw());
    }

    fn deactivate(&self, ack: Ack) {
        sysreg::deactivate(ack.intid());
    }

    fn send_sgi(&self, core: usize, sgi: u32) {
        let Some(affinity) = self.target(core) else { return };
        let target = SgiTarget::List {
            affinity3: (affinity >> 32) as u8,
            affinity2: (affinity >> 16) as u8,
            affinity1: (affinity >> 8) as u8,
            target_list: 1 << (affinity & 0xf),
        };
        barrier::dsb_ishst();
        // Fails only for numbers that are no SGI; the mask leaves none.
        let sent =
            GicCpuInterface::send_sgi(IntId::sgi(sgi & 0xf), target, SgiTargetGroup::CurrentGroup1);
        debug_assert!(sent.is_ok());
        barrier::isb();
    }

    fn set_enabled(&self, intid: u32, enabled: bool) -> Result<(), GicError> {
        let (registers, control, rwp) = self.home(intid)?;
        let base = if enabled { ISENABLER } else { ICENABLER };
        registers.write32(base + 4 * u64::from(intid / 32), 1 << (intid % 32));
        settle(&control, rwp)
    }

    fn configure(&self, intid: u32, trigger: Trigger, priority: u8) -> Result<(), GicError> {
        let (registers, ..) = self.home(intid)?;
        registers.write8(IPRIORITYR + u64::from(intid), priority);
        let at = ICFGR + 4 * u64::from(intid / 16);
        let bit = 2 << (intid % 16 * 2);
        let old = registers.read32(at);
        let new = if trigger == Trigger::Edge { old | bit } else { old & !bit };
        if new != old {
            registers.write32(at, new);
        }
        Ok(())
    }

    fn clear(&self, intid: u32) -> Result<(), GicError> {
        let (registers, ..) = self.home(intid)?;
        let (word, bit) = (4 * u64::from(intid / 32), 1 << (intid % 32));
        // Inactive first: what is active and pending would be taken between (12.9.6, 12.9.10).
        registers.write32(ICACTIVER + word, bit);
        registers.write32(ICPENDR + word, bit);
        Ok(())
    }

    fn route(&self, spi: u32, core: usize) -> Result<(), GicError> {
        if !(FIRST_SPI..self.interrupts).contains(&spi) {
            return Err(GicError::NoSuchInterrupt(spi));
        }
        let affinity = self.target(core).ok_or(GicError::NoSuchCore(core))?;
        self.distributor.write64(IROUTER + 8 * u64::from(spi), affinity);
        Ok(())
    }

    fn list_registers(&self) -> usize {
        (guest::read_ich(Ich::Vtr) as usize & 0x1f) + 1
    }

    fn read_lr(&self, index: usize) -> ListRegister {
        ListRegister::from_v3(guest::read_list(index))
    }

    #[inline]
    fn read_lr_state(&self, index: usize) -> LrState {
        LrState::from_bits((guest::read_list(index) >> 62) as u32)
    }

    #[inline]
    fn write_lr(&self, index: usize, lr: ListRegister) {
        guest::write_list(index, lr.to_v3());
    }

    fn set_maintenance(&self, control: MaintenanceControl) {
        guest::write_ich(Ich::Hcr, u64::from(control.bits()));
    }

    fn unmatched_ends(&self) -> u32 {
        (guest::read_ich(Ich::Hcr) >> 27) as u32 & 0x1f
    }

    fn reset_virtual(&self) {
        guest::write_ich(Ich::Hcr, 0);
        guest::write_ich(Ich::Vmcr, 0);
        for index in 0..self.list_registers() {
            guest::write_list(index, 0);
        }
        // PREbits 5, 6 or 7 imply 1, 2 or 4 registers of active priorities (12.4.1).
        let preemption = (guest::read_ich(Ich::Vtr) >> 26 & 7) as usize + 1;
        sysreg::clear_active_priorities(1 << preemption.saturating_sub(5).min(2));
        barrier::isb();
    }
}
