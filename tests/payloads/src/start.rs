//! What every payload starts and ends with.

use core::panic::PanicInfo;

use crate::{console, power};

/// Makes a function of `fn(&Platform)` the payload's main line.
#[macro_export]
macro_rules! payload {
    ($main:path) => {
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
    };
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

/// An exception that no payload expects: said, then the end.
#[unsafe(no_mangle)]
extern "C" fn payload_fault(esr: u64, elr: u64, far: u64) -> ! {
    crate::println!("fault esr={esr:#x} elr={elr:#x} far={far:#x}");
    power::off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    console::print(format_args!("panic {info}\n"));
    power::off()
}
