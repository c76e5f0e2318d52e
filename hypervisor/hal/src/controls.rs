//! The control registers of EL2, one table: register, when it is there, value, reason.
//!
//! Few of them have a reset value, and firmware may have used any (DDI 0487, D24.2). So each core
//! writes each of them that its ID registers imply, before it does anything else, by
//! [`init_core`]. What a guest must not have is off here *and* is not in the ID registers that it
//! is shown. Written elsewhere: VBAR, TPIDR, SCTLR, TCR, TTBR0, MAIR and, since they bear upon
//! EL2's own translation, AMAIR, TCR2 and SCTLR2 (by the first instructions); HCR, VTTBR, VTCR,
//! VPIDR and VMPIDR (when a vCPU starts); ICC_SRE and the ICH registers (by the GIC's driver).
//!
//! Left alone, with the reason: ACTLR (implementation-defined; HCR_EL2.TIDCP and TACR trap what
//! it could open), ZCR and SMCR (CPTR_EL2 traps SVE and SME, EL2's own too), VNCR (HCR_EL2.NV is
//! clear), TFSR (SCTLR_EL2 has no tag checks), SPMACCESSR (MDCR_EL2.EnSPM is clear), the
//! registers of AArch32 at EL1 (there is none), the offsets of AMU counters (HCR_EL2.AMVOFFEN is
//! clear), and what describes an exception (ESR, FAR, HPFAR, AFSR0, AFSR1).

use crate::twin::barrier::isb;
use crate::twin::controls::{mpam_identity, msr, pmu_counters, profiling_owner, trace_owner};
use crate::twin::guest::id_register;

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// The manual's name.
    pub name: &'static str,
    /// What is written; `None` where this core has no such register.
    pub value: Option<u64>,
    /// Why.
    pub reason: &'static str,
}

/// The field of an ID register of op0 3, op1 0, CRn 0.
fn id(crm: u8, op2: u8, shift: u32) -> u64 {
    id_register(crm, op2) >> shift & 0xf
}

/// FEAT_AMUv1 (ID_AA64PFR0_EL1.AMU).
fn has_amu() -> bool {
    id(4, 0, 44) != 0
}

/// FEAT_RAS (ID_AA64PFR0_EL1.RAS).
pub(crate) fn has_ras() -> bool {
    id(4, 0, 28) != 0
}

/// FEAT_MPAM (ID_AA64PFR0_EL1.MPAM, ID_AA64PFR1_EL1.MPAM_frac).
fn has_mpam() -> bool {
    id(4, 0, 40) != 0 || id(4, 1, 16) != 0
}

/// FEAT_PAuth by any algorithm (ID_AA64ISAR1_EL1.APA, API, GPA, GPI; ISAR2_EL1.GPA3, APA3).
pub(crate) fn has_pointer_authentication() -> bool {
    [(6, 1, 4), (6, 1, 8), (6, 1, 24), (6, 1, 28), (6, 2, 8), (6, 2, 12)]
        .into_iter()
        .any(|(crm, op2, shift)| id(crm, op2, shift) != 0)
}

/// FEAT_FGT or FEAT_FGT2 (ID_AA64MMFR0_EL1.FGT).
fn has_fine_traps(version: u64) -> bool {
    id(7, 0, 56) >= version
}

/// FEAT_CSV2_2 or FEAT_CSV2_1p2 (ID_AA64PFR0_EL1.CSV2, ID_AA64PFR1_EL1.CSV2_frac).
fn has_context_numbers() -> bool {
    id(4, 0, 56) >= 2 || id(4, 0, 56) == 1 && id(4, 1, 32) == 2
}

/// The version of the PMU; 15 is somebody's own (ID_AA64DFR0_EL1.PMUVer).
fn pmu() -> Option<u64> {
    Some(id(5, 0, 8)).filter(|version| !matches!(version, 0 | 15))
}

/// RES1 bits with TZ (8) and TSM (12): SVE and SME trap. TTA (20): trace. TAM (30): the activity
/// monitors, which count EL2 too. Floating point does not trap.
fn cptr() -> u64 {
    0x33ff | 1 << 20 | u64::from(has_amu()) << 30
}

/// TPMCR (5), TPM (6), TDRA (11), TPMS (14), TTRF (19). The buffers of profiling and trace are
/// EL2's (E2PB and E2TB 0). HPMN: all counters are of the range that EL1 could have, since 0 is
/// unpredictable without FEAT_HPMN0; none counts at EL2 (HPMD 17, HCCD 23). Debug exceptions stay
/// with EL1 (TDE 8): the debug registers are the vCPU's that owns the core.
fn mdcr() -> u64 {
    let traps = 0b11 << 5 | 1 << 11 | 1 << 14 | 1 << 19;
    let Some(version) = pmu() else { return traps };
    // FEAT_PMUv3p1 is 4, FEAT_PMUv3p5 is 6.
    traps | pmu_counters() | u64::from(version >= 4) << 17 | u64::from(version >= 6) << 23
}

/// All enables clear: LS64, MOPS, TCR2, SCTLR2, 128-bit descriptors, GCS, FPMR and what comes
/// after them are not there for a guest. TALLINT (6): PSTATE.ALLINT of FEAT_NMI neither.
fn hcrx() -> u64 {
    u64::from(id(4, 1, 36) != 0) << 6
}

/// TRAPMPAM1EL1 (48), TRAPMPAM0EL1 (49), TIDR (58) where MPAMIDR_EL1.HAS_TIDR (56); EL2 itself
/// runs with partition 0.
fn mpam2() -> u64 {
    0b11 << 48 | (mpam_identity() >> 56 & 1) << 58
}

