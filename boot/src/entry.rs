//! From the first instruction to the board's main function.

use core::arch::{asm, global_asm};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::machine::{BootInfo, MAX_CPUS, Refusal};

use crate::area;
use crate::booted::Booted;
use crate::image::Image;
use crate::{map, vectors};

/// Names the board's functions: `main` for the first core, `secondary` for
/// every other, `refuse` for an entry at another exception level than EL2
/// (MMU off there), `fatal` for exceptions taken at EL2 itself.
#[macro_export]
macro_rules! entry {
    (main: $main:path, secondary: $secondary:path, refuse: $refuse:path, fatal: $fatal:path $(,)?) => {
        #[unsafe(no_mangle)]
        fn palisade_main(info: $crate::machine::BootInfo) -> ! {
            let main: fn($crate::machine::BootInfo) -> ! = $main;
            main(info)
        }
        #[unsafe(no_mangle)]
        fn palisade_secondary(index: usize) -> ! {
            let secondary: fn(usize) -> ! = $secondary;
            secondary(index)
        }
        #[unsafe(no_mangle)]
        fn palisade_refuse(refusal: $crate::machine::Refusal) -> ! {
            let refuse: fn($crate::machine::Refusal) -> ! = $refuse;
            refuse(refusal)
        }
        #[unsafe(no_mangle)]
        fn palisade_fatal(fatal: &$crate::machine::Fatal) -> ! {
            let f: fn(&$crate::machine::Fatal) -> ! = $fatal;
            f(fatal)
        }
    };
}

unsafe extern "Rust" {
    safe fn palisade_main(info: BootInfo) -> !;
    safe fn palisade_secondary(index: usize) -> !;
    safe fn palisade_refuse(refusal: Refusal) -> !;
}

/// Translation registers, the same on every core. Secondaries read them with
/// the MMU off, so they are cleaned to the point of coherency.
#[repr(C, align(64))]
pub(crate) struct Registers {
    mair: AtomicU64,
    tcr: AtomicU64,
    ttbr0: AtomicU64,
    sctlr: AtomicU64,
}

pub(crate) static REGISTERS: Registers = Registers {
    mair: AtomicU64::new(0),
    tcr: AtomicU64::new(0),
    ttbr0: AtomicU64::new(0),
    sctlr: AtomicU64::new(0),
};

/// `MAIR_EL2` (D19.2.106): index 0 Device-nGnRE, index 1 Normal write-back.
const MAIR: u64 = 0xff04;
/// `TCR_EL2` (D19.2.163) without PS: 48-bit VA, 4K granule, inner shareable
/// write-back walks; bits 31 and 23 are RES1.
const TCR: u64 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | 16;
/// `SCTLR_EL2` (D19.2.131): RES1 bits, M, C, SA, I and WXN.
const SCTLR: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;
/// `HCR_EL2` (D19.2.48) while no guest runs: RW, and AMO, IMO, FMO, so that
/// interrupts belong to EL2. E2H stays clear.
const HCR: u64 = 1 << 31 | 0b111 << 3;

