//! Interrupt specifiers of the GIC: type, number, flags.

use arrayvec::ArrayVec;
use palisade_board::{Interrupt, Trigger};

/// Most cells of a specifier or a unit address; the validator keeps each below.
pub(crate) const CELLS: usize = 16;

/// The cells of a specifier or a unit address.
pub(crate) type Specifier = ArrayVec<u32, CELLS>;

/// Decodes a GIC specifier of three cells, or of four, the last one a PPI partition.
pub(crate) fn specifier(cells: &[u32]) -> Option<Interrupt> {
    let &[kind, number, flags] = cells.get(..3)?.first_chunk::<3>()?;
    if cells.len() > 4 {
        return None;
    }
    // IHI 0069, 2.2: SPIs are INTID 32..=1019, PPIs 16..=31; GICv3.1 has more SPIs at 4096..=5119
    // and more PPIs at 1056..=1119.
    let intid = match kind {
        0 if number < 988 => number.checked_add(32)?,
        1 if number < 16 => number.checked_add(16)?,
        2 if number < 1024 => number.checked_add(4096)?,
        3 if number < 64 => number.checked_add(1056)?,
        _ => return None,
    };
    let trigger = match flags & 0xf {
        1 | 2 => Trigger::Edge,
        4 | 8 => Trigger::Level,
        _ => return None,
    };
    Some(Interrupt { intid, trigger })
}
