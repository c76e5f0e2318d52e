//! An SMMU on paper: registers in plain RAM, and the answers that hardware would give, written
//! from where the driver waits. It answers as late as it is told to, or never, which QEMU's SMMU
//! cannot do; the instructions it takes are not counted.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use palisade_hal::cpu::Counter;
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, PhysAddr, pmu};
use palisade_smmuv3::{IdRegisters, REGISTER_BYTES};

/// Registers, by their offsets (IHI 0070 §6.3).
const IDR0: u64 = 0x00;
const IDR1: u64 = 0x04;
const IDR3: u64 = 0x0c;
const IDR5: u64 = 0x14;
const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const GBPA: u64 = 0x44;
const IRQ_CTRL: u64 = 0x50;
const IRQ_CTRLACK: u64 = 0x54;
const GERROR: u64 = 0x60;
const GERRORN: u64 = 0x64;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
/// GBPA.Update.
const UPDATE: u32 = 1 << 31;
/// CR0.CMDQEN.
const CMDQEN: u32 = 1 << 3;
/// GERROR.CMDQ_ERR.
const CMDQ_ERR: u32 = 1 << 0;
/// CMDQ_CONS.ERR = CERROR_ILL.
const CERROR_ILL: u32 = 1 << 24;
/// CMD_SYNC (§4.7.3), and its CS = SIG_IRQ.
const CMD_SYNC: u64 = 0x46;
const CS_IRQ: u64 = 1;

#[repr(C, align(65536))]
struct Page(UnsafeCell<[u8; REGISTER_BYTES as usize]>);

// SAFETY: reached through `Mmio` alone, by volatile accesses of one core.
unsafe impl Sync for Page {}

static PAGE: Page = Page(UnsafeCell::new([0; REGISTER_BYTES as usize]));

/// One SMMU on paper; there is one block of registers, so one at a time.
pub struct Paper {
    registers: Mmio,
    /// Turns of the waiting loop before the next answer; `u32::MAX`: none comes any more.
    late: AtomicU32,
    /// Turns that the driver has waited.
    turns: AtomicU64,
    /// How many commands are refused from now on.
    refused: AtomicU32,
}

impl Paper {
    /// With these ID registers, and everything else zero.
    pub fn new(id: &IdRegisters) -> Self {
        let base = PhysAddr::new(PAGE.0.get() as u64);
        // SAFETY: part of the image, which is mapped one to one, and nothing else reaches it. That
        // it is not mapped as a device is all the same to the one core that plays both sides.
        let registers = unsafe { Mmio::new(base, REGISTER_BYTES) };
        for offset in (0..0x100).step_by(4) {
            registers.write32(offset, 0);
        }
        registers.write32(IDR0, id.idr0);
        registers.write32(IDR1, id.idr1);
        registers.write32(IDR3, id.idr3);
        registers.write32(IDR5, id.idr5);
        let (late, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { registers, late, turns: AtomicU64::new(0), refused }
    }

    /// Its registers.
    pub fn mmio(&self) -> Mmio {
        self.registers.clone()
    }

    /// From now on answers come `turns` turns after they could; `u32::MAX`: never.
    pub fn answer_after(&self, turns: u32) {
        self.late.store(turns, Ordering::Relaxed);
    }

    /// Refuses the next `commands` commands that are no CMD_SYNC.
    pub fn refuse(&self, commands: u32) {
        self.refused.store(commands, Ordering::Relaxed);
    }

    /// Shows the next `commands` commands as consumed before they are there. The driver has no look
    /// between its write of CMDQ_PROD and that at CMDQ_CONS, so it can not tell.
    pub fn answer_ahead(&self, commands: u64) {
        let registers = &self.registers;
        let entries = 1u32 << (registers.read64(CMDQ_BASE) & 0x1f);
        let cons = registers.read32(CMDQ_CONS) + commands as u32;
        registers.write32(CMDQ_CONS, cons & (2 * entries - 1));
    }

    /// How many turns the driver has waited since this was asked last.
    pub fn turns(&self) -> u64 {
        self.turns.swap(0, Ordering::Relaxed)
    }

    fn serve(&self) {
        let turns = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        let late = self.late.load(Ordering::Relaxed);
        if late == u32::MAX || late != 0 && !turns.is_multiple_of(u64::from(late)) {
            return;
        }
        let registers = &self.registers;
        registers.write32(CR0ACK, registers.read32(CR0));
        registers.write32(IRQ_CTRLACK, registers.read32(IRQ_CTRL));
        registers.write32(GBPA, registers.read32(GBPA) & !UPDATE);
        // An error is active while its bits in the two registers differ (§6.3.19), and stops it.
        let stopped = (registers.read32(GERROR) ^ registers.read32(GERRORN)) & CMDQ_ERR != 0;
        if registers.read32(CR0) & CMDQEN != 0 && !stopped {
            self.consume();
        }
    }

    /// Everything in the command queue is done, up to what is refused; who asked for a message
    /// gets it.
    fn consume(&self) {
        let registers = &self.registers;
        let base = registers.read64(CMDQ_BASE);
        let entries = 1u32 << (base & 0x1f);
        let pa = PhysAddr::new(base & 0x000f_ffff_ffff_ffe0);
        // SAFETY: the driver said that its commands are there, in memory of the pool, which is
        // mapped one to one.
        let queue = unsafe { Mmio::new(pa, u64::from(entries) * 16) };
        let prod = registers.read32(CMDQ_PROD);
        // Without the error that it may have held.
        let mut cons = registers.read32(CMDQ_CONS) & (2 * entries - 1);
        while cons != prod {
            let at = u64::from(cons & (entries - 1)) * 16;
            let (low, high) = (queue.read64(at), queue.read64(at + 8));
            let sync = low & 0xff == CMD_SYNC;
            let refused = self.refused.load(Ordering::Relaxed);
            if refused > 0 && !sync {
                self.refused.store(refused - 1, Ordering::Relaxed);
                registers.write32(GERROR, registers.read32(GERROR) ^ CMDQ_ERR);
                cons |= CERROR_ILL;
                break;
            }
            if sync && low >> 12 & 3 == CS_IRQ {
                let pa = PhysAddr::new(high & 0x000f_ffff_ffff_fffc);
                // SAFETY: as for the queue.
                unsafe { Mmio::new(pa, 4) }.write32(0, (low >> 32) as u32);
            }
            cons = (cons + 1) & (2 * entries - 1);
        }
        registers.write32(CMDQ_CONS, cons);
    }
}

impl Env for Paper {
    #[inline(always)]
    fn relax(&self) {
        Counter.relax();
        pmu::uncounted(
            #[inline(never)]
            || self.serve(),
        );
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        Counter.now()
    }

    #[inline(always)]
    fn frequency(&self) -> u64 {
        Counter.frequency()
    }
}
