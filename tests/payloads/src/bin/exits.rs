//! Counts what each of its exits costs, in ticks of its counter: where one tick is one instruction,
//! that is instructions. Each row is taken as often as the command line says (`rounds=N`); what
//! reading the counter twice costs is taken off.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use palisade_payloads::gic::Gic;
use palisade_payloads::platform::Platform;
use palisade_payloads::{console, payload, println, start};

payload!(main, second);

/// PSCI_VERSION (DEN 0022, 5.1).
const PSCI_VERSION: u64 = 0x8400_0000;
/// The software interrupt, and the EL1 virtual timer's.
const SGI: u32 = 1;
const TIMER: u32 = 27;
/// A shared interrupt that nothing drives here: the serial line's.
const SHARED: u32 = 33;
/// Distributor registers (IHI 0069, 12.9).
const TYPER: usize = 0x4;
const ISENABLER: usize = 0x100;
/// From arming the timer to its firing, in ticks.
const AHEAD: u64 = 2_000;

// An interrupt is taken only in the blocks below that open PSTATE.I. They leave X9 to X12 to the
// handler: when it was entered, which interrupt it was, and the counter before and after its end.
// The timer is off afterwards.
global_asm!(
    ".section .text.exits, \"ax\"",
    ".balign 2048",
    "exits_vectors:",
    ".rept 5",
    "    .balign 128",
    "    b exits_fault",
    ".endr",
    "    .balign 128",
    "    mrs x9, cntvct_el0",
    "    mrs x10, S3_0_C12_C12_0",
    "    msr cntv_ctl_el0, xzr",
    "    isb",
    "    mrs x11, cntvct_el0",
    "    msr S3_0_C12_C12_1, x10",
    "    mrs x12, cntvct_el0",
    "    eret",
    ".rept 10",
    "    .balign 128",
    "    b exits_fault",
    ".endr",
    "exits_fault:",
    "    mrs x0, esr_el1",
    "    mrs x1, elr_el1",
    "    mrs x2, far_el1",
    "    bl payload_fault",
    "    b .",
);

/// When the second core's handler was entered.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// The controller, for the second core.
static GIC: AtomicPtr<Gic> = AtomicPtr::new(ptr::null_mut());

/// The counts of one row.
struct Row {
    least: u64,
    most: u64,
    sum: u64,
    rounds: u64,
}

impl Row {
    /// Measures `rounds` times; `each` answers ticks, of which `empty` are the measuring's own.
    fn of(rounds: u64, empty: u64, mut each: impl FnMut() -> u64) -> Self {
        let mut row = Self { least: u64::MAX, most: 0, sum: 0, rounds };
        for _ in 0..rounds {
            let ticks = each().saturating_sub(empty);
            row.least = row.least.min(ticks);
            row.most = row.most.max(ticks);
            row.sum += ticks;
        }
        row
    }

    fn tell(&self, name: &str) {
        let average = (self.sum + self.rounds / 2) / self.rounds;
        println!("exit {name} least={} average={average} most={}", self.least, self.most);
    }
}

/// The ticks between two looks at the counter with one instruction in between.
macro_rules! ticks {
    ($instruction:literal $(, $($operands:tt)*)?) => {{
        let (before, after): (u64, u64);
        // SAFETY: the instruction is one that the hypervisor answers, on a register of ours.
        unsafe {
            asm!("isb", "mrs {before}, cntvct_el0", $instruction, "mrs {after}, cntvct_el0",
                before = out(reg) before, after = out(reg) after $(, $($operands)*)?,
                options(nostack));
        }
        after - before
    }};
}

fn main(platform: &Platform<'_>) {
    let words = platform.bootargs.split_whitespace();
    let rounds = words.filter_map(|word| word.strip_prefix("rounds=")?.parse().ok()).next();
    let rounds = rounds.unwrap_or(1000).max(1);
    let Some(mut gic) = Gic::open(&platform.fdt) else { return println!("err no GIC") };
    if !set_up(&gic, 0) {
        return println!("err no GICv3");
    }
    gic.enable(SHARED);
    let empty = Row::of(rounds, 0, || ticks!("")).least;

    let hvc =
        || ticks!("hvc #0", inout("x0") PSCI_VERSION => _, out("x1") _, out("x2") _, out("x3") _);
    Row::of(rounds, empty, hvc).tell("hvc_psci_version");
    let id = || ticks!("mrs {value}, id_aa64isar0_el1", value = out(reg) _);
    Row::of(rounds, empty, id).tell("id_register_read");
    let (typer, isenabler) = (gic.distributor() + TYPER, gic.distributor() + ISENABLER);
    let read = |at: usize| ticks!("ldr {value:w}, [{at}]", value = out(reg) _, at = in(reg) at);
    Row::of(rounds, empty, || read(typer)).tell("gicd_typer_read");
    let (at, bit) = (isenabler + 4 * (SHARED as usize / 32), 1 << (SHARED % 32));
    let write = || ticks!("str {bit:w}, [{at}]", bit = in(reg) bit, at = in(reg) at);
    Row::of(rounds, empty, write).tell("gicd_isenabler_write");
    Row::of(rounds, empty, || read(console::flags())).tell("pl011_flag_read");

    let mut end = Row::of(0, 0, || 0);
    Row::of(rounds, empty, || {
        let (ticks, ending) = sgi_to_self();
        let ending = ending.saturating_sub(empty);
        end.least = end.least.min(ending);
        end.most = end.most.max(ending);
        (end.sum, end.rounds) = (end.sum + ending, end.rounds + 1);
        ticks
    })
    .tell("sgi_to_self");
    end.tell("end_of_interrupt");
    Row::of(rounds, 0, timer).tell("timer_to_handler");

    GIC.store(&raw mut gic, Ordering::Release);
    if start::second_core() != 0 {
        return println!("err no second core");
    }
    // Its first reply says that it waits.
    wait();
    Row::of(rounds, empty, ipi).tell("ipi_to_handler");
    println!("ok rounds={rounds}");
}

