//! Power control by registers, where there is no firmware to ask.

use crate::Range;

/// The power manager with the watchdog of the Raspberry Pi (`brcm,bcm2835-pm`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerManager {
    /// Its registers.
    pub registers: Range,
}
