//! Software-generated interrupts.
use palisade_gic::Version;

use super::{
    bank::each,
    state::{State, Vgic},
};

impl Vgic {
    /// ICC_SGI1R_EL1 or ICC_SGI0R_EL1 was written (12.2.22): the SGI goes to the vCPUs named, if
    /// it is in `group1` there as the register says.
    pub fn generate(&self, from: usize, value: u64, group1: bool) {
        let intid = (value >> 24 & 0xf) as u32;
        let all_others = value >> 40 & 1 != 0;
        let affinity =
            (value >> 16 & 0xff) | (value >> 32 & 0xff) << 8 | (value >> 48 & 0xff) << 16;
        // A VM has one cluster: Aff3.Aff2.Aff1 is 0, and so is the range of Aff0.
        let list = match (affinity, value >> 44 & 0xf) {
            (0, 0) => value as u32 & 0xffff,
            _ => 0,
        };
        let wanted = if all_others { !(1 << from) } else { list };
        self.with(|state| {
            for vcpu in each(wanted) {
                let Some(private) = state.private.get_mut(vcpu) else { break };
                let in_group = (private.bank.group1 >> intid & 1 != 0) == group1;
                if in_group {
                    // Pending already and in no list register: whoever raised it sends the kick.
                    let kick = u32::from(private.bank.latch >> intid & 1 == 0);
                    private.bank.latch |= 1 << intid;
                    state.kicks |= kick << vcpu;
                    state.raised += 1;
                }
            }
            // The sender looks before it goes in again.
            state.spare(from);
        });
    }
}

/// GICD_SGIR of GICv2 was written (IHI 0048, 4.3.15).
pub(super) fn generate_v2(state: &mut State, from: usize, value: u32) {
    let intid = value & 0xf;
    let wanted = match value >> 24 & 3 {
        0 => value >> 16 & 0xff,
        1 => !(1 << from),
        2 => 1 << from,
        _ => 0,
    };
    for vcpu in 0..state.private.len() {
        if wanted >> vcpu & 1 != 0 {
            add_source(state, vcpu, intid, 1 << (from & 7));
        }
    }
}

fn add_source(state: &mut State, vcpu: usize, intid: u32, sources: u8) {
    debug_assert!(state.version == Version::V2);
    let Some(private) = state.private.get_mut(vcpu) else { return };
    let Some(slot) = private.sources.get_mut(intid as usize) else { return };
    *slot |= sources;
    if *slot != 0 {
        private.bank.latch |= 1 << intid;
    }
    state.kicks |= 1 << vcpu;
    state.raised += 1;
}

/// GICD_SPENDSGIR and GICD_CPENDSGIR: a byte of sources for each SGI (IHI 0048, 4.3.16).
pub(super) fn sources(state: &State, vcpu: usize, first: u64) -> u32 {
    let Some(private) = state.private.get(vcpu) else { return 0 };
    let bytes = private.sources.iter().skip(first as usize & !3).take(4);
    bytes.rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// Writes GICD_SPENDSGIR, or GICD_CPENDSGIR to `clear`.
pub(super) fn write_sources(state: &mut State, vcpu: usize, first: u64, value: u32, clear: bool) {
    for lane in 0..4 {
        let intid = (first as u32 & !3) + lane;
        let byte = (value >> (8 * lane)) as u8;
        if !clear {
            add_source(state, vcpu, intid, byte);
        } else if let Some(private) = state.private.get_mut(vcpu)
            && let Some(slot) = private.sources.get_mut(intid as usize)
        {
            *slot &= !byte;
            if *slot == 0 {
                private.bank.latch &= !(1 << intid);
            }
        }
    }
}
