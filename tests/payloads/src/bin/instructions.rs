//! One instruction of each feature that a guest does not have, and every form of load and store
//! of an emulated device: the first are undefined, the second work or are refused.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::arch::asm;

use palisade_payloads::memory::{Page, read32};
use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, println, start};

payload!(main);

/// Where instructions are made.
static CODE: Page = Page::new();

/// ESR_EL1.EC of an instruction that does not exist, of a register that does not among those that
/// identify the core (FEAT_IDST), and of a data abort.
const UNKNOWN: u64 = 0x00;
const NO_ID_REGISTER: u64 = 0x18;
const DATA_ABORT: u64 = 0x25;

/// MRS X0, S*op0*\_*op1*\_C*n*\_C*m*\_*op2*.
const fn mrs(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd520_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// What a guest is not shown, and one instruction of it.
const HIDDEN: [(&str, u32); 24] = [
    ("SVE: cntb x0", 0x0420_e3e0),
    ("SVE: ZCR_EL1", mrs(3, 0, 1, 2, 0)),
    ("SME: rdsvl x0, #1", 0x04bf_5820),
    ("SME: smstart", 0xd503_477f),
    ("SME: TPIDR2_EL0", mrs(3, 3, 13, 0, 5)),
    ("MOPS: setp", 0x19c3_0441),
    ("LS64: ld64b", 0xf83f_d062),
    ("AMU: AMCR_EL0", mrs(3, 3, 13, 2, 0)),
    ("SPE: PMSCR_EL1", mrs(3, 0, 9, 9, 0)),
    ("SPE: PMBLIMITR_EL1", mrs(3, 0, 9, 10, 0)),
    ("trace buffer: TRBLIMITR_EL1", mrs(3, 0, 9, 11, 0)),
    ("trace: TRFCR_EL1", mrs(3, 0, 1, 2, 1)),
    ("branch record: BRBCR_EL1", mrs(2, 1, 9, 0, 0)),
    ("PMU: PMCR_EL0", mrs(3, 3, 9, 12, 0)),
    ("MTE: GCR_EL1", mrs(3, 0, 1, 0, 6)),
    ("MTE: GMID_EL1", mrs(3, 1, 0, 0, 4)),
    ("RAS: ERRIDR_EL1", mrs(3, 0, 5, 3, 0)),
    ("LOR: LORC_EL1", mrs(3, 0, 10, 4, 3)),
    ("MPAM: MPAM1_EL1", mrs(3, 0, 10, 5, 0)),
    ("CSV2_2: SCXTNUM_EL1", mrs(3, 0, 13, 0, 7)),
    ("TCR2_EL1", mrs(3, 0, 2, 0, 3)),
    ("SCTLR2_EL1", mrs(3, 0, 1, 0, 3)),
    ("S1PIE: PIR_EL1", mrs(3, 0, 10, 2, 3)),
    ("GCS: GCSCR_EL1", mrs(3, 0, 2, 5, 0)),
];

/// Loads and stores by X0 that no device takes.
const REFUSED: [(&str, u32); 4] = [
    ("str q0, [x0]", 0x3d80_0000),
    ("ldxr x0, [x0]", 0xc85f_7c00),
    ("stp q0, q1, [x0]", 0xad00_0400),
    ("dc zva, x0", 0xd50b_7420),
];

/// Registers of the serial line that keep what is written: its divisors.
const INTEGER: usize = 0x0900_0024;
const FRACTION: usize = 0x0900_0028;

fn main(_platform: &Platform<'_>) {
    // SAFETY: lets floating point, SVE and SME through to the hypervisor's own traps.
    unsafe { asm!("msr cpacr_el1, {}", "isb", in(reg) 0b11u64 << 20 | 0b11 << 16 | 0b11 << 24) };
    start::step_over_faults();
    let mut wrong = 0;
    for (name, word) in HIDDEN {
        let class = class_of(word, 0);
        if !matches!(class, Some(UNKNOWN | NO_ID_REGISTER)) {
            println!("err {name}: exception class {class:x?}");
            wrong += 1;
        }
    }
    for (name, word) in REFUSED {
        let class = class_of(word, INTEGER as u64 & !0xf);
        if class != Some(DATA_ABORT) {
            println!("err {name} on a device: exception class {class:x?}");
            wrong += 1;
        }
    }
    random(&mut wrong);
    let mut check = |name: &str, right: bool| {
        if !right {
            println!("err {name}: {:#x}", start::syndrome());
            wrong += 1;
        }
    };
    forms(&mut check);
    if wrong == 0 {
        println!("ok hidden={} refused={}", HIDDEN.len(), REFUSED.len());
    }
}

/// RNDR is there exactly if the guest's ID registers say so: it has no state and no trap.
fn random(wrong: &mut u32) {
    let isar0: u64;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) isar0) };
    let class = class_of(mrs(3, 3, 2, 4, 0), 0);
    if (isar0 >> 60 != 0) != class.is_none() {
        println!("err RNDR: exception class {class:x?}, ID_AA64ISAR0_EL1 {isar0:#x}");
        *wrong += 1;
    }
}