/// This core's vectors and interrupts.
fn set_up(gic: &Gic, core: usize) -> bool {
    // SAFETY: vectors of this core; the table is whole.
    unsafe {
        asm!("adr {0}, exits_vectors", "msr vbar_el1, {0}", "isb", out(reg) _, options(nostack));
    }
    gic.open_core(core, 1 << SGI | 1 << TIMER)
}

/// ICC_SGI1R_EL1 for the cores whose bits are set (IHI 0069, 12.2.22).
const fn to(cores: u64) -> u64 {
    (SGI as u64) << 24 | cores
}

/// The ticks from sending to the handler, and those of the interrupt's end.
fn sgi_to_self() -> (u64, u64) {
    let (before, taken, ending, ended): (u64, u64, u64, u64);
    // SAFETY: the handler changes X9 to X12 only, and ends the interrupt.
    unsafe {
        asm!("mov x9, #0", "msr daifclr, #2", "isb", "mrs {before}, cntvct_el0",
            "msr S3_0_C12_C11_5, {sgi}", "2: cbz x9, 2b", "msr daifset, #2",
            before = out(reg) before, sgi = in(reg) to(1), out("x9") taken, out("x10") _,
            out("x11") ending, out("x12") ended, options(nostack));
    }
    (taken - before, ended - ending)
}

/// The ticks from the timer's firing to the handler.
fn timer() -> u64 {
    let (at, taken): (u64, u64);
    // SAFETY: as in `sgi_to_self`; this core's own timer.
    unsafe {
        asm!("mov x9, #0", "mrs {at}, cntvct_el0", "add {at}, {at}, {ahead}",
            "msr cntv_cval_el0, {at}", "msr cntv_ctl_el0, {on}", "isb", "msr daifclr, #2",
            "2: cbz x9, 2b", "msr daifset, #2",
            at = out(reg) at, ahead = in(reg) AHEAD, on = in(reg) 1u64, out("x9") taken,
            out("x10") _, out("x11") _, out("x12") _, options(nostack));
    }
    taken.saturating_sub(at)
}

/// Sleeps until an interrupt comes; when its handler was entered.
fn wait() -> u64 {
    let taken: u64;
    // SAFETY: as in `sgi_to_self`. What is pending ends the sleep although it is masked.
    unsafe {
        asm!("mov x9, #0", "2: wfi", "msr daifclr, #2", "isb", "msr daifset, #2", "cbz x9, 2b",
            out("x9") taken, out("x10") _, out("x11") _, out("x12") _, options(nostack));
    }
    taken
}

/// The ticks from sending, to the handler of the other core. This one sleeps meanwhile: where one
/// thread plays all cores, its instructions would count too.
fn ipi() -> u64 {
    let before: u64;
    // SAFETY: as in `sgi_to_self`. What is pending ends the sleep although it is masked.
    unsafe {
        asm!("mov x9, #0", "isb", "mrs {before}, cntvct_el0", "msr S3_0_C12_C11_5, {sgi}",
            "2: wfi", "msr daifclr, #2", "isb", "msr daifset, #2", "cbz x9, 2b",
            before = out(reg) before, sgi = in(reg) to(2), out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, options(nostack));
    }
    TAKEN.load(Ordering::Acquire).saturating_sub(before)
}

/// The second core: tells the first when its handler was entered, each time.
fn second() {
    // SAFETY: the first core stored it before it started this one, and keeps it.
    let Some(gic) = (unsafe { GIC.load(Ordering::Acquire).as_ref() }) else { return };
    set_up(gic, 1);
    loop {
        // SAFETY: an SGI to the first core; the barrier shows it what was stored before.
        unsafe {
            asm!("dsb ish", "msr S3_0_C12_C11_5, {}", "isb", in(reg) to(1), options(nostack))
        };
        TAKEN.store(wait(), Ordering::Release);
    }
}
