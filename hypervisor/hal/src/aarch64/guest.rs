//! Into a guest and back, and the registers that shape what it sees.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use crate::context::{El1, Exit, ExitKind, GuestContext, Ich, Stage2};
use crate::controls::{has_pointer_authentication, has_ras};

// The vectors (boot) branch to __palisade_guest_exit with the guest's x0 and x1
// on the stack and x0 = the ExitKind. The stack is where `enter` left it:
//   [sp, #0] x0, x1   then enter's frame: x29, x30, x19..x28, context.
global_asm!(
    ".section .text.guest, \"ax\"",
    ".global __palisade_enter",
    "__palisade_enter:",
    "    stp x29, x30, [sp, #-112]!",
    "    stp x19, x20, [sp, #16]",
    "    stp x21, x22, [sp, #32]",
    "    stp x23, x24, [sp, #48]",
    "    stp x25, x26, [sp, #64]",
    "    stp x27, x28, [sp, #80]",
    "    str x0, [sp, #96]",
    "    ldp x1, x2, [x0, #{elr}]",
    "    msr elr_el2, x1",
    "    msr spsr_el2, x2",
    "    ldp x2, x3, [x0, #16]",
    "    ldp x4, x5, [x0, #32]",
    "    ldp x6, x7, [x0, #48]",
    "    ldp x8, x9, [x0, #64]",
    "    ldp x10, x11, [x0, #80]",
    "    ldp x12, x13, [x0, #96]",
    "    ldp x14, x15, [x0, #112]",
    "    ldp x16, x17, [x0, #128]",
    "    ldp x18, x19, [x0, #144]",
    "    ldp x20, x21, [x0, #160]",
    "    ldp x22, x23, [x0, #176]",
    "    ldp x24, x25, [x0, #192]",
    "    ldp x26, x27, [x0, #208]",
    "    ldp x28, x29, [x0, #224]",
    "    ldr x30, [x0, #240]",
    "    ldp x0, x1, [x0]",
    "    eret",
    // No speculation past the way out.
    "    dsb nsh",
    "    isb",
    "",
    ".global __palisade_guest_exit",
    "__palisade_guest_exit:",
    "    ldr x1, [sp, #112]",
    "    stp x2, x3, [x1, #16]",
    "    stp x4, x5, [x1, #32]",
    "    stp x6, x7, [x1, #48]",
    "    stp x8, x9, [x1, #64]",
    "    stp x10, x11, [x1, #80]",
    "    stp x12, x13, [x1, #96]",
    "    stp x14, x15, [x1, #112]",
    "    stp x16, x17, [x1, #128]",
    "    stp x18, x19, [x1, #144]",
    "    stp x20, x21, [x1, #160]",
    "    stp x22, x23, [x1, #176]",
    "    stp x24, x25, [x1, #192]",
    "    stp x26, x27, [x1, #208]",
    "    stp x28, x29, [x1, #224]",
    "    ldp x2, x3, [sp], #16",
    "    stp x2, x3, [x1]",
    "    mrs x2, elr_el2",
    "    stp x30, x2, [x1, #240]",
    "    mrs x2, spsr_el2",
    "    mrs x3, esr_el2",
    "    stp x2, x3, [x1, #{spsr}]",
    "    mrs x2, far_el2",
    "    mrs x3, hpfar_el2",
    "    stp x2, x3, [x1, #{far}]",
    "    ldp x19, x20, [sp, #16]",
    "    ldp x21, x22, [sp, #32]",
    "    ldp x23, x24, [sp, #48]",
    "    ldp x25, x26, [sp, #64]",
    "    ldp x27, x28, [sp, #80]",
    "    ldp x29, x30, [sp], #112",
    "    ret",
    "",
    ".global __palisade_zero_fp",
    "__palisade_zero_fp:",
    ".arch_extension fp",
    ".arch_extension simd",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "    movi v\\n\\().2d, #0",
    ".endr",
    "    msr fpcr, xzr",
    "    msr fpsr, xzr",
    "    ret",
    ".arch_extension nosimd",
    ".arch_extension nofp",
    elr = const offset_of!(GuestContext, elr),
    spsr = const offset_of!(GuestContext, spsr),
    far = const offset_of!(GuestContext, far),
);

