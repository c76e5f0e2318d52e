//! The distributor's registers (12.9; for GICv2: IHI 0048, 4.3).
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use palisade_gic::Version;

use super::{
    bank::NOBODY,
    lanes, registers, sgi,
    size::SPIS,
    state::{State, Vgic},
};
use crate::mmio::{Access, MmioDevice, Width};

const CTLR: u64 = 0x0;
const TYPER: u64 = 0x4;
const IIDR: u64 = 0x8;
/// GICv2: targets, four interrupts a word.
const ITARGETSR: u64 = 0x800;
const ITARGETSR_END: u64 = 0xc00;
const SGIR: u64 = 0xf00;
const CPENDSGIR: u64 = 0xf10;
const SPENDSGIR: u64 = 0xf20;
const SPENDSGIR_END: u64 = 0xf30;
/// GICv2's peripheral ID register 2: revision 2 in bits 7:4.
const ICPIDR2: u64 = 0xfe8;
/// GICv3: routes, eight bytes an interrupt.
const IROUTER: u64 = 0x6000 + 8 * 32;
const IROUTER_END: u64 = 0x6000 + 8 * (32 + SPIS as u64);
const PIDR2: u64 = 0xffe8;

/// GICD_CTLR: DS, one security state; ARE, affinity routing (12.9.4).
const CTLR_FIXED: u32 = 1 << 6 | 1 << 4;
/// GICD_IROUTER.Interrupt_Routing_Mode: any vCPU will do (12.9.22).
const ROUTE_ANY: u32 = 1 << 31;

/// The distributor as a device in the VM's memory map.
pub struct Distributor {
    vgic: Arc<Vgic>,
}

impl Distributor {
    /// The distributor of this controller.
    pub fn new(vgic: Arc<Vgic>) -> Arc<Self> {
        Arc::new(Self { vgic })
    }

    fn read_word(&self, state: &mut State, vcpu: usize, offset: u64) -> u32 {
        let v3 = self.vgic.version() == Version::V3;
        match offset {
            CTLR => state.groups | if v3 { CTLR_FIXED } else { 0 },
            // With affinity routing the private interrupts are the redistributors' (12.9).
            registers::FIRST..ITARGETSR | ITARGETSR_END..registers::LAST => {
                if v3 && private_word(offset) { 0 } else { registers::read(state, vcpu, offset) }
            }
            ITARGETSR..ITARGETSR_END if !v3 => targets(state, vcpu, offset - ITARGETSR),
            CPENDSGIR..SPENDSGIR_END if !v3 => sgi::sources(state, vcpu, offset & 0xf),
            IROUTER..IROUTER_END if v3 => {
                let intid = ((offset - 0x6000) / 8) as u32;
                match (offset & 4, state.bank(vcpu, intid)) {
                    (0, Some((bank, bit))) => bank.route[bit & 31],
                    _ => 0,
                }
            }
            _ => self.constant(offset).unwrap_or(0),
        }
    }

    #[inline(never)]
    fn read_state(&self, access: Access) -> u64 {
        self.vgic
            .with(|state| lanes::load(access, |offset| self.read_word(state, access.vcpu, offset)))
    }

    /// Registers that never change; they are read without a lock.
    fn constant(&self, offset: u64) -> Option<u32> {
        let v3 = self.vgic.version() == Version::V3;
        match offset {
            TYPER => Some(self.vgic.typer.load(Ordering::Relaxed)),
            // Product and implementer: nobody's.
            IIDR => Some(0),
            ICPIDR2 if !v3 => Some(0x2b),
            PIDR2 if v3 => Some(0x3b),
            _ => None,
        }
    }

    #[inline(never)]
    fn write_lanes(&self, state: &mut State, access: Access, value: u64) -> bool {
        let mut changed = false;
        lanes::store(access, value, |offset, value, mask| {
            changed |= self.write_word(state, access.vcpu, offset, value, mask);
        });
        changed
    }

