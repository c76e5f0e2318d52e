//! The serial line: a PL011 (DDI 0183), transmitting at once and receiving from a queue.
use alloc::{collections::VecDeque, sync::Arc};
use core::{
    fmt,
    sync::atomic::{AtomicU32, Ordering},
};

use palisade_hal::lock::{Mutex, Rank};

use crate::{
    mmio::{Access, MmioDevice},
    vgic::Line,
};

const UARTDR: u64 = 0x00;
const UARTRSR: u64 = 0x04;
const UARTFR: u64 = 0x18;
const UARTIBRD: u64 = 0x24;
const UARTFBRD: u64 = 0x28;
const UARTLCR_H: u64 = 0x2c;
const UARTCR: u64 = 0x30;
const UARTIFLS: u64 = 0x34;
const UARTIMSC: u64 = 0x38;
const UARTRIS: u64 = 0x3c;
const UARTMIS: u64 = 0x40;
const UARTICR: u64 = 0x44;
const IDENTIFICATION: u64 = 0xfe0;
/// UARTPeriphID0..3 and UARTPCellID0..3 (3.3.16 to 3.3.23).
const IDS: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// UARTFR (3.3.3): transmit FIFO empty.
const TXFE: u32 = 1 << 7;
/// Receive FIFO full.
const RXFF: u32 = 1 << 6;
/// Receive FIFO empty.
const RXFE: u32 = 1 << 4;
/// Interrupt bits (3.3.11): overrun, receive timeout, transmit, receive.
const OEIS: u32 = 1 << 10;
const RTIS: u32 = 1 << 6;
const TXIS: u32 = 1 << 5;
const RXIS: u32 = 1 << 4;
/// All interrupt bits.
const ALL: u32 = 0x7ff;

/// UARTDR (3.3.1): characters before this one were lost.
const DR_OE: u16 = 1 << 11;
/// UARTRSR (3.3.2): characters were lost since UARTECR was written.
const RSR_OE: u32 = 1 << 3;

/// Bytes that wait for the guest: in its receive FIFO, and behind it on the line; more are lost.
const QUEUE: usize = 1024;
/// Depth of the receive FIFO that the guest sees.
const FIFO: usize = 16;

/// Where a guest's bytes go.
pub trait Console: Send + Sync {
    /// The VM with this index wrote a byte.
    fn put(&self, vm: usize, byte: u8);
}

#[derive(Debug)]
struct State {
    /// As UARTDR shows them: a byte, and [`DR_OE`].
    received: VecDeque<u16>,
    /// Bytes were lost, and no later one has been received yet.
    overrun: bool,
    /// Bytes that were lost.
    lost: u64,
    status: u32,
    raw: u32,
    mask: u32,
    control: u32,
    line_control: u32,
    integer: u32,
    fraction: u32,
    levels: u32,
}

/// A VM's serial line.
pub struct Pl011 {
    vm: usize,
    console: Arc<dyn Console>,
    interrupt: Line,
    state: Mutex<State>,
    /// UARTFR as the state has it, to be read without the lock.
    flags: AtomicU32,
}

impl fmt::Debug for Pl011 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl State {
    fn reset() -> Self {
        Self {
            received: VecDeque::new(),
            overrun: false,
            lost: 0,
            status: 0,
            raw: 0,
            mask: 0,
            control: 0x300,
            line_control: 0,
            integer: 0,
            fraction: 0,
            levels: 0x12,
        }
    }
}

impl Pl011 {
    /// The serial line of VM `vm`, which writes to `console` and interrupts by `interrupt`.
    pub fn new(vm: usize, console: Arc<dyn Console>, interrupt: Line) -> Arc<Self> {
        Arc::new(Self {
            vm,
            console,
            interrupt,
            state: Mutex::new(Rank::GuestUart, State::reset()),
            flags: AtomicU32::new(TXFE | RXFE),
        })
    }

