//! Where a function's MSI-X table and pending bits lie (7.7.2).

use crate::bar::{Bar, BarKind, MAX_BARS};
use crate::ecam::Config;
use crate::regs::{capability, msix};

/// Bytes of a table entry.
const ENTRY: u64 = 16;

/// An MSI-X table whose place is inside the function's BARs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixTable {
    /// Where the capability starts.
    pub capability: u16,
    /// Number of vectors, 1..=2048.
    pub vectors: u16,
    /// BAR that holds the table.
    pub bar: u8,
    /// Offset in that BAR, in bytes.
    pub offset: u64,
    /// BAR that holds the pending bits.
    pub pending_bar: u8,
    /// Offset in that BAR, in bytes.
    pub pending_offset: u64,
}

impl MsixTable {
    /// Length of the table in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.vectors).saturating_mul(ENTRY)
    }
}

/// Reads the capability; `None` if there is none or it points outside the BARs.
pub(crate) fn read(config: Config<'_>, bars: &[Option<Bar>; MAX_BARS]) -> Option<MsixTable> {
    let at = config.capability(capability::MSIX)?;
    let size = config.read16(at.saturating_add(msix::CONTROL)) & msix::SIZE;
    let vectors = size.saturating_add(1);
    let place = |offset: u16, bytes: u64| {
        let word = config.read32(at.saturating_add(offset));
        let bar = (word & 7) as u8;
        let offset = u64::from(word & !7);
        let held = bars.get(usize::from(bar))?.filter(|bar| bar.kind != BarKind::Io)?;
        (offset.checked_add(bytes)? <= held.size).then_some((bar, offset))
    };
    let (bar, offset) = place(msix::TABLE, u64::from(vectors).saturating_mul(ENTRY))?;
    let (pending_bar, pending_offset) =
        place(msix::PBA, u64::from(vectors).div_ceil(64).saturating_mul(8))?;
    Some(MsixTable { capability: at, vectors, bar, offset, pending_bar, pending_offset })
}
