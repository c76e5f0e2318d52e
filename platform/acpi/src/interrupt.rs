//! GSIVs, which on Arm are the GIC's INTIDs (5.2.12.14, 5.2.15).

use palisade_board::{Interrupt, Trigger};

/// The wire of this GSIV; `None` where the GIC has no such wire.
pub(crate) fn wire(gsiv: u32, trigger: Trigger) -> Option<Interrupt> {
    // IHI 0069, 2.2: PPIs 16..=31 and 1056..=1119, SPIs 32..=1019 and 4096..=5119.
    let known = matches!(gsiv, 16..=1019 | 1056..=1119 | 4096..=5119);
    known.then_some(Interrupt { intid: gsiv, trigger })
}

/// Edge where the bit says so.
pub(crate) const fn trigger(edge: bool) -> Trigger {
    if edge { Trigger::Edge } else { Trigger::Level }
}
