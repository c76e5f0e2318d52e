//! The interrupt controller, as far as a payload that waits for one interrupt needs it. Either
//! generation; the payload polls, so no vectors are involved.

use core::arch::asm;

use fdt::Fdt;

use crate::memory::{read32, write32};

/// Distributor registers (IHI 0069, 12.9; the same in IHI 0048).
const CTLR: usize = 0x0;
const IGROUPR: usize = 0x80;
const ISENABLER: usize = 0x100;
const ISPENDR: usize = 0x200;
const IPRIORITYR: usize = 0x400;
const ITARGETSR: usize = 0x800;
/// GICv2's CPU interface (IHI 0048, 4.4).
const GICC_CTLR: usize = 0x0;
const GICC_PMR: usize = 0x4;
const GICC_IAR: usize = 0xc;
const GICC_EOIR: usize = 0x10;
/// A redistributor's second frame, of the private interrupts (IHI 0069, 12.11), and GICR_WAKER of
/// its first.
const SGI_FRAME: usize = 0x1_0000;
const WAKER: usize = 0x14;
/// Bytes of one redistributor's two frames.
const REDISTRIBUTOR: usize = 0x2_0000;
/// INTIDs from here on mean that nothing is pending.
const SPECIAL: u32 = 1020;

/// The controller: its distributor, GICv2's CPU interface, GICv3's first redistributor.
#[derive(Clone, Copy, Debug)]
pub struct Gic {
    distributor: usize,
    interface: Option<usize>,
    redistributor: Option<usize>,
}

impl Gic {
    /// Finds it in the device tree and takes it into use.
    pub fn open(fdt: &Fdt<'_>) -> Option<Self> {
        let node = fdt.find_compatible(&["arm,gic-v3", "arm,cortex-a15-gic", "arm,gic-400"])?;
        let v3 = node.compatible()?.all().any(|name| name == "arm,gic-v3");
        let mut regions = node.reg()?.map(|region| region.starting_address as usize);
        let distributor = regions.next()?;
        let second = regions.next();
        let (interface, redistributor) = if v3 { (None, second) } else { (second, None) };
        let gic = Self { distributor, interface, redistributor };
        // SAFETY: registers of the interrupt controller, which is ours alone.
        unsafe { write32(distributor + CTLR, if v3 { 1 << 4 | 3 } else { 1 }) };
        match gic.interface {
            // SAFETY: as above.
            Some(base) => unsafe {
                write32(base + GICC_PMR, 0xff);
                write32(base + GICC_CTLR, 1);
            },
            None => open_interface(),
        }
        Some(gic)
    }

    /// The distributor's first address.
    pub fn distributor(&self) -> usize {
        self.distributor
    }

    /// GICv3: switches private interrupts of the calling core on, which is the machine's `core`th:
    /// those whose bits are set. False on another generation.
    pub fn open_core(&self, core: usize, bits: u32) -> bool {
        let Some(base) = self.redistributor.map(|first| first + core * REDISTRIBUTOR) else {
            return false;
        };
        // SAFETY: as in `open`; registers of this core's redistributor.
        unsafe {
            write32(base + WAKER, 0);
            write32(base + SGI_FRAME + IGROUPR, bits);
            write32(base + SGI_FRAME + ISENABLER, bits);
        }
        open_interface();
        true
    }

    /// Switches a shared interrupt on, for this core.
    pub fn enable(&self, intid: u32) {
        let (word, bit, at) = ((intid / 32) as usize * 4, 1 << (intid % 32), intid as usize);
        let base = self.distributor;
        self.prioritise(intid, 0x80);
        // SAFETY: as in `open`; the offsets are those of an interrupt's own fields.
        unsafe {
            if self.interface.is_none() {
                write32(base + IGROUPR + word, read32(base + IGROUPR + word) | bit);
            } else {
                let lane = 8 * (at % 4);
                let old = read32(base + ITARGETSR + (at & !3)) & !(0xff << lane);
                write32(base + ITARGETSR + (at & !3), old | 1 << lane);
            }
            write32(base + ISENABLER + word, bit);
        }
    }

    /// Switches a private interrupt (16..32) on, on the first core.
    pub fn enable_private(&self, intid: u32) {
        let bit = 1 << (intid % 32);
        let base = match self.redistributor {
            Some(base) => {
                // SAFETY: as in `open`: awake, as the CPU interface needs it (12.11.42).
                unsafe { write32(base + WAKER, 0) };
                base + SGI_FRAME
            }
            None => self.distributor,
        };
        // SAFETY: as in `open`; registers of the private interrupts.
        unsafe {
            // GICv2's interface is open for group 0, where interrupts are out of reset.
            if self.redistributor.is_some() {
                write32(base + IGROUPR, read32(base + IGROUPR) | bit);
            }
            write32(base + ISENABLER, bit);
        }
    }

    /// Sets an interrupt's priority; 0 is the most urgent.
    pub fn prioritise(&self, intid: u32, priority: u8) {
        let (register, lane) = (self.distributor + IPRIORITYR + (intid as usize & !3), intid % 4);
        // SAFETY: as in `open`; the byte is the interrupt's own.
        unsafe {
            let old = read32(register) & !(0xff << (8 * lane));
            write32(register, old | u32::from(priority) << (8 * lane));
        }
    }

    /// Makes interrupts pending: those whose bits are set, of the thirty-two from 32 * `word`.
    pub fn pend(&self, word: usize, bits: u32) {
        // SAFETY: as in `open`.
        unsafe { write32(self.distributor + ISPENDR + 4 * word, bits) };
    }

    /// Acknowledges what is pending, if anything is.
    pub fn acknowledge(&self) -> Option<u32> {
        let intid = match self.interface {
            // SAFETY: as in `open`.
            Some(base) => unsafe { read32(base + GICC_IAR) & 0x3ff },
            None => {
                let intid: u64;
                // SAFETY: ICC_IAR1_EL1, this core's own.
                unsafe { asm!("mrs {}, S3_0_C12_C12_0", out(reg) intid) };
                intid as u32
            }
        };
        (!(SPECIAL..8192).contains(&intid)).then_some(intid)
    }

    /// Ends an interrupt.
    pub fn end(&self, intid: u32) {
        match self.interface {
            // SAFETY: as in `open`.
            Some(base) => unsafe { write32(base + GICC_EOIR, intid) },
            // SAFETY: ICC_EOIR1_EL1, this core's own.
            None => unsafe { asm!("msr S3_0_C12_C12_1, {}", in(reg) u64::from(intid)) },
        }
    }
}

/// GICv3: opens this core's own interface.
fn open_interface() {
    // SAFETY: system registers of this core's own interface: system-register access, every
    // priority, group 1.
    unsafe {
        asm!("msr S3_0_C12_C12_5, {0}", "isb", "msr S3_0_C4_C6_0, {1}",
            "msr S3_0_C12_C12_7, {0}", "isb", in(reg) 1u64, in(reg) 0xffu64);
    }
}
