//! The redistributors' registers, two frames for each vCPU (12.11).
use alloc::sync::Arc;

use super::{
    lanes, registers,
    state::{State, Vgic},
};
use crate::mmio::{Access, MmioDevice};

/// Bytes of one vCPU's frames.
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// Where the second frame starts.
const SGI_FRAME: u64 = 0x1_0000;

const CTLR: u64 = 0x0;
const TYPER: u64 = 0x8;
const TYPER_HIGH: u64 = 0xc;
const WAKER: u64 = 0x14;
const PROPBASER: u64 = 0x70;
const PENDBASER: u64 = 0x78;
const PIDR2: u64 = 0xffe8;
/// GICR_CTLR.EnableLPIs (12.11.2).
const ENABLE_LPIS: u32 = 1 << 0;
/// GICR_TYPER.PLPIS.
const PLPIS: u32 = 1 << 0;
/// GICR_WAKER: ProcessorSleep, and ChildrenAsleep which follows it (12.11.42).
const SLEEP: u32 = 1 << 1;
const CHILDREN: u32 = 1 << 2;
/// GICR_TYPER.Last (12.11.41).
const LAST: u32 = 1 << 4;

/// All redistributors of a VM as a device in its memory map.
pub struct Redistributors {
    vgic: Arc<Vgic>,
}

impl Redistributors {
    /// The redistributors of this controller.
    pub fn new(vgic: Arc<Vgic>) -> Arc<Self> {
        Arc::new(Self { vgic })
    }

    fn read_word(&self, state: &mut State, offset: u64) -> u32 {
        let owner = (offset / REDISTRIBUTOR_BYTES) as usize;
        let inside = offset % REDISTRIBUTOR_BYTES;
        if inside >= SGI_FRAME {
            let inside = inside - SGI_FRAME;
            return if private(inside) { registers::read(state, owner, inside) } else { 0 };
        }
        match inside {
            TYPER => {
                let last = owner + 1 == self.vgic.vcpus();
                let lpis = if self.vgic.has_lpis() { PLPIS } else { 0 };
                (owner as u32) << 8 | if last { LAST } else { 0 } | lpis
            }
            TYPER_HIGH => owner as u32,
            WAKER => match state.private.get(owner) {
                Some(private) if private.asleep => SLEEP | CHILDREN,
                _ => 0,
            },
            CTLR => match state.private.get(owner) {
                Some(private) if private.lpis.on => ENABLE_LPIS,
                _ => 0,
            },
            at if at & !4 == PROPBASER => half(state.lpis.properties, at),
            at if at & !4 == PENDBASER => match state.private.get(owner) {
                Some(private) => half(private.lpis.pending_table, at),
                None => 0,
            },
            PIDR2 => 0x3b,
            _ => 0,
        }
    }

    fn write_word(&self, state: &mut State, offset: u64, value: u32, mask: u32) {
        let owner = (offset / REDISTRIBUTOR_BYTES) as usize;
        let inside = offset % REDISTRIBUTOR_BYTES;
        if inside >= SGI_FRAME {
            let inside = inside - SGI_FRAME;
            if private(inside) {
                registers::write(state, owner, inside, value, mask);
            }
            return;
        }
        let lpis = self.vgic.has_lpis();
        let State { private, lpis: shared, kicks, .. } = state;
        let Some(private) = private.get_mut(owner) else { return };
        match inside {
            WAKER if mask & SLEEP != 0 => private.asleep = value & SLEEP != 0,
            CTLR if lpis && mask & ENABLE_LPIS != 0 => {
                private.lpis.on = value & ENABLE_LPIS != 0;
                *kicks |= 1 << owner;
            }
            // Writes are UNPREDICTABLE while LPIs are on (12.11.35): ignored here.
            at if lpis && !private.lpis.on && at & !4 == PROPBASER => {
                merge(&mut shared.properties, at, value, mask);
            }
            at if lpis && !private.lpis.on && at & !4 == PENDBASER => {
                merge(&mut private.lpis.pending_table, at, value, mask);
            }
            _ => {}
        }
    }
}

/// The half of a 64-bit register that is at `offset`.
const fn half(value: u64, offset: u64) -> u32 {
    if offset & 4 == 0 { value as u32 } else { (value >> 32) as u32 }
}

/// Writes the bits `mask` of the half at `offset`.
const fn merge(register: &mut u64, offset: u64, value: u32, mask: u32) {
    let shift = if offset & 4 == 0 { 0 } else { 32 };
    *register = *register & !((mask as u64) << shift) | ((value & mask) as u64) << shift;
}

/// Whether the register of the second frame is about the private interrupts.
fn private(offset: u64) -> bool {
    match offset {
        0x80..0x400 => offset & 0x7f == 0,
        0x400..0x420 | 0xc00..0xc08 => true,
        _ => false,
    }
}

impl MmioDevice for Redistributors {
    fn read(&self, access: Access) -> u64 {
        self.vgic.with(|state| lanes::load(access, |offset| self.read_word(state, offset)))
    }

    fn write(&self, access: Access, value: u64) {
        self.vgic.with(|state| {
            state.changed |= 1 << access.vcpu;
            lanes::store(access, value, |offset, value, mask| {
                self.write_word(state, offset, value, mask);
            });
        });
    }
}
