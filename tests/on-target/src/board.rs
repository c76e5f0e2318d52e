//! The machine: its UART, the heap, the start and the end.

use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use palisade_hal::cpu;
use palisade_hal::machine::{BootInfo, Fatal, Machine, MapKind, Refusal};
use palisade_mem::Heap;
use spin::Once;

use crate::memory::POOL;

/// The PL011 of QEMU's virt machine.
const UART: u64 = 0x900_0000;
/// Bytes of the heap: the lists of mappings and questions of one table.
const HEAP_BYTES: usize = 4 << 20;

#[repr(C, align(4096))]
struct Bytes([MaybeUninit<u8>; HEAP_BYTES]);

#[global_allocator]
static HEAP: Heap = Heap::empty();

#[unsafe(link_section = ".heap")]
static mut BYTES: Bytes = Bytes([MaybeUninit::uninit(); HEAP_BYTES]);

static MACHINE: Once<&'static dyn Machine> = Once::new();

/// The UART. QEMU's takes a byte at any time.
pub struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: UARTDR of the board's PL011, mapped as Device before anything is printed.
            unsafe { (UART as *mut u32).write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($words:tt)*) => {{
        use core::fmt::Write;
        // The UART takes everything.
        let _always_ok = writeln!($crate::board::Uart, $($words)*);
    }};
}

/// Ends the emulator: 0 for success.
fn exit(status: u32) -> ! {
    match MACHINE.get() {
        Some(machine) => machine.exit(status),
        None => park(),
    }
}

fn park() -> ! {
    loop {
        cpu::wfe();
    }
}

/// The first core's main function: brings up the heap, maps the pool one to one, runs `test` and
/// ends with what it answers, whether all was right.
pub fn run(info: BootInfo, test: fn(&'static dyn Machine) -> bool) -> ! {
    let start = (&raw mut BYTES) as usize;
    // SAFETY: BYTES is named nowhere else, and this runs once.
    unsafe { HEAP.init(start, HEAP_BYTES) };
    MACHINE.call_once(|| info.machine);
    let map = |range, kind| info.machine.map(range, kind).is_ok();
    if !map(UART..UART + 0x1000, MapKind::Device) || !map(POOL, MapKind::Data) {
        exit(2);
    }
    exit(u32::from(!test(info.machine)))
}

/// No other core is started.
pub fn secondary(_index: usize) -> ! {
    park()
}

/// Not entered at EL2: the MMU is off.
pub fn refuse(refusal: Refusal) -> ! {
    refusal.machine.off(None)
}

/// An exception at EL2.
pub fn fatal(fatal: &Fatal<'_>) -> ! {
    let frame = fatal.frame;
    say!(
        "on-target: {} at {:#x}: ESR {:#x}, FAR {:#x}",
        fatal.kind,
        frame.elr,
        frame.esr,
        frame.far
    );
    exit(3)
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    say!("on-target: died: {info}");
    exit(4)
}
