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

const TYPER: u64 = 0x8;
const TYPER_HIGH: u64 = 0xc;
const WAKER: u64 = 0x14;
const PIDR2: u64 = 0xffe8;
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
                (owner as u32) << 8 | if last { LAST } else { 0 }
            }
            TYPER_HIGH => owner as u32,
            WAKER => match state.private.get(owner) {
                Some(private) if private.asleep => SLEEP | CHILDREN,
                _ => 0,
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
        } else if inside == WAKER
            && mask & SLEEP != 0
            && let Some(private) = state.private.get_mut(owner)
        {
            private.asleep = value & SLEEP != 0;
        }
    }
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
            lanes::store(access, value, |offset, value, mask| {
                self.write_word(state, offset, value, mask);
            });
        });
    }
}
