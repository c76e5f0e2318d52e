//! TLB maintenance: told to the observer.

use core::panic::Location;

use super::observer::{Op, Tlbi, tell};
use crate::{Ipa, PhysAddr, Vmid};

/// The value of VTTBR_EL2 (DDI 0487, D24.2.190): VMID in bits 63:48, BADDR below.
pub const fn vttbr(vmid: Vmid, root: PhysAddr) -> u64 {
    (vmid.get() as u64) << 48 | root.get()
}

/// Forgets every translation of `vmid`.
#[track_caller]
pub fn flush_vmid(vmid: Vmid, root: PhysAddr) {
    tell(Op::Tlbi(Tlbi::Vmid(vmid, root)), Location::caller());
}

/// Forgets the translations of a range of `vmid`.
#[track_caller]
pub fn flush_ipa(vmid: Vmid, root: PhysAddr, start: Ipa, bytes: u64, step: u64) {
    tell(Op::Tlbi(Tlbi::Ipa(vmid, root, start, bytes, step)), Location::caller());
}

/// Forgets every translation of EL2 itself.
#[track_caller]
pub fn flush_el2() {
    tell(Op::Tlbi(Tlbi::El2), Location::caller());
}

/// Forgets every translation of every VM.
#[track_caller]
pub fn flush_all_guests() {
    tell(Op::Tlbi(Tlbi::AllGuests), Location::caller());
}