macro_rules! table {
    ($($name:literal $register:literal, $there:expr, $value:expr, $reason:literal;)+) => {
        /// The table, as it is for the calling core.
        pub fn table() -> impl Iterator<Item = Control> {
            let rows = [$(Control {
                name: $name,
                value: if $there { Some($value) } else { None },
                reason: $reason,
            }),+];
            rows.into_iter()
        }

        /// Writes every control register of EL2 that the calling core has. Before any guest runs
        /// on it.
        pub fn init_core() {
            $(if $there {
                msr!($register, $value);
            })+
            isb();
        }
    };
}

const PROFILING: fn() -> bool = || id(5, 0, 32) != 0 && profiling_owner();
const TRACE_BUFFER: fn() -> bool = || id(5, 0, 44) != 0 && trace_owner();

table! {
    "HACR_EL2" "S3_4_C1_C1_7", true, 0, "no implementation-defined traps";
    "HSTR_EL2" "S3_4_C1_C1_3", true, 0, "EL1 is AArch64: nothing of AArch32's to trap";
    "CPTR_EL2" "S3_4_C1_C1_2", true, cptr(), "no SVE, SME, trace or activity monitors";
    "MDCR_EL2" "S3_4_C1_C1_1", true, mdcr(), "no PMU, profiling or trace; debug is the vCPU's";
    "CNTHCTL_EL2" "S3_4_C14_C1_0", true, 0b11, "counter and physical timer are the vCPU's";
    "CNTVOFF_EL2" "S3_4_C14_C0_3", true, 0, "the virtual count is the physical one";
    "CNTHP_CTL_EL2" "S3_4_C14_C2_1", true, 0, "EL2's timer is off";
    "CNTPOFF_EL2" "S3_4_C14_C0_6", id(7, 0, 60) >= 2, 0, "no offset, and CNTHCTL_EL2.ECV off";
    "CNTHV_CTL_EL2" "S3_4_C14_C3_1", id(7, 1, 8) != 0, 0, "EL2's virtual timer is off";
    "CONTEXTIDR_EL2" "S3_4_C13_C0_1", id(7, 1, 8) != 0, 0, "what traces and breakpoints see";
    "HCRX_EL2" "S3_4_C1_C2_2", id(7, 1, 40) != 0, hcrx(), "no feature that it would switch on";
    "HFGRTR_EL2" "S3_4_C1_C1_4", has_fine_traps(1), 0, "its n-bits trap GCS, SME's, POE's, …";
    "HFGWTR_EL2" "S3_4_C1_C1_5", has_fine_traps(1), 0, "as for reads";
    "HFGITR_EL2" "S3_4_C1_C1_6", has_fine_traps(1), 0, "its n-bits trap BRB and GCS instructions";
    "HDFGRTR_EL2" "S3_4_C3_C1_4", has_fine_traps(1), 0, "its n-bits trap the branch record";
    "HDFGWTR_EL2" "S3_4_C3_C1_5", has_fine_traps(1), 0, "as for reads";
    "HAFGRTR_EL2" "S3_4_C3_C1_6", has_fine_traps(1) && has_amu(), 0, "CPTR_EL2.TAM traps all";
    "HFGRTR2_EL2" "S3_4_C3_C1_2", has_fine_traps(2), 0, "its n-bits trap all it knows";
    "HFGWTR2_EL2" "S3_4_C3_C1_3", has_fine_traps(2), 0, "as for reads";
    "HFGITR2_EL2" "S3_4_C3_C1_7", has_fine_traps(2), 0, "nothing that a guest is not shown";
    "HDFGRTR2_EL2" "S3_4_C3_C1_0", has_fine_traps(2), 0, "its n-bits trap all it knows";
    "HDFGWTR2_EL2" "S3_4_C3_C1_1", has_fine_traps(2), 0, "as for reads";
    "MPAM2_EL2" "S3_4_C10_C5_0", has_mpam(), mpam2(), "a guest cannot choose its partition";
    "MPAM1_EL1" "S3_0_C10_C5_0", has_mpam(), 0, "guests run in partition 0";
    "MPAM0_EL1" "S3_0_C10_C5_1", has_mpam(), 0, "guests run in partition 0";
    "MPAMHCR_EL2" "S3_4_C10_C4_0", has_mpam() && mpam_identity() >> 17 & 1 != 0, 1 << 31,
        "no virtual partitions, and MPAMIDR_EL1 traps";
    "VSESR_EL2" "S3_4_C5_C2_3", has_ras(), 0, "a virtual SError has no other syndrome";
    "VDISR_EL2" "S3_4_C12_C1_1", has_ras(), 0, "no SError was deferred";
    "SCXTNUM_EL2" "S3_4_C13_C0_7", has_context_numbers(), 0, "one context of predictions";
    "LORC_EL1" "S3_0_C10_C4_3", id(7, 1, 16) != 0, 0, "no limited ordering regions";
    "GCSCR_EL2" "S3_4_C2_C5_0", id(4, 1, 44) != 0, 0, "no guarded stack at EL2";
    "TRFCR_EL2" "S3_4_C1_C2_1", id(5, 0, 40) != 0, 0, "EL2 is not traced";
    "BRBCR_EL2" "S2_4_C9_C0_0", !matches!(id(5, 0, 52), 0 | 15), 0, "EL2's branches are not recorded";
    "PMSCR_EL2" "S3_4_C9_C9_0", PROFILING(), 0, "EL2 is not profiled";
    "PMBLIMITR_EL1" "S3_0_C9_C10_0", PROFILING(), 0, "no profiling buffer writes to memory";
    "TRBLIMITR_EL1" "S3_0_C9_C11_0", TRACE_BUFFER(), 0, "no trace buffer writes to memory";
}
