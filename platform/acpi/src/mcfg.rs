//! The MCFG (PCI Firmware Specification 3.3, section 4.1.2): where configuration space is.

use palisade_board::Range;

use crate::bytes::Bytes;
use crate::error::{Error, Fault, Signature};
use crate::tables::{HEAD, Tables};

/// Table 4-2: eight reserved bytes stand before the first allocation.
const FIRST: usize = HEAD + 8;
/// Table 4-3: bytes of an allocation.
const LENGTH: usize = 16;

/// Configuration space of some buses of a segment.
pub(crate) struct Allocation<'a> {
    /// The structure.
    pub(crate) at: Bytes<'a>,
    /// The segment.
    pub(crate) segment: u16,
    /// First and last bus.
    pub(crate) buses: (u8, u8),
    /// Configuration space from the first bus on.
    pub(crate) ecam: Range,
}

/// Calls `each` with every allocation, or with what is wrong with one.
pub(crate) fn allocations<'a>(
    tables: &Tables<'a>,
    each: &mut dyn FnMut(Result<Allocation<'a>, Error>),
) {
    let Some(table) = tables.find(Signature::MCFG) else { return };
    let count = table.len().saturating_sub(FIRST) / LENGTH;
    for index in 0..count {
        let at = FIRST.saturating_add(index.saturating_mul(LENGTH));
        each(table.part(at, LENGTH, "allocation").and_then(one));
    }
}

fn one(at: Bytes<'_>) -> Result<Allocation<'_>, Error> {
    let base = at.u64(0, "base address")?;
    let segment = at.u16(8, "segment")?;
    let (first, last) = (at.u8(10, "start bus")?, at.u8(11, "end bus")?);
    let buses = u64::from(last).checked_sub(first.into()).map(|more| more.saturating_add(1));
    let buses = buses.ok_or(at.error(11, "end bus", Fault::Value(last.into())))?;
    // The base is bus 0's, whether that is in the allocation or not.
    let start = base.checked_add(u64::from(first) << 20);
    let ecam = start.and_then(|start| Range::new(start, buses << 20));
    let usable = base != 0 && base.is_multiple_of(1 << 20);
    let ecam = ecam.filter(|_| usable).ok_or(at.error(0, "base address", Fault::Value(base)))?;
    Ok(Allocation { at, segment, buses: (first, last), ecam })
}
