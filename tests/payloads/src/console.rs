//! The PL011.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::{read32, write32};
use crate::time;

const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const TRANSMIT_FULL: u32 = 1 << 5;
const RECEIVE_EMPTY: u32 = 1 << 4;
/// In DATA: characters before this one were lost.
const OVERRUN: u32 = 1 << 11;

/// Where it is; QEMU's place until the device tree was read.
static BASE: AtomicUsize = AtomicUsize::new(0x0900_0000);

/// Tells where the PL011 is and switches it on, FIFOs included.
pub fn set(base: usize) {
    BASE.store(base, Ordering::Relaxed);
    // SAFETY: the device tree says that a PL011 is there.
    unsafe {
        write32(base + CONTROL, 0);
        write32(base + LINE_CONTROL, 0x70);
        write32(base + CONTROL, 0x301);
    }
}

/// The register that says how full the FIFOs are.
pub fn flags() -> usize {
    BASE.load(Ordering::Relaxed) + FLAGS
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let base = BASE.load(Ordering::Relaxed);
        for byte in text.bytes() {
            // SAFETY: the device tree says that a PL011 is there.
            unsafe {
                while read32(base + FLAGS) & TRANSMIT_FULL != 0 {}
                write32(base + DATA, u32::from(byte));
            }
        }
        Ok(())
    }
}

/// Prints.
pub fn print(arguments: fmt::Arguments<'_>) {
    // The UART takes everything.
    let _ = Uart.write_fmt(arguments);
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($words:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($words)*)))
    };
}

/// A byte that has come in, and whether others before it were lost.
pub fn received() -> Option<(u8, bool)> {
    let base = BASE.load(Ordering::Relaxed);
    // SAFETY: the device tree says that a PL011 is there.
    unsafe {
        if read32(base + FLAGS) & RECEIVE_EMPTY != 0 {
            return None;
        }
        let data = read32(base + DATA);
        Some((data as u8, data & OVERRUN != 0))
    }
}

/// Waits for a byte. Looks a few thousand times a second, so that the emulated UART is not all
/// that a core does.
fn byte() -> u8 {
    loop {
        match received() {
            Some((byte, _)) => return byte,
            None => time::pause(200),
        }
    }
}

/// Longest command.
const LONGEST: usize = 128;

/// A line of input.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Line {
    /// Waits for a line; what is too long is cut.
    pub fn read() -> Self {
        let mut line = Self { bytes: [0; LONGEST], length: 0 };
        loop {
            match byte() {
                b'\n' | b'\r' if line.length > 0 => return line,
                b'\n' | b'\r' => {}
                byte => {
                    if let Some(slot) = line.bytes.get_mut(line.length) {
                        *slot = byte;
                        line.length += 1;
                    }
                }
            }
        }
    }

    /// The line as text; empty when it is none.
    pub fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}