    /// Bytes come in for the guest; returns how many were taken. The others are lost, which the
    /// guest sees as an overrun.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut state = self.state.lock();
        let taken = bytes.len().min(QUEUE.saturating_sub(state.received.len()));
        for &byte in bytes.iter().take(taken) {
            // The state of the overrun goes into the FIFO with the next character (2.4.3).
            let lost = if core::mem::take(&mut state.overrun) { DR_OE } else { 0 };
            state.received.push_back(u16::from(byte) | lost);
        }
        if taken > 0 {
            state.raw |= RXIS | RTIS;
        }
        if taken < bytes.len() {
            state.overrun = true;
            state.lost = state.lost.saturating_add((bytes.len() - taken) as u64);
            state.status |= RSR_OE;
            state.raw |= OEIS;
        }
        self.update(&state);
        taken
    }

    /// How many bytes the guest has lost since it was built.
    pub fn lost(&self) -> u64 {
        self.state.lock().lost
    }

    /// Back to the state of power-on, but for the count of what was lost.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        *state = State { lost: state.lost, ..State::reset() };
        self.update(&state);
    }

    fn update(&self, state: &State) {
        let waiting = state.received.len();
        let full = if waiting >= FIFO { RXFF } else { 0 };
        let empty = if waiting == 0 { RXFE } else { 0 };
        self.flags.store(TXFE | full | empty, Ordering::Relaxed);
        self.interrupt.set(state.raw & state.mask != 0);
    }
}

impl MmioDevice for Pl011 {
    fn read(&self, access: Access) -> u64 {
        if access.offset == UARTFR {
            return self.flags.load(Ordering::Relaxed).into();
        }
        let mut state = self.state.lock();
        let value = match access.offset {
            UARTDR => {
                let data = state.received.pop_front().unwrap_or(0);
                match state.received.len() {
                    0 => state.raw &= !(RXIS | RTIS),
                    // What waited on the line comes into the FIFO, as new as any input: a guest
                    // that cleared the interrupts and then read a FIFO's depth hears of it.
                    FIFO.. => state.raw |= RXIS | RTIS,
                    _ => {}
                }
                self.update(&state);
                u32::from(data)
            }
            UARTRSR => state.status,
            UARTIBRD => state.integer,
            UARTFBRD => state.fraction,
            UARTLCR_H => state.line_control,
            UARTCR => state.control,
            UARTIFLS => state.levels,
            UARTIMSC => state.mask,
            UARTRIS => state.raw,
            UARTMIS => state.raw & state.mask,
            at @ IDENTIFICATION..0x1000 => {
                let index = ((at - IDENTIFICATION) / 4) as usize;
                u32::from(IDS.get(index).copied().unwrap_or(0))
            }
            _ => 0,
        };
        u64::from(value)
    }

