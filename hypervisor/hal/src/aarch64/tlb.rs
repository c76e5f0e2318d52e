//! TLB maintenance for stage 2 (DDI 0487, D8.13). Broadcast to the inner
//! shareable domain, and complete when the call returns.

use core::arch::asm;

use super::barrier;
use super::guest::NO_WALKS;
use crate::{Ipa, PhysAddr, Vmid};

/// The value of VTTBR_EL2 (DDI 0487, D24.2.190): VMID in bits 63:48, BADDR below.
pub const fn vttbr(vmid: Vmid, root: PhysAddr) -> u64 {
    (vmid.get() as u64) << 48 | root.get()
}

/// Runs `body` with VTTBR_EL2 = `value`, since TLBI instructions act on the current VMID.
///
/// Where that is another VM's, its VMID and stage 2 meet the stage 1 of the guest whose vCPU is on
/// this core. A core with erratum 1319367 (Cortex-A72; 1319537 on A57, 1530923 on A55, 1165522 on
/// A76) may then speculate an AT instruction and keep what it walked, under the wrong VMID. So
/// walks of stage 1 are off meanwhile (TCR_EL1.EPD0, EPD1), each step behind its own ISB.
fn with_vttbr(value: u64, body: impl FnOnce()) {
    let (old, tcr): (u64, u64);
    // SAFETY: reads two registers.
    unsafe {
        asm!("mrs {}, vttbr_el2", "mrs {}, tcr_el1", out(reg) old, out(reg) tcr,
            options(nostack, preserves_flags));
    }
    if old == value {
        return body();
    }
    // SAFETY: no EL1 code runs before both are put back, and EL2's own translation uses neither.
    unsafe {
        asm!("msr tcr_el1, {1}", "isb", "msr vttbr_el2, {0}", "isb", in(reg) value,
            in(reg) tcr | NO_WALKS, options(nostack, preserves_flags));
    }
    body();
    // SAFETY: puts back what was there.
    unsafe {
        asm!("msr vttbr_el2, {0}", "isb", "msr tcr_el1, {1}", "isb", in(reg) old, in(reg) tcr,
            options(nostack, preserves_flags));
    }
}

/// Forgets every translation, stage 1 and 2, of `vmid`: TLBI VMALLS12E1IS.
pub fn flush_vmid(vmid: Vmid, root: PhysAddr) {
    barrier::dsb_ishst();
    with_vttbr(vttbr(vmid, root), || {
        // SAFETY: an invalidation can only make later walks read the tables anew.
        unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
        barrier::dsb_ish();
        barrier::isb();
    });
}

/// Forgets the translations of `bytes` bytes from `start` of `vmid`, and the
/// combined stage-1 entries built on them (D8.13.5): TLBI IPAS2E1IS per `step`
/// bytes, then VMALLE1IS. Past 512 steps the whole VMID is flushed instead.
pub fn flush_ipa(vmid: Vmid, root: PhysAddr, start: Ipa, bytes: u64, step: u64) {
    let step = step.max(4096);
    let steps = bytes.div_ceil(step);
    if steps > 512 {
        return flush_vmid(vmid, root);
    }
    barrier::dsb_ishst();
    with_vttbr(vttbr(vmid, root), || {
        for index in 0..steps {
            let page = start.get().wrapping_add(index.wrapping_mul(step)) >> 12;
            // SAFETY: as above.
            unsafe {
                asm!("tlbi ipas2e1is, {}", in(reg) page & 0xf_ffff_ffff,
                    options(nostack, preserves_flags));
            }
        }
        barrier::dsb_ish();
        // SAFETY: as above.
        unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
        barrier::dsb_ish();
        barrier::isb();
    });
}

/// Forgets every translation of EL2 itself on every core: TLBI ALLE2IS.
pub fn flush_el2() {
    barrier::dsb_ishst();
    // SAFETY: as above.
    unsafe { asm!("tlbi alle2is", options(nostack, preserves_flags)) };
    barrier::dsb_ish();
    barrier::isb();
}

/// Forgets every stage-1 and stage-2 translation of every VM: TLBI ALLE1IS.
pub fn flush_all_guests() {
    barrier::dsb_ishst();
    // SAFETY: as above.
    unsafe { asm!("tlbi alle1is", options(nostack, preserves_flags)) };
    barrier::dsb_ish();
    barrier::isb();
}
