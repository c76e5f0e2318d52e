//! The devices that QEMU has for it: what they are called, and how they are told to copy.

use crate::place;
use crate::witness::{Transfer, Way};

/// edu's registers for DMA (QEMU, docs/specs/edu.rst) and where its buffer begins.
mod edu {
    pub const SOURCE: u64 = 0x80;
    pub const DESTINATION: u64 = 0x88;
    pub const COUNT: u64 = 0x90;
    pub const COMMAND: u64 = 0x98;
    pub const RUN: u64 = 1 << 0;
    pub const TO_MEMORY: u64 = 1 << 1;
    pub const BUFFER: u64 = 0x4_0000;
}

/// iommu-testdev's registers (QEMU, docs/specs/iommu-testdev.rst).
mod testdev {
    pub const TRIGGER: u64 = 0x0;
    pub const ADDRESS: u64 = 0x4;
    pub const LENGTH: u64 = 0xc;
    pub const RESULT: u64 = 0x10;
    pub const DOORBELL: u64 = 0x14;
    pub const ATTRIBUTES: u64 = 0x18;
    pub const CHECKED: u64 = 0x1c;
    pub const BUSY: u64 = 0xffff_fffe;
    /// Non-secure, and that is meant.
    pub const NON_SECURE: u64 = 1 << 3 | 1 << 1;
    /// What it writes, always.
    pub const WORD: u64 = 0x1234_5678;
}

/// A kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hand {
    /// Copies both ways between memory and a buffer of 4 KiB, in 100 ms.
    Edu,
    /// Writes one word at once (QEMU 11.1).
    Testdev,
}

impl Hand {
    /// As `-device` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Edu => "edu",
            Self::Testdev => "iommu-testdev",
        }
    }

    /// `-device`'s argument for one in `slot`.
    #[must_use]
    pub fn argument(self, slot: usize) -> String {
        let place = format!("{},addr={:#x}", self.name(), slot + 1);
        match self {
            Self::Edu => format!("{place},dma_mask={:#x}", u64::MAX),
            Self::Testdev => place,
        }
    }

    /// Vendor and device, as they lie in configuration space.
    #[must_use]
    pub const fn identity(self) -> u64 {
        match self {
            Self::Edu => 0x11e8_1234,
            Self::Testdev => 0x0005_1b36,
        }
    }

    /// Whether it can read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Edu)
    }

    /// What `before` in memory becomes when it writes the doubleword `word` of its buffer there.
    #[must_use]
    pub const fn becomes(self, before: u64, word: u64) -> u64 {
        match self {
            Self::Edu => word,
            Self::Testdev => before & !0xffff_ffff | testdev::WORD,
        }
    }

    /// What the device with registers at `bar` is told.
    pub(crate) fn orders(self, bar: u64, transfer: &Transfer) -> Vec<String> {
        let write = |(register, value): (u64, u64)| {
            let width = if self == Self::Edu { 'q' } else { 'l' };
            format!("write{width} {:#x} {value:#x}", bar + register)
        };
        let Transfer { address, .. } = *transfer;
        match self {
            Self::Edu => {
                let inside = edu::BUFFER + transfer.word as u64 * 8;
                let (source, destination, way) = match transfer.way {
                    Way::Read => (address, inside, 0),
                    Way::Write => (inside, address, edu::TO_MEMORY),
                };
                let count = transfer.words as u64 * 8;
                [
                    (edu::SOURCE, source),
                    (edu::DESTINATION, destination),
                    (edu::COUNT, count),
                    (edu::COMMAND, edu::RUN | way),
                ]
                .map(write)
                .into()
            }
            Self::Testdev => {
                // It looks there what has arrived; we look everywhere.
                let checked = place::slice(transfer.slot);
                let mut orders: Vec<String> = [
                    (testdev::ADDRESS, address & 0xffff_ffff),
                    (testdev::ADDRESS + 4, address >> 32),
                    (testdev::CHECKED, checked & 0xffff_ffff),
                    (testdev::CHECKED + 4, checked >> 32),
                    (testdev::LENGTH, 4),
                    (testdev::ATTRIBUTES, testdev::NON_SECURE),
                    (testdev::DOORBELL, 1),
                ]
                .map(write)
                .into();
                orders.push(format!("readl {:#x}", bar + testdev::TRIGGER));
                orders
            }
        }
    }

    /// The request whose answer tells whether it still copies.
    pub(crate) fn status(self, bar: u64) -> String {
        match self {
            Self::Edu => format!("readq {:#x}", bar + edu::COMMAND),
            Self::Testdev => format!("readl {:#x}", bar + testdev::RESULT),
        }
    }

    /// Whether the answer says so.
    pub(crate) const fn copies(self, status: u64) -> bool {
        match self {
            Self::Edu => status & edu::RUN != 0,
            Self::Testdev => status == testdev::BUSY,
        }
    }
}
