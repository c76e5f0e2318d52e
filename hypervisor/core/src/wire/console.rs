//! The one UART that leaves the hypervisor, and who writes to it how.
//!
//! Plain: log lines, and guests' lines with their VM's name before them. With
//! `palisade.mux=1`: frames, see [`crate::wire::mux`]. Lock order: a leaf, taken with
//! nothing but the caller's own locks held, and nothing is locked inside.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use arm_pl011_uart::Interrupts;
use arrayvec::ArrayVec;
use palisade_board as board;
use palisade_hal::Deadline;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::machine::{Machine, MapKind};

use crate::wire::logger;
use crate::wire::mux::{self, Demux};
use crate::wire::serial::Serial;

/// A byte that does not leave within this time is dropped, in microseconds.
const PATIENCE: u64 = 20_000;
/// Bytes of a PL011's registers.
const PL011_BYTES: u64 = 0x1000;
/// Longest guest line that plain mode keeps together.
const LINE: usize = 160;
/// Ctrl-]: in plain mode, from the first VM's console to the operator's prompt and back.
pub(crate) const ESCAPE: u8 = 0x1d;
/// Input bytes handled at once; the UART's interrupt stays for the others.
const BURST: usize = 256;

/// The state of the line.
pub(crate) struct Console {
    uart: Option<Serial>,
    mux: bool,
    /// The UART stopped taking bytes: do not wait for each one anew.
    stuck: bool,
    vms: Vec<Guest>,
    input: Demux,
    /// Plain mode: what is typed is the operator's.
    prompt: bool,
}

/// A VM's name and the line it has begun, for plain mode.
struct Guest {
    name: String,
    line: ArrayVec<u8, LINE>,
}

static CONSOLE: Mutex<Console> = Mutex::new(
    Rank::Console,
    Console {
        uart: None,
        mux: false,
        stuck: false,
        vms: Vec::new(),
        input: Demux::new(),
        prompt: false,
    },
);

/// Takes the line into use.
pub(crate) fn init(uart: Option<Serial>, mux: bool) {
    let mut console = CONSOLE.lock();
    console.uart = uart;
    if mux {
        mux::BANNER.iter().for_each(|&byte| console.put(byte));
    }
    console.mux = mux;
}

/// Opens the UART that the board is known to have, if no device tree has named one: what follows
/// is the last that is said.
pub(crate) fn last_resort(machine: &dyn Machine) {
    if CONSOLE.lock().uart.is_some() {
        return;
    }
    let Some(base) = machine.default_uart() else { return };
    let Some(registers) = board::Range::new(base, PL011_BYTES) else { return };
    if machine.map(registers.start()..registers.end(), MapKind::Device).is_err() {
        return;
    }
    let kind = board::UartKind::Pl011;
    let uart = board::Uart { kind, registers, interrupt: None, clock: None, baud: None };
    // SAFETY: mapped just now, and nobody else has opened it.
    init(unsafe { Serial::open(&uart) }, false);
    logger::init(0, None);
}

/// Adds the console of the next VM (order of the manifest).
pub(crate) fn add_vm(name: &str) {
    CONSOLE.lock().vms.push(Guest { name: name.into(), line: ArrayVec::new() });
}

/// Bytes that VM `vm` wrote to its serial port.
pub(crate) fn guest(vm: usize, bytes: &[u8]) {
    CONSOLE.lock().guest(vm, bytes);
}

/// One JSON line of the report; nothing in plain mode.
pub(crate) fn report(line: &[u8]) {
    let mut console = CONSOLE.lock();
    if console.mux {
        mux::frames(mux::REPORT, line, &mut |byte| console.put(byte));
    }
}

/// Shows an operator what was typed; nothing where the other end shows it itself.
pub(crate) fn echo(bytes: &[u8]) {
    let mut console = CONSOLE.lock();
    if !console.mux {
        console.plain(bytes);
    }
}

/// Whether the report has a channel.
pub(crate) fn is_muxed() -> bool {
    CONSOLE.lock().mux
}

/// Writes a piece of the log, all of it under one lock.
pub(crate) fn log(text: fmt::Arguments<'_>) {
    let mut console = CONSOLE.lock();
    let mut out = LogWriter { console: &mut console, buffer: ArrayVec::new() };
    // Writing to the line cannot fail; a Display that does ends its own line.
    let _ = fmt::write(&mut out, text);
    out.flush();
}

/// Breaks whatever lock the dying core or another holds, and completes a torn frame.
pub(crate) fn seize() {
    // SAFETY: called once, by the panic path, which never returns to the code
    // that may hold the lock; another core's frame is torn and completed below.
    unsafe { CONSOLE.force_unlock() };
    let mut console = CONSOLE.lock();
    console.stuck = false;
    if console.mux {
        (0..mux::PADDING).for_each(|_| console.put(0));
    }
}