// x19 entry ticks, x20 device tree, x21 exception level.
global_asm!(
    ".section .head.text, \"ax\"",
    ".global _start",
    "_start:",
    "    mrs x19, cntpct_el0",
    "    msr daifset, #0xf",
    "    msr spsel, #1",
    "    mov x20, x0",
    "    mrs x21, CurrentEL",
    "    lsr x21, x21, #2",
    "    cbnz x20, 1f",
    "    ldr x20, =__default_dtb",
    // Run where we are linked, or not at all.
    "1:  adr x1, _head",
    "    ldr x2, =_head",
    "    cmp x1, x2",
    "    b.ne __palisade_park",
    // Whatever lies in the caches over memory that we are about to write with
    // the MMU off would hide our stores later.
    "    mrs x3, ctr_el0",
    "    ubfx x3, x3, #16, #4",
    "    mov x4, #4",
    "    lsl x3, x4, x3",
    "    ldr x1, =__bss_start",
    "    ldr x2, =__image_end",
    "2:  dc ivac, x1",
    "    add x1, x1, x3",
    "    cmp x1, x2",
    "    b.lo 2b",
    "    dsb sy",
    "    ldr x1, =__bss_start",
    "    ldr x2, =__bss_end",
    "3:  stp xzr, xzr, [x1], #16",
    "    cmp x1, x2",
    "    b.lo 3b",
    "    adrp x1, {areas}",
    "    add x1, x1, :lo12:{areas}",
    "    ldr x2, ={stack_top}",
    "    add sp, x1, x2",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    mov x0, x20",
    "    mov x1, x21",
    "    cmp x21, #2",
    "    b.ne {refuse}",
    "    bl {early}",
    "    adrp x0, {registers}",
    "    add x0, x0, :lo12:{registers}",
    "    bl __palisade_mmu_on",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    mov x0, x20",
    "    mov x1, x19",
    "    b {primary}",
    "",
    // x0: the core's words, given through PSCI's context id.
    ".global __palisade_secondary",
    "__palisade_secondary:",
    "    msr daifset, #0xf",
    "    msr spsel, #1",
    "4:  mov x19, x0",
    "    ldr x1, [x19, #{words_stack}]",
    "    mov sp, x1",
    "    adrp x0, {registers}",
    "    add x0, x0, :lo12:{registers}",
    "    bl __palisade_mmu_on",
    "    mov x29, xzr",
    "    mov x30, xzr",
    "    mov x0, x19",
    "    b {secondary}",
    "",
    // A spin table gives no context: the core finds its words by its MPIDR.
    ".global __palisade_secondary_spin",
    "__palisade_secondary_spin:",
    "    msr daifset, #0xf",
    "    msr spsel, #1",
    "    mrs x1, mpidr_el1",
    "    ldr x2, =0xff00ffffff",
    "    and x1, x1, x2",
    "    adrp x0, {areas}",
    "    add x0, x0, :lo12:{areas}",
    "    ldr x2, ={area_words}",
    "    add x0, x0, x2",
    "    ldr x3, ={area_size}",
    "    mov x4, #{max_cpus}",
    "5:  ldr x2, [x0, #{words_mpidr}]",
    "    cmp x1, x2",
    "    b.eq 4b",
    "    add x0, x0, x3",
    "    subs x4, x4, #1",
    "    b.ne 5b",
    "    b __palisade_park",
    "",
    // x0: Registers.
    "__palisade_mmu_on:",
    "    ldp x1, x2, [x0]",
    "    ldp x3, x4, [x0, #16]",
    // What else bears upon our own translation: attributes that somebody defined, and the second
    // control registers where ID_AA64MMFR3_EL1 (TCRX, SCTLRX) has them.
    "    msr amair_el2, xzr",
    "    mrs x5, S3_0_C0_C7_3",
    "    tst x5, #0xf",
    "    b.eq 6f",
    "    msr S3_4_C2_C0_3, xzr",
    "6:  tst x5, #0xf0",
    "    b.eq 7f",
    "    msr S3_4_C1_C0_3, xzr",
    "7:  msr mair_el2, x1",
    "    msr tcr_el2, x2",
    "    msr ttbr0_el2, x3",
    "    dsb sy",
    "    tlbi alle2",
    "    ic iallu",
    "    dsb sy",
    "    isb",
    "    msr sctlr_el2, x4",
    "    isb",
    "    ret",
    "",
    ".global __palisade_park",
    "__palisade_park:",
    "    wfe",
    "    b __palisade_park",
    areas = sym area::AREAS,
    registers = sym REGISTERS,
    refuse = sym refuse,
    early = sym early,
    primary = sym primary,
    secondary = sym secondary,
    stack_top = const area::AREA_STACK_TOP,
    area_words = const area::AREA_WORDS,
    area_size = const area::AREA_SIZE,
    max_cpus = const MAX_CPUS,
    words_stack = const area::WORDS_STACK,
    words_mpidr = const area::WORDS_MPIDR,
);

