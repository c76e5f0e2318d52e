//! What every payload starts and ends with.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::memory::Page;
use crate::{console, power};

/// Makes a function of `fn(&Platform)` the payload's main line, and one of `fn()` the other
/// core's.
#[macro_export]
macro_rules! payload {
    ($main:path) => {
        $crate::payload!($main, $crate::start::no_second_core);
    };
    ($main:path, $second:path) => {
        core::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/start.s")),
            table = sym $crate::memory::TABLE,
        );

        /// Called by the first instructions with the device tree's address.
        #[unsafe(no_mangle)]
        extern "C" fn payload_main(dtb: usize) -> ! {
            let main: fn(&$crate::platform::Platform<'_>) = $main;
            $crate::start::run(dtb, main)
        }

        /// Called on another core.
        #[unsafe(no_mangle)]
        extern "C" fn payload_secondary() {
            $second()
        }
    };
}

unsafe extern "C" {
    fn payload_secondary_entry();
}

/// The second core's line of payloads that have one core.
pub fn no_second_core() {}

/// Stack of the second core.
static STACK: [Page; 8] = [const { Page::new() }; 8];

/// Starts the core with MPIDR 1; gives PSCI's answer.
pub fn second_core() -> i64 {
    const CPU_ON: u64 = 0xc400_0003;
    let top = STACK[0].address() + size_of_val(&STACK);
    let entry = payload_secondary_entry as *const () as usize;
    power::call(CPU_ON, [1, entry as u64, top as u64])
}

/// Reads the device tree, runs the main line, powers off.
pub fn run(dtb: usize, main: fn(&crate::platform::Platform<'_>)) -> ! {
    // SAFETY: x0 at entry is the device tree's address by the arm64 boot protocol; the platform
    // module checks its magic before anything else.
    let platform = unsafe { crate::platform::read(dtb) };
    match platform {
        Some(platform) => main(&platform),
        None => crate::println!("err no device tree at {dtb:#x}"),
    }
    power::off()
}

/// How many exceptions were stepped over; counted only while that is wanted.
static STEPPED: AtomicU64 = AtomicU64::new(0);
static STEP_OVER: AtomicBool = AtomicBool::new(false);
static SYNDROME: AtomicU64 = AtomicU64::new(0);

/// From now on an instruction that faults is stepped over.
pub fn step_over_faults() {
    STEP_OVER.store(true, Ordering::Relaxed);
}

/// From now on they are the end again.
pub fn end_at_faults() {
    STEP_OVER.store(false, Ordering::Relaxed);
}

/// How many instructions were stepped over.
pub fn stepped() -> u64 {
    STEPPED.load(Ordering::Relaxed)
}

/// ESR_EL1 of the last of them.
pub fn syndrome() -> u64 {
    SYNDROME.load(Ordering::Relaxed)
}

/// An exception: stepped over where the payload wants that, else said, and the end.
#[unsafe(no_mangle)]
extern "C" fn payload_fault(esr: u64, elr: u64, far: u64) -> u64 {
    if STEP_OVER.load(Ordering::Relaxed) {
        STEPPED.fetch_add(1, Ordering::Relaxed);
        SYNDROME.store(esr, Ordering::Relaxed);
        return elr.wrapping_add(4);
    }
    crate::println!("fault esr={esr:#x} elr={elr:#x} far={far:#x}");
    power::off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::print(format_args!("panic {info}\n"));
    power::off()
}