/// The exception class that an instruction comes to, X0 being `value`.
fn class_of(word: u32, value: u64) -> Option<u64> {
    const RET: u32 = 0xd65f_03c0;
    let (at, before) = (CODE.address(), start::stepped());
    // SAFETY: the page is ours; a fault is stepped over. X1 to X3 are MOPS' registers.
    unsafe {
        asm!(
            "str {word:w}, [{at}]",
            "str {ret:w}, [{at}, #4]",
            "dc cvau, {at}",
            "dsb ish",
            "ic ivau, {at}",
            "dsb ish",
            "isb",
            "blr {at}",
            word = in(reg) word,
            ret = in(reg) RET,
            at = in(reg) at,
            inout("x0") value => _,
            inout("x1") 0u64 => _,
            inout("x2") 0u64 => _,
            inout("x3") 0u64 => _,
            out("x30") _,
        );
    }
    (start::stepped() != before).then(|| start::syndrome() >> 26)
}

/// The forms that come without syndrome, on the two registers.
fn forms(check: &mut dyn FnMut(&str, bool)) {
    let faults = start::stepped();
    // SAFETY: the divisors of our own serial line, which nobody uses.
    let now = || unsafe { (read32(INTEGER), read32(FRACTION)) };
    let (mut at, mut a, mut b): (usize, u64, u64);
    // SAFETY: as above, in each of the blocks.
    unsafe {
        asm!("str {1:w}, [{0}], #4", inout(reg) INTEGER => at, in(reg) 0x11u64);
        check("str, post-index", (at, now().0) == (FRACTION, 0x11));
        asm!("str {1:w}, [{0}, #-4]!", inout(reg) FRACTION => at, in(reg) 0x12u64);
        check("str, pre-index", (at, now().0) == (INTEGER, 0x12));
        asm!("stp {1:w}, {2:w}, [{0}]", in(reg) INTEGER, in(reg) 0x13u64, in(reg) 0x14u64);
        check("stp", now() == (0x13, 0x14));
        asm!("stp {1:w}, {2:w}, [{0}], #-8", inout(reg) INTEGER => at,
             in(reg) 0x15u64, in(reg) 0x16u64);
        check("stp, post-index", (at, now()) == (INTEGER - 8, (0x15, 0x16)));
        asm!("ldp {1:w}, {2:w}, [{0}]", in(reg) INTEGER, out(reg) a, out(reg) b);
        check("ldp", (a, b) == (0x15, 0x16));
        asm!("ldpsw {1}, {2}, [{0}, #-4]!", inout(reg) INTEGER + 4 => at,
             out(reg) a, out(reg) b);
        check("ldpsw, pre-index", (at, a, b) == (INTEGER, 0x15, 0x16));
        asm!("ldr {1:w}, [{0}], #4", inout(reg) INTEGER => at, out(reg) a);
        check("ldr, post-index", (at, a) == (FRACTION, 0x15));
        asm!("ldrsh {1}, [{0}, #-4]!", inout(reg) FRACTION => at, out(reg) a);
        check("ldrsh, pre-index", (at, a) == (INTEGER, 0x15));
        asm!("str wzr, [{0}], #4", inout(reg) INTEGER => at);
        check("str wzr, post-index", (at, now().0) == (FRACTION, 0));
        asm!("ldr {1:w}, [{0}, {2}]", in(reg) INTEGER - 8, out(reg) a, in(reg) 12u64);
        check("ldr, register offset", a == 0x16);
        // By the stack pointer, which is put back.
        asm!("mov {1}, sp", "mov sp, {0}", "str {2:w}, [sp], #16", "mov {0}, sp", "mov sp, {1}",
             inout(reg) INTEGER & !0xf => at, out(reg) _, in(reg) 0u64);
        check("str by sp, post-index", at == (INTEGER & !0xf) + 16);
    }
    check("no fault among them", start::stepped() == faults);
}
