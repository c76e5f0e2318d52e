//! Writing EL2's control registers; what they are is [`crate::controls`]'.

use core::arch::asm;

/// Writes a system register, named by its encoding.
macro_rules! msr {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: a control of EL2 over what runs below it, or a control of EL2 that switches
        // something off; no guest runs on this core, and its ID registers say that it is there.
        unsafe {
            core::arch::asm!(concat!("msr ", $register, ", {}"), in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}
pub(crate) use msr;

macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reads a register that only describes the core.
        unsafe {
            asm!(concat!("mrs {}, ", $register), out(reg) value,
                options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// MPAMIDR_EL1. Only where there is FEAT_MPAM.
pub(crate) fn mpam_identity() -> u64 {
    mrs!("S3_0_C10_C4_4")
}

/// PMCR_EL0.N: event counters. Only where there is FEAT_PMUv3.
pub(crate) fn pmu_counters() -> u64 {
    mrs!("pmcr_el0") >> 11 & 0x1f
}

/// Whether the profiling buffer can be programmed here: PMBIDR_EL1.P is clear, else EL3 or the
/// other security state owns it. Only where there is FEAT_SPE.
pub(crate) fn profiling_owner() -> bool {
    mrs!("S3_0_C9_C10_7") & 1 << 4 == 0
}

/// The same of the trace buffer: TRBIDR_EL1.P. Only where there is FEAT_TRBE.
pub(crate) fn trace_owner() -> bool {
    mrs!("S3_0_C9_C11_7") & 1 << 4 == 0
}
