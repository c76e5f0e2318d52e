//! The end: what is known goes to the log and the report, then the power goes off.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::cpu;
use palisade_hal::machine::{Fatal, Frame};

use crate::panic::backtrace;
use crate::panic::context;
use crate::wire::console;
use crate::wire::report::Record;

/// Exit status of a panic, as Rust programs have it.
const STATUS: u32 = 101;

static DYING: AtomicBool = AtomicBool::new(false);

/// The first to die reports; others, and a panic while reporting, just stop.
fn first() -> bool {
    !DYING.swap(true, Ordering::AcqRel)
}

fn line(text: fmt::Arguments<'_>) {
    console::log(format_args!("{text}\n"));
}

fn trace(frame: &Frame) {
    let Some(context) = context::get() else { return };
    line(format_args!("  backtrace (image from {:#x}):", context.image.start));
    let [.., x29, _] = frame.x;
    backtrace::walk(x29, context.machine.stack(cpu::index()), |address| {
        line(format_args!("    {address:#x}"));
    });
}

fn registers(frame: &Frame) {
    let Frame { elr, esr, far, spsr, sp, .. } = frame;
    line(format_args!("  ELR {elr:#018x} ESR {esr:#010x} FAR {far:#018x}"));
    line(format_args!("  SP  {sp:#018x} SPSR {spsr:#x}"));
    for (row, four) in frame.x.chunks(4).enumerate() {
        let get = |n: usize| four.get(n).copied().unwrap_or(0);
        line(format_args!(
            "  x{:<2} {:016x} {:016x} {:016x} {:016x}",
            row * 4,
            get(0),
            get(1),
            get(2),
            get(3)
        ));
    }
}

/// An exception that EL2 itself took.
pub fn fatal(fatal: &Fatal<'_>) -> ! {
    if !first() {
        context::off(STATUS);
    }
    console::seize();
    let frame = fatal.frame;
    line(format_args!("hypervisor died: {} on core {}", fatal.kind, cpu::index()));
    registers(frame);
    trace(frame);
    Record::new("panic")
        .text("message", fatal.kind)
        .number("core", cpu::index() as u64)
        .address("esr", frame.esr)
        .address("elr", frame.elr)
        .address("far", frame.far)
        .send();
    context::off(STATUS)
}

/// A panic of the hypervisor's own code.
#[cfg(target_os = "none")]
#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    let frame = cpu::capture();
    if !first() {
        context::off(STATUS);
    }
    console::seize();
    line(format_args!("hypervisor died: {info} on core {}", cpu::index()));
    registers(&frame);
    trace(&frame);
    Record::new("panic")
        .text("message", info.message())
        .text("location", info.location().map_or("", |location| location.file()))
        .number("line", info.location().map_or(0, |location| location.line().into()))
        .number("core", cpu::index() as u64)
        .send();
    context::off(STATUS)
}
