//! Past an instruction that was carried out here instead of by the core.
use palisade_hal::guest::GuestContext;

/// ESR_EL2.IL: the instruction has 32 bits, not 16 (DDI 0487, D24.2.40).
const IL: u64 = 1 << 25;
/// SPSR_EL2 (D24.2.161): AArch32; its T32; software step; AArch64's BTYPE.
const AARCH32: u64 = 1 << 4;
const T32: u64 = 1 << 5;
const SS: u64 = 1 << 21;
const BTYPE: u64 = 0b11 << 10;
/// ISS of a trapped AArch32 instruction: COND is valid, COND.
const CV: u64 = 1 << 24;
const COND: u64 = 0xf << 20;

/// The guest goes on behind the instruction that `esr` tells of, as after one that it executed.
///
/// - PC by the instruction's length: 2 bytes where ESR_EL2.IL is clear (T32), else 4.
/// - PSTATE.SS is cleared: a guest that steps its code takes its step exception behind the
///   instruction and not one instruction later (D2.11.4, the active-pending state).
/// - PSTATE.BTYPE is cleared, as by every instruction but a branch (D8.4.7).
/// - In T32 the IT block moves on (F2.3.2, ITAdvance).
#[inline]
pub fn skip(context: &mut GuestContext, esr: u64) {
    let bytes = if esr & IL == 0 { 2 } else { 4 };
    context.elr = context.elr.wrapping_add(bytes);
    if context.spsr & AARCH32 == 0 {
        context.spsr &= !(SS | BTYPE);
    } else {
        context.spsr &= !SS;
        context.elr &= 0xffff_ffff;
        if context.spsr & T32 != 0 {
            let state = it_state(context.spsr);
            let next = if state & 0b111 == 0 { 0 } else { state & 0xe0 | state << 1 & 0x1f };
            context.spsr = with_it_state(context.spsr, next);
        }
    }
}

/// Whether a trapped instruction would have been executed at all: one of AArch32 whose condition
/// fails may trap all the same (D1.3.4), and then does nothing.
pub fn passes(context: &GuestContext, esr: u64) -> bool {
    if context.spsr & AARCH32 == 0 {
        return true;
    }
    let condition = match (esr & CV != 0, it_state(context.spsr)) {
        (true, _) => (esr & COND) >> 20,
        (false, 0) => return true,
        (false, state) => state >> 4,
    };
    let flag = |bit: u32| context.spsr >> bit & 1 != 0;
    let (n, z, c, v) = (flag(31), flag(30), flag(29), flag(28));
    let holds = match condition >> 1 {
        0 => z,
        1 => c,
        2 => n,
        3 => v,
        4 => c && !z,
        5 => n == v,
        6 => n == v && !z,
        _ => return true,
    };
    holds != (condition & 1 != 0)
}

/// IT\[7:2\] in bits 15:10, IT\[1:0\] in bits 26:25 of an AArch32 SPSR.
const fn it_state(spsr: u64) -> u64 {
    (spsr >> 10 & 0x3f) << 2 | spsr >> 25 & 3
}

const fn with_it_state(spsr: u64, state: u64) -> u64 {
    spsr & !(0x3f << 10 | 3 << 25) | (state >> 2 & 0x3f) << 10 | (state & 3) << 25
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(spsr: u64, esr: u64) -> GuestContext {
        let mut context = GuestContext::start(0x1000, 0);
        context.spsr = spsr;
        skip(&mut context, esr);
        context
    }

    #[test]
    fn a_step_ends_behind_the_instruction_and_not_one_later() {
        let context = after(0x3c5 | SS | BTYPE, IL);
        assert_eq!((context.elr, context.spsr), (0x1004, 0x3c5));
    }

    #[test]
    fn a_short_instruction_is_two_bytes_long() {
        let user_t32 = AARCH32 | T32;
        assert_eq!(after(user_t32 | SS, 0).elr, 0x1002);
        assert_eq!(after(user_t32 | SS, IL).elr, 0x1004);
        assert_eq!(after(user_t32 | SS, 0).spsr, user_t32);
        // A32: bits 15:10 are IT and stay, since there is none outside T32.
        assert_eq!(after(AARCH32 | BTYPE, IL).spsr, AARCH32 | BTYPE);
    }

    #[test]
    fn an_it_block_moves_on() {
        // ITTE EQ: 0000_0110 → 0000_1100 → 0001_1000 → none.
        let mut spsr = with_it_state(AARCH32 | T32, 0b0000_0110);
        for next in [0b0000_1100, 0b0001_1000, 0] {
            spsr = after(spsr, 0).spsr;
            assert_eq!(it_state(spsr), next);
        }
        assert_eq!(spsr, AARCH32 | T32);
    }

    #[test]
    fn a_failed_condition_is_no_instruction() {
        let with = |flags: u64| {
            let mut context = GuestContext::start(0, 0);
            context.spsr = AARCH32 | flags << 28;
            context
        };
        // By the manual's table (C1.2.4): NZCV for which each condition holds.
        for nzcv in 0..16u64 {
            let (n, z, c, v) = (nzcv >> 3 & 1, nzcv >> 2 & 1, nzcv >> 1 & 1, nzcv & 1);
            let table = [z == 1, c == 1, n == 1, v == 1, c == 1 && z == 0, n == v];
            for (index, holds) in table.into_iter().enumerate() {
                let esr = |low: u64| CV | ((index as u64) << 1 | low) << 20;
                assert_eq!(passes(&with(nzcv), esr(0)), holds, "{index} {nzcv:#x}");
                assert_eq!(passes(&with(nzcv), esr(1)), !holds, "{index} {nzcv:#x}");
            }
            assert!(passes(&with(nzcv), CV | 0xe << 20), "always");
            assert_eq!(passes(&with(nzcv), CV | 0xc << 20), z == 0 && n == v, "GT");
        }
        // Without COND the IT block says it: NE, which fails with Z set.
        let mut context = with(0b0100);
        context.spsr = with_it_state(context.spsr | T32, 0b0001_1000);
        assert!(!passes(&context, 0));
        assert!(passes(&GuestContext::start(0, 0), 0), "AArch64 has no conditions");
    }
}
