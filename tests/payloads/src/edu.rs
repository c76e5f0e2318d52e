//! QEMU's teaching device, as far as its DMA goes.

use crate::memory::{barrier, read64, write64};
use crate::time;

/// Vendor and device.
pub const IDENTITY: (u16, u16) = (0x1234, 0x11e8);
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
/// The device's own buffer, as its DMA engine addresses it.
const BUFFER: u64 = 0x40000;
/// Its size. The device does not check it, so we do.
pub const BUFFER_SIZE: u64 = 4096;
/// One transfer takes 100 ms of virtual time.
const PATIENCE_MS: u64 = 5_000;

/// The device.
#[derive(Clone, Copy, Debug)]
pub struct Edu {
    base: usize,
}

impl Edu {
    /// At its BAR 0.
    pub fn new(base: u64) -> Self {
        Self { base: base as usize }
    }

    fn start(self, source: u64, destination: u64, count: u64, direction: u64) {
        barrier();
        // SAFETY: BAR 0 is ours; the registers take 8-byte accesses.
        unsafe {
            write64(self.base + SOURCE, source);
            write64(self.base + DESTINATION, destination);
            write64(self.base + COUNT, count);
            write64(self.base + COMMAND, START | direction);
        }
    }

    /// Waits for the end of a transfer.
    pub fn wait(self) -> Option<()> {
        let start = time::now();
        // SAFETY: BAR 0 is ours.
        while unsafe { read64(self.base + COMMAND) } & START != 0 {
            if time::passed(start, PATIENCE_MS) {
                return None;
            }
            time::pause(1000);
        }
        barrier();
        Some(())
    }

    /// Copies memory to the device.
    pub fn fetch(self, from: u64, count: u64) -> Option<()> {
        self.start(from, BUFFER, count, 0);
        self.wait()
    }

    /// Starts copying the device's buffer to memory.
    pub fn arm(self, to: u64, count: u64) {
        self.start(BUFFER, to, count, TO_MEMORY);
    }

    /// Copies the device's buffer to memory.
    pub fn store(self, to: u64, count: u64) -> Option<()> {
        self.arm(to, count);
        self.wait()
    }
}
