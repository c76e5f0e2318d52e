//! The UART behind the console: a PL011, its SBSA subset, or a 16550.

use core::ptr::NonNull;

use arm_pl011_uart::{DataBits, Interrupts, LineConfig, Parity, StopBits, Uart};
use arm_pl011_uart::{PL011Registers, UniqueMmioPointer};
use palisade_board as board;
use palisade_board::UartKind;
use palisade_hal::mmio::Mmio;
use uart_16550::Uart16550;
use uart_16550::backend::Backend;
use uart_16550::spec::registers::IER;

/// A UART in service.
pub(crate) enum Serial {
    /// A PL011, or what the SBSA asks of one.
    Pl011(Uart<'static>),
    /// A 16550 or a descendant.
    Ns16550(Uart16550<Registers>),
}

/// A byte came with an error of the line.
pub(crate) struct LineError;

impl Serial {
    /// Opens the UART that the device tree describes. Only a PL011 whose clock is known is set up;
    /// every other keeps the speed that firmware gave it.
    ///
    /// # Safety
    /// The registers must be mapped as Device memory, and nobody else may use them.
    pub(crate) unsafe fn open(uart: &board::Uart) -> Option<Self> {
        if let UartKind::Ns16550 { shift, width } = uart.kind {
            // SAFETY: the caller's promise.
            let mmio = unsafe { Mmio::new(uart.registers.base(), uart.registers.size()) };
            let registers = Registers { mmio, shift, width };
            // SAFETY: every register is reached inside the bounds of `mmio`, or not at all.
            return Some(Self::Ns16550(unsafe { Uart16550::new_with_backend(registers) }));
        }
        let registers = NonNull::new(uart.registers.start() as *mut PL011Registers)?;
        // SAFETY: the caller's promise.
        let mut pl011 = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        if let (UartKind::Pl011, Some(clock)) = (uart.kind, uart.clock) {
            let (data_bits, stop_bits) = (DataBits::Bits8, StopBits::One);
            let line = LineConfig { data_bits, parity: Parity::None, stop_bits };
            let _keeps_firmware_setting = pl011.enable(line, uart.baud.unwrap_or(115_200), clock);
        }
        Some(Self::Pl011(pl011))
    }

    /// Whether no byte can be written now.
    pub(crate) fn is_tx_fifo_full(&mut self) -> bool {
        match self {
            Self::Pl011(uart) => uart.is_tx_fifo_full(),
            Self::Ns16550(uart) => uart.ready_to_send().is_err(),
        }
    }

    /// Writes a byte; lost where there is no room.
    pub(crate) fn write_word(&mut self, byte: u8) {
        match self {
            Self::Pl011(uart) => uart.write_word(byte),
            Self::Ns16550(uart) => {
                let _lost_when_full = uart.try_send_byte(byte);
            }
        }
    }

    /// The next byte that has arrived.
    ///
    /// # Errors
    /// It came with an error of the line, and is gone.
    pub(crate) fn read_word(&mut self) -> Result<Option<u8>, LineError> {
        match self {
            Self::Pl011(uart) => uart.read_word().map_err(|_| LineError),
            Self::Ns16550(uart) => Ok(uart.try_receive_byte().ok()),
        }
    }

    /// Clears interrupts. A 16550's go with what raised them.
    pub(crate) fn clear_interrupts(&mut self, interrupts: Interrupts) {
        if let Self::Pl011(uart) = self {
            uart.clear_interrupts(interrupts);
        }
    }

