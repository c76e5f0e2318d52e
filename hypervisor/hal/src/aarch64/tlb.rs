//! TLB maintenance for stage 2 (DDI 0487, D8.13). Broadcast to the inner
//! shareable domain, and complete when the call returns.

use core::arch::asm;

use super::barrier;
use crate::{Ipa, PhysAddr, Vmid};

/// The value of VTTBR_EL2 (DDI 0487, D24.2.190): VMID in bits 63:48, BADDR below.
pub const fn vttbr(vmid: Vmid, root: PhysAddr) -> u64 {
    (vmid.get() as u64) << 48 | root.get()
}

/// Runs `body` with VTTBR_EL2 = `value`, since TLBI instructions act on the current VMID.
fn with_vttbr(value: u64, body: impl FnOnce()) {
    let old: u64;
    // SAFETY: no EL1 code runs between the two writes, and EL2's own translation
    // does not use VTTBR_EL2.
    unsafe {
        asm!("mrs {0}, vttbr_el2", "msr vttbr_el2, {1}", "isb", out(reg) old, in(reg) value,
            options(nostack, preserves_flags));
    }
    body();
    // SAFETY: puts back what was there.
    unsafe { asm!("msr vttbr_el2, {}", "isb", in(reg) old, options(nostack, preserves_flags)) };
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
