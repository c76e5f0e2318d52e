//! Loads and stores of emulated devices that the core did not decode: the instruction is read
//! from the guest's memory, once, by the guest's own translation, and carried out here.
use core::fmt;

use palisade_hal::{
    Ipa,
    guest::{self, El1, Exit, GuestContext},
};

use super::decode::{Base, Offset, Refusal, Writeback, decode};
use crate::{Vm, mmio::Width};

/// SPSR_EL2: AArch32, and M\[3:0\] of EL1 with SP_EL1.
const AARCH32: u64 = 1 << 4;
const MODE: u64 = 0xf;
const EL1H: u64 = 0b0101;
/// PAR_EL1 (DDI 0487, D24.2.118): the translation failed; the address.
const PAR_F: u64 = 1;
const PAR_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Device registers are mapped by pages of this size at least.
const PAGE: u64 = 4096;
/// Bits of an address without its tag.
const UNTAGGED: u64 = (1 << 56) - 1;

/// Why an access was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEmulated {
    /// AArch32 instructions are not decoded.
    AArch32,
    /// The instruction cannot be read at the PC.
    Unreadable,
    /// It is this.
    Instruction(Refusal, u32),
    /// It is another one than the core stopped at: the guest changed it meanwhile.
    Changed(u32),
    /// It reaches out of the device's page or registers, or is not aligned.
    Reach(u32),
}

impl fmt::Display for NotEmulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AArch32 => f.write_str("an AArch32 instruction without syndrome"),
            Self::Unreadable => f.write_str("the instruction cannot be read"),
            Self::Instruction(what, word) => write!(f, "{word:#010x} is {what}"),
            Self::Changed(word) => write!(f, "{word:#010x} is not what made it"),
            Self::Reach(word) => write!(f, "{word:#010x} is misaligned or reaches past the device"),
        }
    }
}

/// Carries out the access of the guest at the device address `at`, which `exit` stopped. The
/// guest has not gone on behind it.
///
/// # Errors
/// [`NotEmulated`]; nothing has been accessed then, and no register changed.
pub fn emulate(
    vm: &Vm,
    vcpu: usize,
    context: &mut GuestContext,
    exit: &Exit,
    at: Ipa,
    write: bool,
) -> Result<(), NotEmulated> {
    let word = fetch(vm, context)?;
    let transfer = decode(word).map_err(|what| NotEmulated::Instruction(what, word))?;
    let base = base(context, transfer.base);
    let indexed = base.wrapping_add(offset(context, transfer.offset));
    let address = if transfer.writeback == Writeback::After { base } else { indexed };
    let each = transfer.width.bytes();
    let total = if transfer.second.is_some() { 2 * each } else { each };
    // The core reports an address of the access, the first that failed.
    let into = exit.far.wrapping_sub(address) & UNTAGGED;
    if transfer.load == write || into >= total {
        return Err(NotEmulated::Changed(word));
    }
    let reach = NotEmulated::Reach(word);
    // The other register of a pair may be in the next page: the guest's own tables say where.
    let place = |address: u64| {
        let known = (address ^ exit.far) & UNTAGGED & !(PAGE - 1) == 0;
        let page = if known { Some(at.get()) } else { stage1(address, write) }?;
        let whole = address % PAGE + each <= PAGE;
        whole.then(|| Ipa::new(page & !(PAGE - 1) | (address % PAGE)))
    };
    let first = place(address).ok_or(reach)?;
    let second = match transfer.second {
        Some(_) => place(address.wrapping_add(each)).ok_or(reach)?,
        None => first,
    };
    let registers = [Some(transfer.first), transfer.second];
    let accesses = [first, second];
    let mut both = registers.into_iter().flatten().zip(accesses);
    if !both.all(|(_, at)| vm.bus().holds(at, transfer.width)) {
        return Err(reach);
    }
    for (register, at) in registers.into_iter().flatten().zip(accesses) {
        let register = usize::from(register);
        if !transfer.load {
            vm.bus().write(vcpu, at, transfer.width, context.get(register));
        } else if let Some(value) = vm.bus().read(vcpu, at, transfer.width) {
            context.set(register, loaded(value, transfer.width, transfer.signed, transfer.wide));
        }
    }
    if let (Base::Register(register), true) = (transfer.base, transfer.writeback != Writeback::None)
    {
        set_base(context, register, indexed);
    }
    Ok(())
}

/// What a register gets from a load of `width`.
pub fn loaded(value: u64, width: Width, signed: bool, wide: bool) -> u64 {
    let unused = 64 - 8 * width.bytes() as u32;
    let value = if signed { ((value << unused) as i64 >> unused) as u64 } else { value };
    if wide { value } else { value & 0xffff_ffff }
}

/// The instruction at the guest's PC. Whatever the guest does to its tables meanwhile, four bytes
/// of its own RAM are read at most, once.
fn fetch(vm: &Vm, context: &GuestContext) -> Result<u32, NotEmulated> {
    if context.spsr & AARCH32 != 0 {
        return Err(NotEmulated::AArch32);
    }
    let page = stage1(context.elr, false).ok_or(NotEmulated::Unreadable)?;
    let ipa = Ipa::new(page | context.elr & 0xffc);
    let mut bytes = [0; 4];
    match vm.memory().read(ipa, &mut bytes) {
        // Instructions are little-endian whatever the data are (B2.6.1).
        true => Ok(u32::from_le_bytes(bytes)),
        false => Err(NotEmulated::Unreadable),
    }
}

/// The page that the guest's own tables lead `address` to.
pub(super) fn stage1(address: u64, write: bool) -> Option<u64> {
    let par = guest::translate_stage1(address, write);
    (par & PAR_F == 0).then_some(par & PAR_ADDRESS)
}

/// Whether register 31 as a base is SP_EL1.
const fn has_own_stack(context: &GuestContext) -> bool {
    context.spsr & MODE == EL1H
}

fn base(context: &GuestContext, base: Base) -> u64 {
    match base {
        Base::Literal => context.elr,
        Base::Register(31) if has_own_stack(context) => guest::read_el1(El1::Sp),
        Base::Register(31) => guest::read_el1(El1::SpEl0),
        Base::Register(n) => context.get(usize::from(n)),
    }
}

fn set_base(context: &mut GuestContext, register: u8, value: u64) {
    match register {
        31 if has_own_stack(context) => guest::write_el1(El1::Sp, value),
        31 => guest::write_el1(El1::SpEl0, value),
        n => context.set(usize::from(n), value),
    }
}

fn offset(context: &GuestContext, offset: Offset) -> u64 {
    match offset {
        Offset::Immediate(bytes) => bytes as u64,
        Offset::Register { index, option, shift } => {
            let value = context.get(usize::from(index));
            let extended = match option {
                2 => value & 0xffff_ffff,
                6 => value as i32 as u64,
                _ => value,
            };
            extended << shift
        }
    }
}
