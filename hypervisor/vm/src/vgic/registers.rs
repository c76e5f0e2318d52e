//! The registers that distributor and redistributors have alike: one word, or part of one, of a
//! bank (12.9, 12.11).
use palisade_hal::Ipa;

use super::{
    bank::{Bank, each},
    redistributor::REDISTRIBUTOR_BYTES,
    state::{MAX_VCPUS, State},
};
use crate::layout;

/// First register with a bit or more for each interrupt (GICD_IGROUPR0).
pub const FIRST: u64 = 0x80;
/// One past the last (GICD_ICFGR63).
pub const LAST: u64 = 0xd00;
/// GICD_ITARGETSR, GICv2 only, is not among them.
const ITARGETSR: u64 = 0x800;

const IGROUPR: u64 = 0x80;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xc00;

/// Whether a register at `at` in the guest's map may tell or change what is pending or active: what
/// list registers and timers know better is to be taken into the state first. Both frames have
/// those registers at the same place, as are GICv2's of pending SGIs (IHI 0048, 4.3.16), and no access is longer than sixteen
/// bytes.
pub fn is_about_state(at: Ipa) -> bool {
    if !matches!(at.get() & 0xfff, 0x1f0..0x400 | 0xf00..0xf30) {
        return false;
    }
    const TO: u64 = layout::REDISTRIBUTORS + REDISTRIBUTOR_BYTES * MAX_VCPUS as u64;
    let within = |from: u64, to: u64| (from..to).contains(&at.get());
    within(layout::DISTRIBUTOR, layout::DISTRIBUTOR + layout::DISTRIBUTOR_BYTES)
        || within(layout::REDISTRIBUTORS, TO)
}

/// Which register, and which bank it is about.
fn decode(offset: u64) -> Option<(u64, usize, usize)> {
    match offset {
        IGROUPR..IPRIORITYR => Some((offset & !0x7f, (offset as usize & 0x7f) / 4, 0)),
        IPRIORITYR..ITARGETSR => {
            let first = (offset - IPRIORITYR) as usize;
            Some((IPRIORITYR, first / 32, (first % 32) & !3))
        }
        ICFGR..LAST => {
            let first = (offset - ICFGR) as usize * 4;
            Some((ICFGR, first / 32, (first % 32) & !15))
        }
        _ => None,
    }
}

/// Reads the word at `offset` (a multiple of 4) as `vcpu` sees it; 0 where there is nothing.
pub fn read(state: &State, vcpu: usize, offset: u64) -> u32 {
    let Some((register, word, first)) = decode(offset) else { return 0 };
    let Some(bank) = state.peek(vcpu, 32 * word as u32) else { return 0 };
    match register {
        IGROUPR => bank.group1,
        ISENABLER | ICENABLER => bank.enabled,
        ISPENDR | ICPENDR => bank.seems_pending(),
        ISACTIVER | ICACTIVER => bank.active,
        IPRIORITYR => (0..4)
            .map(|lane| u32::from(bank.priority[(first + lane) & 31]) << (8 * lane))
            .fold(0, |sum, part| sum | part),
        ICFGR => (0..16)
            .map(|lane| (bank.edge >> ((first + lane) & 31) & 1) << (2 * lane + 1))
            .fold(0, |sum, part| sum | part),
        _ => 0,
    }
}

/// Writes the bits `mask` of the word at `offset` (a multiple of 4) as `vcpu` sees it. Whether
/// anything may be different now.
pub fn write(state: &mut State, vcpu: usize, offset: u64, value: u32, mask: u32) -> bool {
    let Some((register, word, first)) = decode(offset) else { return false };
    let Some((bank, _)) = state.bank(vcpu, 32 * word as u32) else { return false };
    let set = value & mask;
    let touched = match register {
        IGROUPR => {
            let before = bank.group1;
            bank.group1 = before & !mask | set;
            before ^ bank.group1
        }
        ISENABLER => {
            let before = bank.enabled;
            bank.enabled |= set;
            before ^ bank.enabled
        }
        ICENABLER => {
            let before = bank.enabled;
            bank.enabled &= !set;
            before ^ bank.enabled
        }
        ISPENDR => {
            bank.latch |= set;
            set
        }
        ICPENDR => {
            bank.latch &= !set;
            bank.cancel |= set & bank.listed;
            set
        }
        ISACTIVER => {
            activate(bank, set & !bank.active);
            set
        }
        ICACTIVER => {
            bank.active &= !set;
            bank.evicted &= !set;
            bank.drop_active |= set & bank.listed;
            set
        }
        IPRIORITYR => {
            let mut touched = 0;
            for lane in (0..4).filter(|lane| mask >> (8 * lane) & 0xff != 0) {
                let bit = (first + lane) & 31;
                // Five bits of priority, as the list registers of every implementation have.
                let priority = (value >> (8 * lane)) as u8 & 0xf8;
                touched |= u32::from(bank.priority[bit] != priority) << bit;
                bank.priority[bit] = priority;
            }
            touched
        }
        ICFGR => {
            for lane in (0..16).filter(|lane| mask >> (2 * lane) & 2 != 0) {
                let bit = (first + lane) & 31;
                // An SGI is edge triggered, always.
                if word == 0 && bit < 16 {
                    continue;
                }
                bank.edge = bank.edge & !(1 << bit) | (value >> (2 * lane + 1) & 1) << bit;
            }
            // A line that is high is pending by its level, and not by its edge.
            0xffff << first
        }
        _ => 0,
    };
    if touched != 0 {
        state.touch(vcpu, word, touched);
    }
    touched != 0
}

/// The guest says that these are active: its vCPU that they are sent to holds them.
fn activate(bank: &mut Bank, bits: u32) {
    for bit in each(bits) {
        if bank.listed >> bit & 1 == 0 && bank.target[bit & 31] != super::bank::NOBODY {
            bank.active |= 1 << bit;
            bank.holder[bit & 31] = bank.target[bit & 31];
        }
    }
}
