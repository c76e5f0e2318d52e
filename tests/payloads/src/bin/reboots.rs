//! Takes interrupts of its timer, and starts its machine anew when told.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::arch::asm;

use palisade_payloads::command::{Words, serve};
use palisade_payloads::gic::Gic;
use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, power, println, time};

payload!(main);

/// The EL1 virtual timer's interrupt.
const TIMER: u32 = 27;
/// How long one may take.
const PATIENCE_MS: u64 = 3_000;
/// Time to the next one, in microseconds.
const PERIOD: u64 = 2_000;

fn main(platform: &Platform<'_>) {
    serve("reboots", |_, verb, words| obey(platform, verb, words));
}

fn obey(platform: &Platform<'_>, verb: &str, words: &mut Words<'_>) -> Option<()> {
    match verb {
        "timer" => {
            let gic = Gic::open(&platform.fdt)?;
            gic.enable_private(TIMER);
            let wanted = words.number()?;
            let taken = (0..wanted).take_while(|_| tick(gic)).count();
            println!("ok timer taken={taken}");
        }
        // Its last interrupt is left active: nobody ends it but whoever resets the machine.
        "reset-inside" => {
            arm();
            wait(Gic::open(&platform.fdt)?);
            power::reset();
        }
        "reset" => power::reset(),
        _ => return None,
    }
    Some(())
}

fn arm() {
    let ticks = time::frequency() * PERIOD / 1_000_000;
    // SAFETY: this core's own timer: it fires once after the ticks.
    unsafe {
        asm!("msr cntv_tval_el0, {0}", "msr cntv_ctl_el0, {1}", "isb",
            in(reg) ticks, in(reg) 1u64, options(nostack));
    }
}

/// Waits for the timer's interrupt and leaves it active.
fn wait(gic: Gic) -> bool {
    let begin = time::now();
    while !time::passed(begin, PATIENCE_MS) {
        match gic.acknowledge() {
            Some(TIMER) => return true,
            Some(other) => gic.end(other),
            None => {}
        }
    }
    false
}

/// One interrupt from the timer's firing to its end.
fn tick(gic: Gic) -> bool {
    arm();
    let came = wait(gic);
    // SAFETY: this core's own timer.
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack)) };
    if came {
        gic.end(TIMER);
    }
    came
}
