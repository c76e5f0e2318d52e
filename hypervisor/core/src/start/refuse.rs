//! An entry at another level than EL2. The MMU is off: no locks, no heap.

use palisade_board::{Range, Uart, UartKind};
use palisade_fdt::Tree;
use palisade_hal::Deadline;
use palisade_hal::cpu::Counter;
use palisade_hal::machine::Refusal;

use crate::start::secondaries;
use crate::wire::serial::Serial;

/// Says why, on the UART that the device tree names or else the board, and turns the machine off.
pub fn refuse(refusal: Refusal) -> ! {
    let tree = refusal.tree.and_then(|tree| Tree::new(tree).ok());
    let machine = refusal.machine;
    let uart = match &tree {
        Some(tree) => palisade_fdt::console(tree),
        None => machine.default_uart().and_then(pl011),
    };
    // SAFETY: with the MMU off all memory is Device memory, and this is the only
    // code that runs.
    if let Some(mut uart) = uart.and_then(|uart| unsafe { Serial::open(&uart) }) {
        let level: &[u8] = if refusal.level == 1 { b"EL1" } else { b"EL3" };
        let hint: &[u8] = b", but it needs EL2 (QEMU: -M virt,virtualization=on, secure=off)\r\n";
        let parts: [&[u8]; 3] = [b"palisade was entered at ", level, hint];
        for &byte in parts.into_iter().flatten() {
            let deadline = Deadline::after(&Counter, 20_000);
            if deadline.wait(&Counter, || !uart.is_tx_fifo_full()) {
                uart.write_word(byte);
            }
        }
    }
    // Firmware can be called from EL1 only: at EL3 there is none above.
    let conduit = tree.as_ref().and_then(palisade_fdt::conduit).filter(|_| refusal.level == 1);
    let conduit = conduit.map(secondaries::conduit);
    machine.off(conduit.or_else(|| machine.default_conduit(refusal.level)))
}

/// The PL011 at `base`.
fn pl011(base: u64) -> Option<Uart> {
    let registers = Range::new(base, 4096)?;
    Some(Uart { kind: UartKind::Pl011, registers, interrupt: None, clock: None, baud: None })
}
