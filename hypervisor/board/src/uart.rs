//! The serial line.

use crate::{Interrupt, Range};

/// A PL011.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Its registers.
    pub registers: Range,
    /// Its combined interrupt.
    pub interrupt: Option<Interrupt>,
    /// UARTCLK in Hz, where a fixed clock or `clock-frequency` says it.
    pub clock: Option<u32>,
    /// `current-speed` in baud, where given.
    pub baud: Option<u32>,
}
