//! The console: what the SPCR says (Microsoft's "Serial Port Console Redirection Table", revision
//! 4), else the first serial port of the DBG2 ("Debug Port Table 2", revision 1).

use palisade_board::{Part, Problem, Range, Trigger, Uart, UartKind};

use crate::bytes::Bytes;
use crate::error::{Error, Fault, Signature};
use crate::interrupt::wire;
use crate::notes::Notes;
use crate::tables::Tables;

/// SPCR: where its fields are.
const INTERFACE_TYPE: usize = 36;
const BASE_ADDRESS: usize = 40;
const INTERRUPT_TYPE: usize = 52;
const GSIV: usize = 54;
/// Interrupt Type, bit 3: the GIC's.
const ARMH_GIC: u8 = 1 << 3;

/// DBG2: where its list is, the type of a serial port, and its fields.
const INFO_OFFSET: usize = 36;
const INFO_COUNT: usize = 40;
const SERIAL: u16 = 0x8000;
/// Most debug ports that are looked at.
const PORTS: u32 = 32;

/// Registers that are mapped, in bytes: no UART that is known has more.
const SIZE: u64 = 0x1000;

/// The console, if there is one that can be used.
pub(crate) fn read(tables: &Tables<'_>, notes: &mut Notes) -> Option<Uart> {
    if let Some(table) = tables.find(Signature::SPCR) {
        let (uart, wrong) = notes.keep(Part::Console, spcr(table))?;
        if wrong {
            notes.add(table, Part::ConsoleInput, "interrupt", Problem::Interrupt);
        }
        return Some(uart);
    }
    let table = tables.find(Signature::DBG2)?;
    notes.keep(Part::Console, dbg2(table)).flatten()
}

/// The UART, and whether its interrupt is one that the GIC does not have.
fn spcr(table: Bytes<'_>) -> Result<(Uart, bool), Error> {
    let kind = table.u8(INTERFACE_TYPE, "interface type")?;
    let address = table.part(BASE_ADDRESS, 12, "base address")?;
    let mut uart = uart(table, kind.into(), address)?;
    let given = table.u8(INTERRUPT_TYPE, "interrupt type")? & ARMH_GIC != 0;
    let gsiv = table.u32(GSIV, "interrupt")?;
    // A level for every UART that is known (DDI 0183, 3.5: UARTINTR is active high).
    uart.interrupt = wire(gsiv, Trigger::Level).filter(|_| given);
    Ok((uart, given && gsiv != 0 && uart.interrupt.is_none()))
}

/// The first serial port.
fn dbg2(table: Bytes<'_>) -> Result<Option<Uart>, Error> {
    let mut at = table.u32(INFO_OFFSET, "OffsetDbgDeviceInfo")? as usize;
    let count = table.u32(INFO_COUNT, "NumberDbgDeviceInfo")?;
    for _ in 0..count.min(PORTS) {
        let length = usize::from(table.u16(at.saturating_add(1), "device information")?);
        let info = table.part(at, length, "device information")?;
        if info.u16(12, "port type")? == SERIAL {
            let kind = info.u16(14, "port subtype")?;
            let address = usize::from(info.u16(18, "BaseAddressRegisterOffset")?);
            let address = info.part(address, 12, "base address")?;
            return uart(info, kind, address).map(Some);
        }
        // A head is 22 bytes; a shorter one would be read again and again.
        if length < 22 {
            return Err(info.error(1, "device information", Fault::Length(length as u64)));
        }
        at = at.saturating_add(length);
    }
    Ok(None)
}

/// The UART of a type (DBG2, table 3: serial subtypes) at a Generic Address (5.2.3.2).
fn uart(table: Bytes<'_>, kind: u16, address: Bytes<'_>) -> Result<Uart, Error> {
    const MEMORY: u8 = 0;
    let space = address.u8(0, "address space")?;
    let (width, access) = (address.u8(1, "register width")?, address.u8(3, "access size")?);
    let base = address.u64(4, "base address")?;
    let registers = Range::new(base, SIZE).filter(|_| base != 0 && space == MEMORY);
    let registers = registers.ok_or(address.error(0, "base address", Fault::Value(base)))?;
    let kind = match kind {
        0x3 => UartKind::Pl011,
        // SBSA's, the first of them with 32-bit accesses only, which is how it is always driven.
        0xd | 0xe => UartKind::Sbsa,
        0x0 | 0x1 | 0x12 => ns16550(address, width, access)?,
        other => return Err(table.error(0, "interface type", Fault::Value(other.into()))),
    };
    // Firmware has set the speed, which is left as it is.
    Ok(Uart { kind, registers, interrupt: None, clock: None, baud: None })
}

/// A 16550: the register's width is the distance between two (DBG2, table 3, subtype 0x12), the
/// access size how wide an access is (5.2.3.2: 1 a byte, 2 a word, 3 a doubleword).
fn ns16550(address: Bytes<'_>, width: u8, access: u8) -> Result<UartKind, Error> {
    let shift = match width {
        0 | 8 => 0,
        16 => 1,
        32 => 2,
        other => return Err(address.error(1, "register width", Fault::Value(other.into()))),
    };
    let bytes = match access {
        0 | 1 => 1,
        2 => 2,
        3 => 4,
        other => return Err(address.error(3, "access size", Fault::Value(other.into()))),
    };
    // An access must not reach into the next register.
    if bytes > 1 << shift {
        return Err(address.error(3, "access size", Fault::Value(access.into())));
    }
    Ok(UartKind::Ns16550 { shift, width: bytes })
}
