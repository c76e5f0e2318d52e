//! Counting this core's instructions (DDI 0487, D13: the Performance Monitors Extension).

use core::arch::asm;

/// The event INST_RETIRED, and its bit in PMCEID0_EL0 (D24.5.4).
const INST_RETIRED: u64 = 0x08;
/// PMEVTYPER0_EL0.NSH: EL2 counts too (D24.5.12).
const NSH: u64 = 1 << 27;
/// PMCR_EL0.E: counters count (D24.5.8).
const ENABLE: u64 = 1 << 0;
/// MDCR_EL2.HPME and HPMD: counters that are EL2's own count; none does at EL2 (D24.3.17).
const HPME: u64 = 1 << 7;
const HPMD: u64 = 1 << 17;

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads a register of the PMU, which has no effect.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack)) };
        value
    }};
}

macro_rules! write {
    ($register:literal, $value:expr) => {
        // SAFETY: changes what the PMU counts, and nothing else: its overflow interrupt is
        // off, and guests have no PMU.
        unsafe { asm!(concat!("msr ", $register, ", {}"), in(reg) $value, options(nostack)) }
    };
}

/// Runs `body` and answers how many instructions this core retired meanwhile, 2^32 − 1 at
/// most, where it counts them. The PMU is this function's alone.
pub fn retired<R>(body: impl FnOnce() -> R) -> (R, Option<u32>) {
    if !counts() {
        return (body(), None);
    }
    let (control, debug) = (read!("pmcr_el0"), read!("mdcr_el2"));
    write!("mdcr_el2", debug & !HPMD | HPME);
    write!("pmevtyper0_el0", INST_RETIRED | NSH);
    write!("pmevcntr0_el0", 0u64);
    write!("pmcntenset_el0", 1u64);
    write!("pmcr_el0", control | ENABLE);
    super::barrier::isb();
    let result = body();
    super::barrier::isb();
    let count = read!("pmevcntr0_el0");
    write!("pmcntenclr_el0", 1u64);
    write!("pmcr_el0", control);
    write!("mdcr_el2", debug);
    super::barrier::isb();
    (result, Some(u32::try_from(count).unwrap_or(u32::MAX)))
}

/// Runs `body`, inside [`retired`]'s, without counting it: for what plays a device that the core
/// itself does not run. Only where `retired` counts.
pub fn uncounted<R>(body: impl FnOnce() -> R) -> R {
    let on = read!("pmcntenset_el0") & 1;
    write!("pmcntenclr_el0", 1u64);
    super::barrier::isb();
    let result = body();
    write!("pmcntenset_el0", on);
    super::barrier::isb();
    result
}

/// Whether there is a PMU with a counter that knows the event.
fn counts() -> bool {
    // ID_AA64DFR0_EL1.PMUVer: 0 is none, 15 somebody's own.
    let version = read!("id_aa64dfr0_el1") >> 8 & 0xf;
    if version == 0 || version == 0xf {
        return false;
    }
    let counters = read!("pmcr_el0") >> 11 & 0x1f;
    counters > 0 && read!("pmceid0_el0") >> INST_RETIRED & 1 != 0
}