    /// Writes some bits of a word; whether anything may be different now.
    fn write_word(
        &self,
        state: &mut State,
        vcpu: usize,
        offset: u64,
        value: u32,
        mask: u32,
    ) -> bool {
        let v3 = self.vgic.version() == Version::V3;
        match offset {
            CTLR => {
                state.groups = state.groups & !mask & 3 | value & mask & 3;
                state.kicks |= (1 << self.vgic.vcpus()) - 1;
            }
            registers::FIRST..ITARGETSR | ITARGETSR_END..registers::LAST => {
                if v3 && private_word(offset) {
                    return false;
                }
                // GICv2's SGIs have registers of their own for being pending (4.3.7).
                let value = match !v3 && (offset == 0x200 || offset == 0x280) {
                    true => value & !0xffff,
                    false => value,
                };
                return registers::write(state, vcpu, offset, value, mask);
            }
            ITARGETSR..ITARGETSR_END if !v3 => {
                let first = (offset - ITARGETSR) as u32;
                for lane in (0..4).filter(|lane| mask >> (8 * lane) & 0xff != 0) {
                    set_target(state, first + lane, (value >> (8 * lane)) & 0xff, false);
                }
            }
            SGIR if !v3 => sgi::generate_v2(state, vcpu, value),
            CPENDSGIR..SPENDSGIR_END if !v3 => {
                let clear = offset < SPENDSGIR;
                sgi::write_sources(state, vcpu, offset & 0xf, value & mask, clear);
            }
            IROUTER..IROUTER_END if v3 && offset & 4 == 0 => {
                let intid = ((offset - 0x6000) / 8) as u32;
                let old = state.bank(vcpu, intid).map_or(0, |(bank, bit)| bank.route[bit & 31]);
                set_target(state, intid, old & !mask | value & mask & 0x80ff_ffff, true);
            }
            _ => return false,
        }
        true
    }
}

/// Whether the register is about the interrupts below 32.
fn private_word(offset: u64) -> bool {
    match offset {
        0x400..0x800 => offset < 0x420,
        0xc00..0xd00 => offset < 0xc08,
        _ => offset & 0x7f == 0,
    }
}

/// GICD_ITARGETSR: of the private interrupts a vCPU sees itself (IHI 0048, 4.3.12).
fn targets(state: &mut State, vcpu: usize, first: u64) -> u32 {
    if first < 32 {
        return (1u32 << (vcpu & 7)) * 0x0101_0101;
    }
    let mut word = 0;
    for lane in 0..4 {
        if let Some((bank, bit)) = state.bank(vcpu, first as u32 + lane) {
            word |= (bank.route[bit & 31] & 0xff) << (8 * lane);
        }
    }
    word
}

/// Sends a shared interrupt where the guest says: an affinity (GICv3) or a set of vCPUs.
fn set_target(state: &mut State, intid: u32, route: u32, affinity: bool) {
    let vcpus = state.private.len() as u32;
    if intid < 32 {
        return;
    }
    let target = match affinity {
        true if route & ROUTE_ANY != 0 => 0,
        true => route & 0xff_ffff,
        false => (route & ((1 << vcpus) - 1)).trailing_zeros(),
    };
    // The bits of vCPUs that do not exist read as zero.
    let route = if affinity { route } else { route & ((1 << vcpus) - 1) };
    let target = if target < vcpus { target as u8 } else { NOBODY };
    let Some((bank, bit)) = state.bank(0, intid) else { return };
    bank.route[bit & 31] = route;
    bank.target[bit & 31] = target;
    state.touch(0, (intid / 32) as usize, 1 << bit);
}

impl MmioDevice for Distributor {
    fn read(&self, access: Access) -> u64 {
        if access.width == Width::Bits32
            && let Some(value) = self.constant(access.offset)
        {
            return value.into();
        }
        self.read_state(access)
    }

    fn write(&self, access: Access, value: u64) {
        self.vgic.with(|state| {
            let changed = match access.width {
                Width::Bits32 => {
                    self.write_word(state, access.vcpu, access.offset & !3, value as u32, !0)
                }
                _ => self.write_lanes(state, access, value),
            };
            // Whatever else it means, the writer looks: what it took back is settled then.
            state.changed |= u32::from(changed).wrapping_shl(access.vcpu as u32);
        });
    }
}
