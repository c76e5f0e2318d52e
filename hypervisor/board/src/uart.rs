//! The serial line.

use crate::{Interrupt, Range};

/// A UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uart {
    /// Which registers it has.
    pub kind: UartKind,
    /// Its registers.
    pub registers: Range,
    /// Its combined interrupt.
    pub interrupt: Option<Interrupt>,
    /// Its clock in Hz, where a fixed clock or `clock-frequency` says it.
    pub clock: Option<u32>,
    /// `current-speed` in baud, where given.
    pub baud: Option<u32>,
}

/// Which registers a UART has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum UartKind {
    /// An Arm PL011.
    Pl011,
    /// The part of a PL011 that the SBSA asks for: its speed is set by firmware alone.
    Sbsa,
    /// A 16550 and its descendants (8250, DesignWare's, TI's): its speed is set by firmware alone.
    Ns16550 {
        /// log2 of the distance between two registers, in bytes.
        shift: u8,
        /// How wide an access is, in bytes: 1, 2 or 4.
        width: u8,
    },
}
