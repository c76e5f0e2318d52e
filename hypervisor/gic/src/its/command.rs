//! ITS commands: 32 bytes each (IHI 0069, 5.13). Pure encoding and decoding.

use thiserror::Error;

/// One command of the ITS queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Moves an event to another collection (5.13.9).
    Movi {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
        /// Collection.
        collection: u16,
    },
    /// Makes an event's interrupt pending (5.13.5).
    Int {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
    },
    /// Clears an event's pending state (5.13.3).
    Clear {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
    },
    /// Waits for the effects of earlier commands at a redistributor (5.13.15).
    Sync {
        /// RDbase in units of 64 KiB: an address, or a processor number.
        target: u64,
    },
    /// Maps or unmaps a device's table of events (5.13.11).
    Mapd {
        /// DeviceID.
        device: u32,
        /// Bits of an EventID, 1 to 32.
        event_bits: u8,
        /// Address of the interrupt translation table, a multiple of 256.
        table: u64,
        /// Map, or unmap.
        valid: bool,
    },
    /// Maps or unmaps a collection to a redistributor (5.13.10).
    Mapc {
        /// Collection.
        collection: u16,
        /// RDbase in units of 64 KiB.
        target: u64,
        /// Map, or unmap.
        valid: bool,
    },
    /// Maps an event to an interrupt and a collection (5.13.13).
    Mapti {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
        /// INTID of the LPI.
        intid: u32,
        /// Collection.
        collection: u16,
    },
    /// Maps an event to the interrupt of the same number (5.13.12).
    Mapi {
        /// DeviceID.
        device: u32,
        /// EventID, and INTID.
        event: u32,
        /// Collection.
        collection: u16,
    },
    /// Reads the configuration of an event's interrupt anew (5.13.6).
    Inv {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
    },
    /// Reads the configuration of a collection's interrupts anew (5.13.7).
    Invall {
        /// Collection.
        collection: u16,
    },
    /// Moves every pending interrupt from one redistributor to another (5.13.8).
    Movall {
        /// From: RDbase in units of 64 KiB.
        from: u64,
        /// To: RDbase in units of 64 KiB.
        to: u64,
    },
    /// Unmaps an event and drops its pending state (5.13.4).
    Discard {
        /// DeviceID.
        device: u32,
        /// EventID.
        event: u32,
    },
}

/// A command number that the manual does not define for physical LPIs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("ITS command {0:#04x} is unknown")]
pub struct CommandError(pub u8);

const VALID: u64 = 1 << 63;
/// RDbase: bits 51:16 of its doubleword.
const TARGET: u64 = 0xf_ffff_ffff << 16;

