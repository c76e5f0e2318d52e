//! What the whole main line knows of the machine it runs on.

use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::machine::{Conduit, Machine};
use palisade_hal::mmio::Mmio;
use spin::Once;

use crate::panic::watchdog;

/// Set once, by the first core, before anything can fail.
pub(crate) struct Context {
    pub(crate) machine: &'static dyn Machine,
    pub(crate) image: Range<u64>,
    pub(crate) entry_ticks: u64,
}

/// What the device tree adds.
#[derive(Clone, Copy)]
pub(crate) struct Power {
    pub(crate) conduit: Option<Conduit>,
    /// `palisade.semihosting=1`: the exit status can leave.
    pub(crate) semihosting: bool,
}

static CONTEXT: Once<Context> = Once::new();
static POWER: Once<Power> = Once::new();
static MANAGER: Once<Mmio> = Once::new();
/// A guest's HLT would reach semihosting, so it is off from here on.
static GUEST_HAS_RUN: AtomicBool = AtomicBool::new(false);
/// The conduit that no tree names was tried: where there is none its instruction is an exception.
static ASKED: AtomicBool = AtomicBool::new(false);
/// The exception level of the hypervisor.
const LEVEL: u64 = 2;

/// Notes the machine.
pub(crate) fn set(context: Context) -> &'static Context {
    CONTEXT.call_once(|| context)
}

/// The machine; `None` before the first core has come in.
pub(crate) fn get() -> Option<&'static Context> {
    CONTEXT.get()
}

/// Notes how the machine is turned off.
pub(crate) fn set_power(power: Power) {
    POWER.call_once(|| power);
}

/// Notes the registers that turn the machine off where there is no firmware to ask.
pub(crate) fn set_manager(registers: Mmio) {
    MANAGER.call_once(|| registers);
}

/// A guest is about to run.
pub(crate) fn guest_runs() {
    GUEST_HAS_RUN.store(true, Ordering::Release);
}

/// How the machine goes off, in words, where no device tree has said so; empty where one has.
pub(crate) fn way_off() -> &'static str {
    let said = POWER.get().is_some_and(|power| power.conduit.is_some()) || MANAGER.get().is_some();
    let promised = get().and_then(|context| context.machine.default_conduit(LEVEL));
    match promised {
        _ if said => "",
        Some(_) => {
            "; no device tree says how this machine goes off: by PSCI and SMC, as its board does"
        }
        None => "; no device tree says how this machine goes off: this core stops here",
    }
}

/// Turns the machine off. `status` leaves by semihosting where it may.
pub(crate) fn off(status: u32) -> ! {
    let Some(context) = get() else { stop() };
    let power = POWER.get().copied();
    let quiet = !GUEST_HAS_RUN.load(Ordering::Acquire);
    if quiet && power.is_some_and(|power| power.semihosting) {
        context.machine.exit(status);
    }
    let conduit = power.and_then(|power| power.conduit);
    // The second time around it was no way off.
    let promised = || context.machine.default_conduit(LEVEL).filter(|_| !ASKED.swap(true, Relaxed));
    let conduit = conduit.or_else(promised);
    if let Some(registers) = MANAGER.get().filter(|_| conduit.is_none()) {
        watchdog::halt(registers);
    }
    context.machine.off(conduit)
}

/// Nothing is known of the machine: this core stops.
fn stop() -> ! {
    loop {
        palisade_hal::cpu::wfe();
    }
}
