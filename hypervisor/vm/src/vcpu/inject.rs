//! Exceptions that go back to the guest as the architecture says (DDI 0487, D1.3, D24.2.37).
use palisade_hal::guest::{self, El1, GuestContext};

/// An instruction was 32 bits wide (ESR_ELx.IL).
const IL: u64 = 1 << 25;
/// Exception classes.
const UNKNOWN: u64 = 0x00;
const INSTRUCTION_ABORT: u64 = 0x20;
const DATA_ABORT: u64 = 0x24;
/// Added to the class when the exception comes from EL1 itself.
const SAME_LEVEL: u64 = 1;
/// Synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;
/// Synchronous external abort on a table walk, level in the lower bits.
const EXTERNAL_ON_WALK: u64 = 0x14;
/// ISS.WnR.
const WRITE: u64 = 1 << 6;

/// PSTATE: AArch32, and the mode bits.
const AARCH32: u64 = 1 << 4;
const MODE: u64 = 0xf;
const EL1H: u64 = 0b0101;
const DAIF: u64 = 0xf << 6;
/// What an exception leaves of PSTATE (D1.3.2): NZCV, DIT, PAN.
const KEPT: u64 = 0xf << 28 | 1 << 24 | 1 << 22;
const PAN: u64 = 1 << 22;
const SSBS: u64 = 1 << 12;
/// SCTLR_EL1.SPAN: PAN is left as it was.
const SPAN: u64 = 1 << 23;
/// SCTLR_EL1.DSSBS.
const DSSBS: u64 = 1 << 44;

/// Bytes of a vector table.
pub const VECTORS: u64 = 0x800;

/// The guest's instruction does not exist.
pub fn undefined(context: &mut GuestContext) {
    synchronous(context, UNKNOWN << 26 | IL, None);
}

/// The guest read a register that does not exist; `esr` is what the trap reported. Among the
/// registers that identify the core, FEAT_IDST reports this with the class of a trapped register
/// (ID_AA64MMFR2_EL1.IDS, D24.2); elsewhere as [`undefined`].
pub fn no_register(context: &mut GuestContext, esr: u64) {
    // Op0 3, Op1 0, 1 or 3, CRn 0, CRm 0 to 7; bit 0: a read.
    let (op0, op1, crn, crm) = (esr >> 20 & 3, esr >> 14 & 7, esr >> 10 & 0xf, esr >> 1 & 0xf);
    let identifies = op0 == 3 && matches!(op1, 0 | 1 | 3) && crn == 0 && crm < 8 && esr & 1 != 0;
    if identifies && guest::id_register(7, 2) >> 36 & 0xf != 0 {
        synchronous(context, esr & (0x3f << 26 | IL | 0x1ff_ffff), None);
    } else {
        undefined(context);
    }
}

/// An instruction fetch at `far` found nothing. `walk_level` if it was the walk to it.
pub fn instruction_abort(context: &mut GuestContext, far: u64, walk_level: Option<u64>) {
    let class = INSTRUCTION_ABORT + same_level(context);
    synchronous(context, class << 26 | IL | status(walk_level), Some(far));
}

/// A load or store at `far` found nothing.
pub fn data_abort(context: &mut GuestContext, far: u64, write: bool, walk_level: Option<u64>) {
    let class = DATA_ABORT + same_level(context);
    let wnr = if write { WRITE } else { 0 };
    synchronous(context, class << 26 | IL | wnr | status(walk_level), Some(far));
}

const fn status(walk_level: Option<u64>) -> u64 {
    match walk_level {
        Some(level) => EXTERNAL_ON_WALK | level & 3,
        None => EXTERNAL,
    }
}

const fn same_level(context: &GuestContext) -> u64 {
    let from_el0 = context.spsr & AARCH32 != 0 || context.spsr & MODE == 0;
    if from_el0 { 0 } else { SAME_LEVEL }
}

fn synchronous(context: &mut GuestContext, esr: u64, far: Option<u64>) {
    guest::write_el1(El1::Esr, esr);
    guest::write_el1(El1::Elr, context.elr);
    guest::write_el1(El1::Spsr, context.spsr);
    if let Some(far) = far {
        guest::write_el1(El1::Far, far);
    }
    // D1.3.1: from the current level with SP_EL0 or SP_EL1, from a lower one in either state.
    let vector = match (context.spsr & AARCH32 != 0, context.spsr & MODE) {
        (true, _) => 0x600,
        (false, 0) => 0x400,
        (false, 0b0100) => 0x000,
        (false, _) => 0x200,
    };
    let sctlr = guest::read_el1(El1::Sctlr);
    let mut spsr = context.spsr & KEPT;
    if context.spsr & AARCH32 != 0 {
        // In AArch32 state DIT is bit 21 and bit 24 is J.
        spsr &= !(1 << 24);
    }
    if sctlr & SPAN == 0 && has_pan() {
        spsr |= PAN;
    }
    if sctlr & DSSBS != 0 {
        spsr |= SSBS;
    }
    context.spsr = spsr | DAIF | EL1H;
    context.elr = guest::read_el1(El1::Vbar).wrapping_add(vector);
}

/// Whether the core has PSTATE.PAN (ID_AA64MMFR1_EL1.PAN).
fn has_pan() -> bool {
    guest::id_register(7, 1) >> 20 & 0xf != 0
}