impl Command {
    /// The command number: bits 7:0 of doubleword 0.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Movi { .. } => 0x01,
            Self::Int { .. } => 0x03,
            Self::Clear { .. } => 0x04,
            Self::Sync { .. } => 0x05,
            Self::Mapd { .. } => 0x08,
            Self::Mapc { .. } => 0x09,
            Self::Mapti { .. } => 0x0a,
            Self::Mapi { .. } => 0x0b,
            Self::Inv { .. } => 0x0c,
            Self::Invall { .. } => 0x0d,
            Self::Movall { .. } => 0x0e,
            Self::Discard { .. } => 0x0f,
        }
    }

    /// The four doublewords.
    pub const fn encode(&self) -> [u64; 4] {
        let number = self.number() as u64;
        match *self {
            Self::Movi { device, event, collection } | Self::Mapi { device, event, collection } => {
                [number | (device as u64) << 32, event as u64, collection as u64, 0]
            }
            Self::Int { device, event }
            | Self::Clear { device, event }
            | Self::Inv { device, event }
            | Self::Discard { device, event } => {
                [number | (device as u64) << 32, event as u64, 0, 0]
            }
            Self::Sync { target } => [number, 0, target << 16 & TARGET, 0],
            Self::Mapd { device, event_bits, table, valid } => [
                number | (device as u64) << 32,
                (event_bits as u64).wrapping_sub(1) & 0x1f,
                table & 0xf_ffff_ffff_ff00 | if valid { VALID } else { 0 },
                0,
            ],
            Self::Mapc { collection, target, valid } => [
                number,
                0,
                collection as u64 | target << 16 & TARGET | if valid { VALID } else { 0 },
                0,
            ],
            Self::Mapti { device, event, intid, collection } => [
                number | (device as u64) << 32,
                event as u64 | (intid as u64) << 32,
                collection as u64,
                0,
            ],
            Self::Invall { collection } => [number, 0, collection as u64, 0],
            Self::Movall { from, to } => [number, 0, from << 16 & TARGET, to << 16 & TARGET],
        }
    }

    /// The command in these doublewords; fields the manual reserves are ignored.
    ///
    /// # Errors
    /// [`CommandError`] for a number that is not a physical-LPI command.
    pub const fn decode(words: [u64; 4]) -> Result<Self, CommandError> {
        let device = (words[0] >> 32) as u32;
        let event = words[1] as u32;
        let collection = words[2] as u16;
        let target = (words[2] & TARGET) >> 16;
        let valid = words[2] & VALID != 0;
        Ok(match words[0] as u8 {
            0x01 => Self::Movi { device, event, collection },
            0x03 => Self::Int { device, event },
            0x04 => Self::Clear { device, event },
            0x05 => Self::Sync { target },
            0x08 => Self::Mapd {
                device,
                event_bits: (words[1] & 0x1f) as u8 + 1,
                table: words[2] & 0xf_ffff_ffff_ff00,
                valid,
            },
            0x09 => Self::Mapc { collection, target, valid },
            0x0a => Self::Mapti { device, event, intid: (words[1] >> 32) as u32, collection },
            0x0b => Self::Mapi { device, event, collection },
            0x0c => Self::Inv { device, event },
            0x0d => Self::Invall { collection },
            0x0e => Self::Movall { from: target, to: (words[3] & TARGET) >> 16 },
            0x0f => Self::Discard { device, event },
            number => return Err(CommandError(number)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden words, one per command, from the field tables of 5.13.
    #[test]
    fn encodings_are_golden() {
        let (device, event, collection) = (0x0102_0304, 0x15, 3);
        let rows = [
            (Command::Movi { device, event, collection }, [0x0102_0304_0000_0001, 0x15, 3, 0]),
            (Command::Int { device, event }, [0x0102_0304_0000_0003, 0x15, 0, 0]),
            (Command::Clear { device, event }, [0x0102_0304_0000_0004, 0x15, 0, 0]),
            (Command::Sync { target: 2 }, [5, 0, 0x2_0000, 0]),
            (
                Command::Mapd { device, event_bits: 5, table: 0x8000_0100, valid: true },
                [0x0102_0304_0000_0008, 4, 0x8000_0000_8000_0100, 0],
            ),
            (
                Command::Mapc { collection, target: 1, valid: true },
                [9, 0, 0x8000_0000_0001_0003, 0],
            ),
            (
                Command::Mapti { device, event, intid: 8192, collection },
                [0x0102_0304_0000_000a, 0x2000_0000_0015, 3, 0],
            ),
            (Command::Mapi { device, event, collection }, [0x0102_0304_0000_000b, 0x15, 3, 0]),
            (Command::Inv { device, event }, [0x0102_0304_0000_000c, 0x15, 0, 0]),
            (Command::Invall { collection }, [0xd, 0, 3, 0]),
            (Command::Movall { from: 1, to: 2 }, [0xe, 0, 0x1_0000, 0x2_0000]),
            (Command::Discard { device, event }, [0x0102_0304_0000_000f, 0x15, 0, 0]),
        ];
        for (command, words) in rows {
            assert_eq!(command.encode(), words, "{command:?}");
            assert_eq!(Command::decode(words), Ok(command));
        }
        assert_eq!(Command::decode([0x21, 0, 0, 0]), Err(CommandError(0x21)));
    }

    #[test]
    fn reserved_bits_are_ignored_and_never_leave() {
        let words = [!0 << 8 | 0x09, !0, !0, !0];
        let command = Command::decode(words).unwrap();
        let [_, one, two, three] = command.encode();
        assert_eq!((one, three), (0, 0));
        assert_eq!(two & !(VALID | TARGET | 0xffff), 0);
    }
}