unsafe extern "C" {
    pub(crate) static __palisade_secondary: u8;
    pub(crate) static __palisade_secondary_spin: u8;
    fn __palisade_park() -> !;
}

/// Stops this core for good.
pub fn park() -> ! {
    // SAFETY: the label of an endless wfe loop that touches nothing.
    unsafe { __palisade_park() }
}

extern "C" fn refuse(dtb: u64, level: u64) -> ! {
    palisade_refuse(Refusal { tree: tree(dtb, map::tree_size(dtb)), level, machine: &Booted })
}

/// Bytes of the device tree as [`early`] found it, 0 where there is none. What is
/// no tree is not mapped, so it must not be looked at again with the MMU on.
static TREE: AtomicU64 = AtomicU64::new(0);

/// The bytes of the device tree at `dtb`, `size` of them, where the boot protocol
/// put it: mapped for good, or the MMU off.
fn tree(dtb: u64, size: Option<u64>) -> Option<&'static [u8]> {
    let size = size?;
    // SAFETY: the boot protocol put the tree there. `map::build` mapped exactly
    // this range, read only, for good; RAM mapped later keeps it read only.
    Some(unsafe { core::slice::from_raw_parts(dtb as *const u8, size as usize) })
}

/// First core, MMU off: tables and register values for [`__palisade_mmu_on`].
/// Stores reach memory directly; nothing here uses exclusives.
extern "C" fn early(dtb: u64) {
    area::clear();
    let Some(words) = area::prepare(0, palisade_hal::cpu::affinity()) else { park() };
    init_core(words);
    TREE.store(map::tree_size(dtb).unwrap_or(0), Ordering::Relaxed);
    let Some(root) = map::build(dtb) else { park() };
    let range: u64;
    // SAFETY: reads ID_AA64MMFR0_EL1.
    unsafe { asm!("mrs {}, id_aa64mmfr0_el1", out(reg) range, options(nomem, nostack)) };
    // Our tables have 48-bit output addresses, encoding 5 of PARange.
    let range = (range & 0xf).min(5);
    REGISTERS.mair.store(MAIR, Ordering::Relaxed);
    REGISTERS.tcr.store(TCR | range << 16, Ordering::Relaxed);
    REGISTERS.ttbr0.store(root, Ordering::Relaxed);
    REGISTERS.sctlr.store(SCTLR, Ordering::Relaxed);
}

/// Registers of EL2 that have no defined reset value and that must be right
/// before anything else runs.
fn init_core(words: *const area::Words) {
    // SAFETY: EL2's own controls: vectors, per-core pointer, traps as
    // described at the constant; no stage 2 is in force and no guest runs.
    unsafe {
        asm!(
            "msr vbar_el2, {vbar}",
            "msr tpidr_el2, {words}",
            "msr hcr_el2, {hcr}",
            "msr vttbr_el2, xzr",
            "isb",
            vbar = in(reg) vectors::base(),
            words = in(reg) words,
            hcr = in(reg) HCR,
            options(nostack),
        );
    }
    palisade_hal::controls::init_core();
}

extern "C" fn primary(dtb: u64, entry_ticks: u64) -> ! {
    let size = Some(TREE.load(Ordering::Relaxed)).filter(|size| *size != 0);
    let tree = tree(dtb, size);
    palisade_main(BootInfo { tree, entry_ticks, image: Image.whole(), machine: &Booted })
}

extern "C" fn secondary(words: *const area::Words) -> ! {
    init_core(words);
    // SAFETY: `words` is this core's, written and cleaned before it started.
    let index = unsafe { ptr::read_volatile(&raw const (*words).index) };
    palisade_secondary(index as usize)
}
