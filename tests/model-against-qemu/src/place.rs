//! Where everything lies in memory.

use std::ops::Range;

/// RAM. Outside of it nothing answers.
pub const RAM: Range<u64> = 0x4000_0000..0x6000_0000;
/// Where the one CPU sleeps.
pub const PARK: u64 = 0x5000_0000;
/// Within every output size that is used, and nothing answers there.
pub const HOLE: u64 = 0x2_0000_0000;

/// Linear stream table, or second level of one.
pub const STREAMS: u64 = 0x4700_0000;
/// First level of a two-level stream table.
pub const STREAMS_FIRST: u64 = 0x4710_0000;
/// Command queue.
pub const COMMANDS: u64 = 0x4720_0000;
/// Event queue.
pub const EVENTS: u64 = 0x4730_0000;

/// How many devices there are: functions 0 of the devices 1 to 30 of bus 0.
pub const SLOTS: usize = 30;

/// The StreamID of the device in `slot`.
pub const fn stream(slot: usize) -> u32 {
    (slot as u32 + 1) << 3
}

/// Where the STE of `stream` lies, linear table or not.
pub const fn ste(stream: u32) -> u64 {
    STREAMS + stream as u64 * 64
}

/// The part of memory that belongs to one device.
pub const SLICE: u64 = 4 << 20;

/// Where the slice of `slot` begins.
pub const fn slice(slot: usize) -> u64 {
    0x4800_0000 + slot as u64 * SLICE
}

/// What transactions are to reach: this many bytes at the beginning of a slice.
pub const TARGETS: u64 = 256 << 10;
/// What a device's buffer is filled from, at this offset of a slice.
pub const PATTERN: u64 = TARGETS;
/// What it is emptied into.
pub const RESULT: u64 = TARGETS + 0x1000;
/// Context descriptors.
pub const CONTEXTS: u64 = TARGETS + 0x1_0000;
/// Page tables, up to the end of the slice.
pub const TABLES: u64 = 2 * TARGETS;

/// The word that lies at `pa` among the targets.
pub const fn token(pa: u64) -> u64 {
    0x7a11_0000_0000_0000 | pa
}