/// Lets the UART raise its interrupt when input arrives, and for what has arrived already:
/// the receive interrupts are not cleared here, since a FIFO that is not empty would not raise
/// them again.
pub(crate) fn enable_input() {
    if let Some(uart) = CONSOLE.lock().uart.as_mut() {
        let receive = Interrupts::RXI | Interrupts::RTI;
        uart.clear_interrupts(Interrupts::all() - receive);
        uart.set_interrupt_masks(receive);
    }
}

/// Takes what has arrived, [`BURST`] bytes of it, and hands it out in pieces of one channel; in
/// plain mode the input is the first VM's, and after [`ESCAPE`] the operator's. `each` runs
/// without the lock.
///
/// The UART's interrupt is never cleared by hand. Reading takes it away as far as it reads (DDI
/// 0183, 3.3.11): below the FIFO's level the receive interrupt, with the last byte the time-out.
/// What is left by this call keeps the line high, so that the next one comes.
pub(crate) fn poll(mut each: impl FnMut(u8, &[u8])) {
    let mut channels = ArrayVec::<u8, BURST>::new();
    let mut bytes = ArrayVec::<u8, BURST>::new();
    let mut errors = 0u32;
    {
        let mut console = CONSOLE.lock();
        let console = &mut *console;
        let Some(uart) = console.uart.as_mut() else { return };
        for _ in 0..BURST {
            let byte = match uart.read_word() {
                Ok(Some(byte)) => byte,
                Ok(None) => break,
                // A line error costs the byte that had it, an overrun those before it too.
                Err(_) => {
                    errors += 1;
                    continue;
                }
            };
            let input = if console.mux {
                console.input.push(byte)
            } else {
                console.prompt ^= byte == ESCAPE;
                match console.prompt {
                    true => Some((mux::LOG, byte)),
                    false if byte == ESCAPE => None,
                    false => Some((mux::FIRST_VM, byte)),
                }
            };
            if let Some((channel, byte)) = input {
                channels.push(channel);
                bytes.push(byte);
            }
        }
    }
    tell_errors(errors);
    let mut rest = bytes.as_slice();
    for run in channels.chunk_by(|left, right| left == right) {
        let Some((piece, next)) = rest.split_at_checked(run.len()) else { return };
        run.first().into_iter().for_each(|&channel| each(channel, piece));
        rest = next;
    }
}

/// Says that input was lost on the wire. A line that nothing is connected to makes errors without
/// end: told of each time that their number has doubled.
fn tell_errors(more: u32) {
    static ERRORS: AtomicU32 = AtomicU32::new(0);
    if more > 0 {
        let before = ERRORS.load(Ordering::Relaxed);
        let now = before.saturating_add(more);
        ERRORS.store(now, Ordering::Relaxed);
        if before.checked_ilog2() != now.checked_ilog2() {
            log::warn!("UART: {now} line errors and overruns so far: some input is lost");
        }
    }
}

impl Console {
    fn put(&mut self, byte: u8) {
        let Some(uart) = self.uart.as_mut() else { return };
        if uart.is_tx_fifo_full() {
            let patience = if self.stuck { 0 } else { PATIENCE };
            let deadline = Deadline::after(&Counter, patience);
            self.stuck = !deadline.wait(&Counter, || !uart.is_tx_fifo_full());
            if self.stuck {
                return;
            }
        }
        self.stuck = false;
        uart.write_word(byte);
    }

    /// Plain text for a terminal: a line ends with CR LF.
    fn plain(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
    }

    fn guest(&mut self, vm: usize, bytes: &[u8]) {
        if self.mux {
            let Ok(vm) = u8::try_from(vm) else { return };
            let channel = mux::FIRST_VM.saturating_add(vm);
            return mux::frames(channel, bytes, &mut |byte| self.put(byte));
        }
        for &byte in bytes {
            let Some(guest) = self.vms.get_mut(vm) else { return };
            if byte != b'\n' && byte != b'\r' {
                guest.line.push(byte);
            }
            if byte == b'\n' || guest.line.is_full() {
                let line = guest.line.take();
                let name = core::mem::take(&mut guest.name);
                for part in [b"[", name.as_bytes(), b"] ", line.as_slice(), b"\n"] {
                    self.plain(part);
                }
                if let Some(guest) = self.vms.get_mut(vm) {
                    guest.name = name;
                }
            }
        }
    }
}

struct LogWriter<'a> {
    console: &'a mut Console,
    buffer: ArrayVec<u8, 128>,
}

impl LogWriter<'_> {
    fn flush(&mut self) {
        let console = &mut *self.console;
        if console.mux {
            mux::frames(mux::LOG, &self.buffer, &mut |byte| console.put(byte));
        } else {
            console.plain(&self.buffer);
        }
        self.buffer.clear();
    }
}

impl fmt::Write for LogWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.buffer.is_full() {
                self.flush();
            }
            self.buffer.push(byte);
        }
        Ok(())
    }
}