    fn write(&self, access: Access, value: u64) {
        let value = value as u32;
        if access.offset == UARTDR {
            // Outside the lock: the sink has one of its own.
            self.console.put(self.vm, value as u8);
        }
        let mut state = self.state.lock();
        match access.offset {
            UARTDR => state.raw |= TXIS,
            UARTIBRD => state.integer = value & 0xffff,
            UARTFBRD => state.fraction = value & 0x3f,
            UARTLCR_H => state.line_control = value & 0xff,
            UARTCR => state.control = value & 0xffff,
            UARTIFLS => state.levels = value & 0x3f,
            UARTIMSC => state.mask = value & ALL,
            UARTICR => state.raw &= !value,
            // UARTECR: any value clears the errors (3.3.2).
            UARTRSR => state.status = 0,
            _ => return,
        }
        self.update(&state);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use palisade_gic::Version;

    use super::*;
    use crate::{mmio::Width, vgic::Vgic};

    struct Sink(Mutex<Vec<u8>>);

    impl Console for Sink {
        fn put(&self, vm: usize, byte: u8) {
            assert_eq!(vm, 3);
            self.0.lock().push(byte);
        }
    }

    fn at(offset: u64) -> Access {
        Access { vcpu: 0, offset, width: Width::Bits32 }
    }

    #[test]
    fn bytes_go_out_and_input_interrupts() {
        let vgic = Vgic::new(Version::V3, 1);
        let sink = Arc::new(Sink(Mutex::new(Rank::Fake, Vec::new())));
        let uart = Pl011::new(3, sink.clone(), vgic.line(33));
        for byte in *b"hi" {
            uart.write(at(UARTDR), u64::from(byte));
        }
        assert_eq!(*sink.0.lock(), b"hi");
        assert_eq!(uart.read(at(UARTFR)), u64::from(TXFE | RXFE));
        uart.write(at(UARTICR), 0x7ff);
        uart.write(at(UARTIMSC), u64::from(RXIS));
        vgic.take_kicks();
        assert_eq!(uart.input(b"ok"), 2);
        assert_eq!(vgic.take_kicks(), 1, "the line rose");
        assert_eq!(uart.read(at(UARTMIS)), u64::from(RXIS));
        assert_eq!(uart.read(at(UARTDR)), u64::from(b'o'));
        assert_eq!(vgic.take_kicks(), 0);
        assert_eq!(uart.read(at(UARTDR)), u64::from(b'k'));
        assert_eq!(vgic.take_kicks(), 1, "the line fell");
        assert_eq!(uart.read(at(UARTRIS)), 0);
        let ids: Vec<u64> = (0..8).map(|n| uart.read(at(IDENTIFICATION + 4 * n))).collect();
        assert_eq!(ids, IDS.map(u64::from));
    }

    fn silent() -> Arc<Pl011> {
        let vgic = Vgic::new(Version::V3, 1);
        Pl011::new(3, Arc::new(Sink(Mutex::new(Rank::Fake, Vec::new()))), vgic.line(33))
    }

    #[test]
    fn a_flood_of_input_is_bounded_counted_and_shown_as_an_overrun() {
        let uart = silent();
        assert_eq!(uart.input(&[7; QUEUE]), QUEUE);
        assert_eq!(uart.read(at(UARTRIS)) as u32 & OEIS, 0);
        assert_eq!(uart.input(b"xyz"), 0);
        assert_eq!(uart.lost(), 3);
        assert_ne!(uart.read(at(UARTRIS)) as u32 & OEIS, 0);
        assert_eq!(uart.read(at(UARTRSR)), u64::from(RSR_OE));
        assert_eq!(uart.read(at(UARTDR)), 7);
        // The next character that comes says that others before it did not.
        assert_eq!(uart.input(b"a"), 1);
        assert_eq!(uart.input(b"b"), 0);
        for _ in 1..QUEUE {
            assert_eq!(uart.read(at(UARTDR)), 7);
        }
        assert_eq!(uart.read(at(UARTDR)), u64::from(DR_OE | u16::from(b'a')));
        assert_eq!(uart.input(b"cd"), 2);
        assert_eq!(uart.read(at(UARTDR)), u64::from(DR_OE | u16::from(b'c')));
        assert_eq!(uart.read(at(UARTDR)), u64::from(b'd'));
        uart.write(at(UARTRSR), 0);
        uart.write(at(UARTICR), u64::from(OEIS));
        assert_eq!(uart.read(at(UARTRSR)), 0);
        assert_eq!(uart.read(at(UARTRIS)) as u32 & OEIS, 0);
        uart.reset();
        assert_eq!((uart.input(b"x"), uart.lost()), (1, 4));
        assert_eq!(uart.read(at(UARTDR)), u64::from(b'x'));
    }

    /// Linux's driver, when it opens the line: clears what is pending, reads twice the FIFO's
    /// depth, switches the interrupts on, and waits for one.
    #[test]
    fn input_that_waits_behind_the_fifo_interrupts_again() {
        let uart = silent();
        uart.input(&[7; 200]);
        uart.write(at(UARTICR), u64::from(ALL));
        for _ in 0..2 * FIFO {
            uart.read(at(UARTDR));
        }
        uart.write(at(UARTIMSC), u64::from(RXIS | RTIS));
        assert_eq!(uart.read(at(UARTMIS)), u64::from(RXIS | RTIS));
    }
}
