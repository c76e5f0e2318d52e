//! Lists of capabilities, with loops that end whatever a device answers.

use crate::ecam::Config;
use crate::regs::{extended, header};

/// Most capabilities of a list: what fits 192 bytes in steps of 4.
pub const MAX_CAPABILITIES: usize = 48;
/// Most extended capabilities: what fits 3,840 bytes in steps of 4, and no
/// device has a tenth of it.
const MAX_EXTENDED: usize = 96;

/// A capability of the first 256 bytes (7.5.1.1.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// Capability ID.
    pub id: u8,
    /// Where it starts.
    pub offset: u8,
    /// Where the next one starts, 0 if it is the last.
    pub next: u8,
}

/// A capability of extended configuration space (7.6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedCapability {
    /// Extended Capability ID.
    pub id: u16,
    /// Capability version.
    pub version: u8,
    /// Where it starts.
    pub offset: u16,
    /// Where the next one starts, 0 if it is the last.
    pub next: u16,
}

impl<'e> Config<'e> {
    /// The capabilities, in the list's order. Ends at the first pointer that
    /// leads outside the list's space, and after [`MAX_CAPABILITIES`].
    pub fn capabilities(self) -> impl Iterator<Item = Capability> + use<'e> {
        let listed = self.read16(header::STATUS) & header::STATUS_CAPABILITIES != 0;
        let mut at = if listed { self.read8(header::CAPABILITIES) & !3 } else { 0 };
        core::iter::from_fn(move || {
            if at < 0x40 {
                return None;
            }
            let [id, next] = self.read16(u16::from(at)).to_le_bytes();
            if id == 0xff {
                return None;
            }
            let capability = Capability { id, offset: at, next: next & !3 };
            at = next & !3;
            Some(capability)
        })
        .take(MAX_CAPABILITIES)
    }

    /// The first capability of this ID: where it starts.
    pub fn capability(self, id: u8) -> Option<u16> {
        self.capabilities().find(|capability| capability.id == id).map(|c| u16::from(c.offset))
    }

    /// The extended capabilities, in the list's order, bounded likewise.
    pub fn extended_capabilities(self) -> impl Iterator<Item = ExtendedCapability> + use<'e> {
        let mut at = extended::START;
        core::iter::from_fn(move || {
            if at < extended::START {
                return None;
            }
            let word = self.read32(at);
            if word == 0 || word == u32::MAX {
                return None;
            }
            let [low, high] = [(word & 0xffff) as u16, (word >> 16) as u16];
            let next = (high >> 4) & !3;
            let capability =
                ExtendedCapability { id: low, version: (high & 0xf) as u8, offset: at, next };
            at = next;
            Some(capability)
        })
        .take(MAX_EXTENDED)
    }

    /// The first extended capability of this ID: where it starts.
    pub fn extended_capability(self, id: u16) -> Option<u16> {
        self.extended_capabilities().find(|capability| capability.id == id).map(|c| c.offset)
    }
}