// What the assembly stores in pairs.
const _: () = assert!(offset_of!(GuestContext, elr) == 248 && offset_of!(GuestContext, x) == 0);
const _: () = assert!(offset_of!(GuestContext, esr) == offset_of!(GuestContext, spsr) + 8);
const _: () = assert!(offset_of!(GuestContext, hpfar) == offset_of!(GuestContext, far) + 8);

unsafe extern "C" {
    fn __palisade_enter(context: *mut GuestContext) -> u64;
    fn __palisade_zero_fp();
}

/// Runs the guest in `context` on this core until it comes back. Interrupts are
/// masked at EL2 throughout: a pending one brings the guest back unacknowledged.
///
/// The caller has set stage 2 and the traps, else the guest runs on what the
/// last one left.
#[inline]
pub fn enter(context: &mut GuestContext) -> Exit {
    // SAFETY: `context` is a live, exclusive GuestContext, of the layout that the
    // assembly takes from offset_of; callee-saved registers and the stack pointer
    // come back as they were. A guest reaches only what stage 2 maps.
    let door = unsafe { __palisade_enter(context) };
    let kind = match door {
        0 => ExitKind::Sync,
        1 => ExitKind::Irq,
        2 => ExitKind::Fiq,
        _ => ExitKind::SError,
    };
    context.exit(kind)
}

macro_rules! write {
    ($($register:literal = $value:expr),+ $(,)?) => {{
        // SAFETY: registers that act on EL1 and EL0 only; no guest runs on this
        // core while the hypervisor does.
        unsafe {
            $(asm!(concat!("msr ", $register, ", {}"), in(reg) $value,
                options(nostack, preserves_flags));)+
            asm!("isb", options(nostack, preserves_flags));
        }
    }};
}

macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading the register has no side effect.
        unsafe {
            asm!(concat!("mrs {}, ", $register), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
}

/// Puts stage-2 tables in force on this core, for as long as HCR_EL2.VM is set.
pub fn set_stage2(stage2: Stage2) {
    write!("vtcr_el2" = stage2.vtcr, "vttbr_el2" = stage2.vttbr);
}

/// Sets HCR_EL2; see [`hcr`](crate::guest::hcr). RW, AMO, IMO and FMO are always added.
pub fn set_hcr(value: u64) {
    write!("hcr_el2" = value | 1 << 31 | 0b111 << 3);
}

/// Reads HCR_EL2.
pub fn hcr() -> u64 {
    read!("hcr_el2")
}

/// Sets what the guest reads as MPIDR_EL1 (bit 31 is added) and, as MIDR_EL1, the core's own.
pub fn set_identity(affinity: u64) {
    let midr = read!("midr_el1");
    write!("vpidr_el2" = midr, "vmpidr_el2" = affinity | 1 << 31);
}

/// Sets CNTVOFF_EL2, in ticks: the guest's virtual count is the physical one less this.
pub fn set_virtual_offset(ticks: u64) {
    write!("cntvoff_el2" = ticks);
}

/// TCR_EL1.EPD0 and EPD1: no walk of stage 1.
pub(super) const NO_WALKS: u64 = 1 << 7 | 1 << 23;

/// Puts EL1, EL0, their timers, pointer-authentication keys and the floating-point registers of
/// this core into the state in which a vCPU starts: MMU off, all else 0.
///
/// First of all no walk of stage 1 is possible any more: between two writes below the registers
/// belong to no guest, and a core with erratum 1319367 (Cortex-A72; 1319537 on A57, 1530923 on
/// A55, 1165522 on A76) may fill its TLB from them by an AT instruction that it only speculates.
pub fn reset_el1() {
    write!("tcr_el1" = NO_WALKS);
    // SCTLR_EL1 (D24.2.130): the RES1 bits of v8.0.
    write!(
        "sctlr_el1" = 0x30d0_0800u64,
        "cpacr_el1" = 0u64,
        "ttbr0_el1" = 0u64,
        "ttbr1_el1" = 0u64,
        "mair_el1" = 0u64,
        "amair_el1" = 0u64,
        "vbar_el1" = 0u64,
        "contextidr_el1" = 0u64,
        "tpidr_el1" = 0u64,
        "tpidr_el0" = 0u64,
        "tpidrro_el0" = 0u64,
        "sp_el1" = 0u64,
        "sp_el0" = 0u64,
        "elr_el1" = 0u64,
        "spsr_el1" = 0u64,
        "esr_el1" = 0u64,
        "far_el1" = 0u64,
        "afsr0_el1" = 0u64,
        "afsr1_el1" = 0u64,
        "par_el1" = 0u64,
        "csselr_el1" = 0u64,
        "mdscr_el1" = 0u64,
        "cntkctl_el1" = 0u64,
        "cntv_ctl_el0" = 0u64,
        "cntv_cval_el0" = 0u64,
        "cntp_ctl_el0" = 0u64,
        "cntp_cval_el0" = 0u64,
    );
    write!("tcr_el1" = 0u64);
    reset_keys();
    if has_ras() {
        // VSESR_EL2 and VDISR_EL2: a guest reads the latter as DISR_EL1.
        write!("S3_4_C5_C2_3" = 0u64, "S3_4_C12_C1_1" = 0u64);
    }
    reset_debug();
    // SAFETY: CPTR_EL2.TFP is clear; the hypervisor keeps nothing in these registers.
    unsafe { __palisade_zero_fp() };
}

macro_rules! points {
    ($index:expr, $kind:literal, $($n:literal)+) => {
        match $index {
            $($n => {
                // SAFETY: switches a debug point of EL1 and EL0 off; none acts on EL2.
                unsafe {
                    asm!(concat!("msr dbg", $kind, "cr", $n, "_el1, xzr"),
                        options(nostack, preserves_flags));
                }
            })+
            _ => {}
        }
    };
}

/// The five keys of pointer authentication, which would go from one guest to the next.
fn reset_keys() {
    if has_pointer_authentication() {
        // APIA, APIB, APDA, APDB, APGA, each Lo and Hi.
        write!(
            "S3_0_C2_C1_0" = 0u64,
            "S3_0_C2_C1_1" = 0u64,
            "S3_0_C2_C1_2" = 0u64,
            "S3_0_C2_C1_3" = 0u64,
            "S3_0_C2_C2_0" = 0u64,
            "S3_0_C2_C2_1" = 0u64,
            "S3_0_C2_C2_2" = 0u64,
            "S3_0_C2_C2_3" = 0u64,
            "S3_0_C2_C3_0" = 0u64,
            "S3_0_C2_C3_1" = 0u64,
        );
    }
}

/// Breakpoints and watchpoints off, the OS lock closed: as a core comes out of reset.
fn reset_debug() {
    // ID_AA64DFR0_EL1.BRPs and WRPs, less one each (D24.2.59).
    let dfr0 = id_register(5, 0);
    for index in 0..=(dfr0 >> 12 & 0xf) {
        points!(index, "b", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for index in 0..=(dfr0 >> 20 & 0xf) {
        points!(index, "w", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    write!("mdccint_el1" = 0u64, "osdlr_el1" = 0u64, "oslar_el1" = 1u64);
}

macro_rules! registers {
    ($type:ident, $read:ident, $write:ident, $what:literal, $($name:ident => $register:literal,)+) => {
        #[doc = concat!("Reads a register of ", $what, " on this core.")]
        pub fn $read(register: $type) -> u64 {
            match register { $($type::$name => read!($register),)+ }
        }

        #[doc = concat!("Writes a register of ", $what, " on this core; read-only ones ignore it.")]
        pub fn $write(register: $type, value: u64) {
            registers!(@ register, value, $type, $($name => $register,)+)
        }
    };
    (@ $r:ident, $v:ident, Ich, $($name:ident => $register:literal,)+) => {
        match $r {
            Ich::Vtr | Ich::Misr | Ich::Eisr | Ich::Elrsr => {}
            Ich::Hcr => write!("S3_4_C12_C11_0" = $v),
            Ich::Vmcr => write!("S3_4_C12_C11_7" = $v),
            Ich::Ap0r0 => write!("S3_4_C12_C8_0" = $v),
            Ich::Ap1r0 => write!("S3_4_C12_C9_0" = $v),
        }
    };
    (@ $r:ident, $v:ident, $type:ident, $($name:ident => $register:literal,)+) => {
        match $r { $($type::$name => write!($register = $v),)+ }
    };
}

registers!(
    El1, read_el1, write_el1, "EL1 or its timers",
    Sctlr => "sctlr_el1",
    Cpacr => "cpacr_el1",
    Vbar => "vbar_el1",
    Elr => "elr_el1",
    Spsr => "spsr_el1",
    Esr => "esr_el1",
    Far => "far_el1",
    Sp => "sp_el1",
    SpEl0 => "sp_el0",
    Tcr => "tcr_el1",
    Ttbr0 => "ttbr0_el1",
    Ttbr1 => "ttbr1_el1",
    Mair => "mair_el1",
    Par => "par_el1",
    CntKctl => "cntkctl_el1",
    CntvCtl => "cntv_ctl_el0",
    CntvCval => "cntv_cval_el0",
    CntpCtl => "cntp_ctl_el0",
    CntpCval => "cntp_cval_el0",
);

// IHI 0069, 12.4: encodings by number, since the assembler takes the names
// only with the GIC extension switched on.
registers!(
    Ich, read_ich, write_ich, "the virtual GIC CPU interface",
    Hcr => "S3_4_C12_C11_0",
    Vtr => "S3_4_C12_C11_1",
    Misr => "S3_4_C12_C11_2",
    Eisr => "S3_4_C12_C11_3",
    Elrsr => "S3_4_C12_C11_5",
    Vmcr => "S3_4_C12_C11_7",
    Ap0r0 => "S3_4_C12_C8_0",
    Ap1r0 => "S3_4_C12_C9_0",
);

macro_rules! lists {
    ($($n:literal => $register:literal,)+) => {
        /// Reads ICH_LR`n`_EL2; 0 for an `n` past 15.
        #[inline]
        pub fn read_list(n: usize) -> u64 {
            match n { $($n => read!($register),)+ _ => 0 }
        }

        /// Writes ICH_LR`n`_EL2; ignored for an `n` past 15.
        #[inline]
        pub fn write_list(n: usize, value: u64) {
            match n { $($n => write!($register = value),)+ _ => {} }
        }
    };
}

lists!(
    0 => "S3_4_C12_C12_0", 1 => "S3_4_C12_C12_1", 2 => "S3_4_C12_C12_2", 3 => "S3_4_C12_C12_3",
    4 => "S3_4_C12_C12_4", 5 => "S3_4_C12_C12_5", 6 => "S3_4_C12_C12_6", 7 => "S3_4_C12_C12_7",
    8 => "S3_4_C12_C13_0", 9 => "S3_4_C12_C13_1", 10 => "S3_4_C12_C13_2", 11 => "S3_4_C12_C13_3",
    12 => "S3_4_C12_C13_4", 13 => "S3_4_C12_C13_5", 14 => "S3_4_C12_C13_6", 15 => "S3_4_C12_C13_7",
);

/// What the guest's own stage 1 makes of `address` for a write or a read:
/// AT S1E1W or AT S1E1R, answered as PAR_EL1 (DDI 0487, D24.2.118). The guest's
/// PAR_EL1 is kept.
pub fn translate_stage1(address: u64, write: bool) -> u64 {
    let kept = read!("par_el1");
    // SAFETY: an address translation instruction reads tables and writes PAR_EL1,
    // which is put back below.
    unsafe {
        if write {
            asm!("at s1e1w, {}", "isb", in(reg) address, options(nostack, preserves_flags));
        } else {
            asm!("at s1e1r, {}", "isb", in(reg) address, options(nostack, preserves_flags));
        }
    }
    let par = read!("par_el1");
    write!("par_el1" = kept);
    par
}

/// Both stages for a write or a read at EL1: AT S12E1W or S12E1R, answered as PAR_EL1.
pub fn translate_both(address: u64, write: bool) -> u64 {
    let kept = read!("par_el1");
    // SAFETY: as in `translate_stage1`.
    unsafe {
        if write {
            asm!("at s12e1w, {}", "isb", in(reg) address, options(nostack, preserves_flags));
        } else {
            asm!("at s12e1r, {}", "isb", in(reg) address, options(nostack, preserves_flags));
        }
    }
    let par = read!("par_el1");
    write!("par_el1" = kept);
    par
}

macro_rules! id_registers {
    ($(($crm:literal, $op2:literal) => $register:literal,)+) => {
        /// The core's own ID register of op0 3, op1 0, CRn 0 (DDI 0487, D24.2):
        /// `crm` 1 to 7, `op2` 0 to 7; 0 where none is defined.
        pub fn id_register(crm: u8, op2: u8) -> u64 {
            match (crm, op2) { $(($crm, $op2) => read!($register),)+ _ => 0 }
        }
    };
}

id_registers!(
    (1, 0) => "S3_0_C0_C1_0", (1, 1) => "S3_0_C0_C1_1", (1, 2) => "S3_0_C0_C1_2",
    (1, 4) => "S3_0_C0_C1_4", (1, 5) => "S3_0_C0_C1_5", (1, 6) => "S3_0_C0_C1_6",
    (1, 7) => "S3_0_C0_C1_7", (2, 0) => "S3_0_C0_C2_0", (2, 1) => "S3_0_C0_C2_1",
    (2, 2) => "S3_0_C0_C2_2", (2, 3) => "S3_0_C0_C2_3", (2, 4) => "S3_0_C0_C2_4",
    (2, 5) => "S3_0_C0_C2_5", (2, 6) => "S3_0_C0_C2_6", (2, 7) => "S3_0_C0_C2_7",
    (3, 0) => "S3_0_C0_C3_0", (3, 1) => "S3_0_C0_C3_1", (3, 2) => "S3_0_C0_C3_2",
    (3, 4) => "S3_0_C0_C3_4", (3, 5) => "S3_0_C0_C3_5", (3, 6) => "S3_0_C0_C3_6",
    (4, 0) => "S3_0_C0_C4_0", (4, 1) => "S3_0_C0_C4_1", (4, 2) => "S3_0_C0_C4_2",
    (4, 4) => "S3_0_C0_C4_4", (4, 5) => "S3_0_C0_C4_5", (5, 0) => "S3_0_C0_C5_0",
    (5, 1) => "S3_0_C0_C5_1", (6, 0) => "S3_0_C0_C6_0", (6, 1) => "S3_0_C0_C6_1",
    (6, 2) => "S3_0_C0_C6_2", (7, 0) => "S3_0_C0_C7_0", (7, 1) => "S3_0_C0_C7_1",
    (7, 2) => "S3_0_C0_C7_2", (7, 3) => "S3_0_C0_C7_3", (7, 4) => "S3_0_C0_C7_4",
);