    /// Lets these interrupts out, and no others. A 16550 knows that input has arrived; nothing
    /// else is asked of it.
    pub(crate) fn set_interrupt_masks(&mut self, interrupts: Interrupts) {
        match self {
            Self::Pl011(uart) => uart.set_interrupt_masks(interrupts),
            Self::Ns16550(uart) => {
                uart.disable_interrupts(IER::all());
                if interrupts.intersects(Interrupts::RXI | Interrupts::RTI) {
                    uart.enable_interrupts(IER::DATA_READY);
                }
            }
        }
    }
}

/// The registers of a 16550, one each `1 << shift` bytes, in accesses of `width` bytes.
pub(crate) struct Registers {
    mmio: Mmio,
    shift: u8,
    width: u8,
}

impl Registers {
    /// Where a register is.
    fn at(&self, register: u8) -> u64 {
        u64::from(register) << self.shift
    }
}

impl Backend for Registers {
    // SAFETY: `Mmio` checks every offset against the range.
    unsafe fn read(&mut self, register: u8) -> u8 {
        let at = self.at(register);
        match self.width {
            4 => self.mmio.read32(at) as u8,
            2 => self.mmio.read16(at) as u8,
            _ => self.mmio.read8(at),
        }
    }

    // SAFETY: `Mmio` checks every offset against the range.
    unsafe fn write(&mut self, register: u8, value: u8) {
        let at = self.at(register);
        match self.width {
            4 => self.mmio.write32(at, value.into()),
            2 => self.mmio.write16(at, value.into()),
            _ => self.mmio.write8(at, value),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec::Vec;

    use board::{Range, Uart as Node};
    use palisade_hal::fake::{Device, Width, install};
    use palisade_hal::lock::{Mutex, Rank};

    use super::*;

    /// A UART: the stores that came, and what has arrived.
    struct Fake {
        stores: Mutex<Vec<(u64, Width, u64)>>,
        arrived: Mutex<Vec<u8>>,
        shift: u8,
    }

    impl Device for Fake {
        fn read(&self, offset: u64, _width: Width) -> u64 {
            let arrived = !self.arrived.lock().is_empty();
            match offset >> self.shift {
                0 if arrived => self.arrived.lock().remove(0).into(),
                // LSR: the transmitter is empty; data is ready.
                5 => 0x60 | u64::from(arrived),
                _ => 0,
            }
        }

        fn write(&self, offset: u64, width: Width, value: u64) {
            self.stores.lock().push((offset, width, value));
        }
    }

    fn fake(base: u64, shift: u8, width: u8) -> (Arc<Fake>, Serial) {
        let (stores, arrived) =
            (Mutex::new(Rank::Fake, Vec::new()), Mutex::new(Rank::Fake, Vec::from(*b"in")));
        let device = Arc::new(Fake { stores, arrived, shift });
        let registers = Range::new(base, 0x100).unwrap();
        install(registers.base(), device.clone());
        let kind = UartKind::Ns16550 { shift, width };
        // A clock that is known does not make us set another speed.
        let node = Node { kind, registers, interrupt: None, clock: Some(1), baud: Some(9600) };
        // SAFETY: the registers are the fake's, and this is their only user.
        (device, unsafe { Serial::open(&node) }.unwrap())
    }

    #[test]
    fn registers_are_reached_as_the_tree_says() {
        for (shift, width, wide) in [
            (0, 1, Width::Bits8),
            (1, 2, Width::Bits16),
            (2, 4, Width::Bits32),
            (2, 1, Width::Bits8),
        ] {
            let (device, mut serial) = fake(0x1000, shift, width);
            assert!(!serial.is_tx_fifo_full());
            serial.write_word(b'x');
            serial.set_interrupt_masks(Interrupts::RXI | Interrupts::RTI);
            let ier = 1 << shift;
            let said = [(0, wide, u64::from(b'x')), (ier, wide, 0), (ier, wide, 1)];
            assert_eq!(*device.stores.lock(), said, "nothing else is written");
            let mut read = || serial.read_word().unwrap_or_default();
            assert_eq!([read(), read(), read()], [Some(b'i'), Some(b'n'), None]);
        }
    }

    #[test]
    fn registers_outside_their_range_are_not_there() {
        let (device, mut serial) = fake(0x2000, 4, 4);
        let Serial::Ns16550(uart) = &mut serial else { panic!("a 16550") };
        uart.backend_mut().mmio = uart.backend_mut().mmio.slice(0, 0x10);
        assert!(serial.is_tx_fifo_full(), "no LSR says that there is room");
        serial.set_interrupt_masks(Interrupts::RXI);
        assert!(device.stores.lock().is_empty());
    }
}
