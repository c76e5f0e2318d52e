//! The GTDT (5.2.25): the generic timer's interrupts.

use palisade_board::{Interrupt, Timer};

use crate::bytes::Bytes;
use crate::error::{Error, Fault, Signature};
use crate::interrupt::{trigger, wire};
use crate::tables::Tables;

/// Table 5.117: a GSIV, and flags four bytes behind it.
const SECURE_EL1: usize = 48;
const EL1: usize = 56;
const VIRTUAL_EL1: usize = 64;
const EL2: usize = 72;
/// From revision 3 on.
const VIRTUAL_EL2: usize = 96;
/// Table 5.118: bit 0 says that the interrupt is edge triggered.
const EDGE: u32 = 1;

/// The timer.
///
/// # Errors
/// There is no GTDT, or one of the two interrupts that guests have is missing.
pub(crate) fn read(tables: &Tables<'_>) -> Result<Timer, Error> {
    let table = tables.need(Signature::GTDT)?;
    let needed = |at, what| {
        let (gsiv, wire) = one(table, at, what)?;
        wire.ok_or(table.error(at, what, Fault::Value(gsiv.into())))
    };
    // Nobody uses these three: what cannot be read of them is not there.
    let spare = |at, what| one(table, at, what).ok().and_then(|(_, wire)| wire);
    Ok(Timer {
        secure: spare(SECURE_EL1, "Secure EL1 timer"),
        physical: needed(EL1, "Non-Secure EL1 timer")?,
        virtual_: needed(VIRTUAL_EL1, "virtual EL1 timer")?,
        hypervisor: spare(EL2, "EL2 timer"),
        hypervisor_virtual: spare(VIRTUAL_EL2, "virtual EL2 timer"),
        // On a machine with ACPI the firmware sets CNTFRQ_EL0.
        frequency: None,
    })
}

/// A GSIV, and its wire.
fn one(table: Bytes<'_>, at: usize, what: &'static str) -> Result<(u32, Option<Interrupt>), Error> {
    let gsiv = table.u32(at, what)?;
    let flags = table.u32(at.saturating_add(4), what)?;
    // What is private to a core is the only thing that a timer can pull.
    let private = matches!(gsiv, 16..=31 | 1056..=1119);
    Ok((gsiv, wire(gsiv, trigger(flags & EDGE != 0)).filter(|_| private)))
}
