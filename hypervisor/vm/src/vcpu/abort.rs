//! Aborts that stage 2 took: emulated registers, or nothing.
use palisade_gic::AnyGic;
use palisade_hal::{
    Ipa,
    guest::{Exit, ExitKind, GuestContext},
};

use super::{emulate, inject, irq, skip::skip};
use crate::{Vm, mmio::Width, vgic};

/// ESR_EL2.ISS of a data abort (DDI 0487, D24.2.37).
const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const CM: u64 = 1 << 8;
const S1PTW: u64 = 1 << 7;
const WNR: u64 = 1 << 6;
/// Fault status, and two kinds of it.
const STATUS: u64 = 0x3f;
const TRANSLATION: u64 = 0x04;
const PERMISSION: u64 = 0x0c;

/// The address that stage 2 was asked for (HPFAR_EL2.FIPA, D24.2.65).
pub fn address(exit: &Exit) -> Ipa {
    Ipa::new((exit.hpfar >> 4 & 0xff_ffff_ffff) << 12 | exit.far & 0xfff)
}

/// The level of the walk on which stage 2 stopped stage 1.
const fn walk_level(esr: u64) -> Option<u64> {
    if esr & S1PTW != 0 { Some(esr & 3) } else { None }
}

/// A load or store. Carried out by a device, or an abort: there is nothing, or it cannot be
/// carried out, and the log says which.
#[inline(never)]
pub fn data(vm: &Vm, vcpu: usize, context: &mut GuestContext, gic: &AnyGic) {
    let exit = &context.exit(ExitKind::Sync);
    let esr = exit.esr;
    let write = esr & WNR != 0;
    let plain = esr & STATUS & !3 == TRANSLATION && esr & S1PTW == 0;
    let (at, unmapped) = if plain { (address(exit), true) } else { kept(vm, exit) };
    if unmapped && esr & CM != 0 {
        // Cache maintenance of what is not there does nothing.
        return skip(context, esr);
    }
    if unmapped && vgic::is_about_state(at) {
        // The guest asks what is pending or active, or says so.
        know(vm, vcpu, gic);
    }
    if unmapped && esr & ISV != 0 && by_syndrome(vm, vcpu, context, esr, at, write) {
        return skip(context, esr);
    }
    not_by_syndrome(vm, vcpu, context, at, unmapped);
}

/// Where an access goes that stage 2 did not merely lack, and whether a device takes it: a store to
/// read-only memory that a device stands behind is that device's.
#[cold]
#[inline(never)]
fn kept(vm: &Vm, exit: &Exit) -> (Ipa, bool) {
    let esr = exit.esr;
    let denied = esr & WNR != 0 && esr & STATUS & !3 == PERMISSION && esr & S1PTW == 0;
    // For a permission fault that no walk met HPFAR_EL2 is UNKNOWN (D24.2.65).
    let page = if denied { emulate::stage1(exit.far, true) } else { None };
    let at = page.map_or(address(exit), |page| Ipa::new(page | exit.far & 0xfff));
    (at, denied && vm.bus().is_device(at))
}

/// Makes the state what list registers and timers know.
#[cold]
#[inline(never)]
fn know(vm: &Vm, vcpu: usize, gic: &AnyGic) {
    vm.vgic().fold(vcpu, gic);
    irq::sample_timers(vm, vcpu);
}

/// What no syndrome describes, and what no device takes.
#[inline(never)]
fn not_by_syndrome(vm: &Vm, vcpu: usize, context: &mut GuestContext, at: Ipa, unmapped: bool) {
    let exit = &context.exit(ExitKind::Sync);
    let esr = exit.esr;
    let write = esr & WNR != 0;
    if unmapped && esr & ISV == 0 && vm.bus().is_device(at) {
        match emulate::emulate(vm, vcpu, context, exit, at, write) {
            Ok(()) => return skip(context, esr),
            Err(why) => {
                refused(vm, vcpu, context, at, write, &why);
                return inject::data_abort(context, exit.far, write, None);
            }
        }
    }
    let what = if write { "store to" } else { "load from" };
    let why = match esr & STATUS & !3 {
        PERMISSION => "not allowed",
        TRANSLATION if vm.bus().is_device(at) => "misaligned, or reaches past the device",
        _ => "nothing there",
    };
    vm.complain(|| {
        log::warn!(
            "[{}] vCPU {vcpu}: {what} {at} at PC {:#x}: {why} (syndrome {esr:#x})",
            vm.name(),
            context.elr
        )
    });
    inject::data_abort(context, exit.far, write, walk_level(esr));
}

/// Says that a device is there, and why the access does not reach it.
#[cold]
fn refused(
    vm: &Vm,
    vcpu: usize,
    context: &GuestContext,
    at: Ipa,
    write: bool,
    why: &emulate::NotEmulated,
) {
    let what = if write { "store to" } else { "load from" };
    vm.complain(|| {
        log::warn!(
            "[{}] vCPU {vcpu}: {what} device register {at} at PC {:#x}: not emulated: {why}",
            vm.name(),
            context.elr
        )
    });
}

#[inline]
fn by_syndrome(
    vm: &Vm,
    vcpu: usize,
    context: &mut GuestContext,
    esr: u64,
    at: Ipa,
    write: bool,
) -> bool {
    let width = match esr >> 22 & 3 {
        0 => Width::Bits8,
        1 => Width::Bits16,
        2 => Width::Bits32,
        _ => Width::Bits64,
    };
    let register = (esr >> 16 & 0x1f) as usize;
    if write {
        return vm.bus().write(vcpu, at, width, context.get(register));
    }
    let Some(value) = vm.bus().read(vcpu, at, width) else { return false };
    // The common case is a word that goes to a word register, and all is done.
    let value = match esr & SSE == 0 && width != Width::Bits64 {
        true => value,
        false => emulate::loaded(value, width, esr & SSE != 0, esr & SF != 0),
    };
    context.set(register, value);
    true
}

/// An instruction fetch. Answers whether the guest can go on.
pub fn instruction(vm: &Vm, vcpu: usize, context: &mut GuestContext, exit: &Exit) -> bool {
    let at = address(exit);
    let what = if vm.bus().is_device(at) { "a device" } else { "nothing there" };
    let vectors = palisade_hal::guest::read_el1(palisade_hal::guest::El1::Vbar);
    vm.complain(|| {
        log::warn!("[{}] vCPU {vcpu}: fetch from {at} at PC {:#x}: {what}", vm.name(), context.elr)
    });
    // Its own exception vectors are not there: it would take this abort for ever.
    if context.elr.wrapping_sub(vectors) < inject::VECTORS {
        log::error!("[{}] vCPU {vcpu}: no exception vectors at {vectors:#x}", vm.name());
        return false;
    }
    inject::instruction_abort(context, exit.far, walk_level(exit.esr));
    true
}
