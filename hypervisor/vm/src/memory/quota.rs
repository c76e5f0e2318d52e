//! How many frames the tables of a VM may come to take, whatever its guest does.
//!
//! They are set aside when the VM is built: a guest that gives up one page in each 2 MiB, or that
//! moves its BARs about, uses up its own frames and nobody else's, and never finds them missing.
//! A table has 512 entries of 8 bytes; the IPA space of 39 bits begins at level 1 (DDI 0487, D8.2).

use palisade_bundle::MAX_DEVICES;

use crate::layout;

/// Bytes that a table of level 3 maps, and one of level 2.
const LEVEL3: u64 = 1 << 21;
const LEVEL2: u64 = 1 << 30;
/// The CPU view and the DMA view.
const VIEWS: u64 = 2;
/// BARs of a function.
const BARS: u64 = 6;
/// Tables of one BAR: it is as aligned as it is long, so one of level 2 and one of level 3.
const PER_BAR: u64 = 2;
/// Streams of one device whose context tables are shown in the DMA view, aliases included, before
/// its real number is known.
const STREAMS: u64 = 8;
/// Bytes of a context table, the longest that a guest can ask for: 2^10 descriptors.
const CONTEXTS: u64 = 1 << 16;

/// Tables for everything but RAM: the roots, BARs, the registers of devices by path, the doorbell
/// and context tables.
pub const DEVICES: u64 = VIEWS
    + MAX_DEVICES as u64 * BARS * PER_BAR
    + of_range(layout::PLAIN_BYTES)
    + of_range(4096)
    + of_contexts(MAX_DEVICES as u64 * STREAMS);

/// Tables for the context tables of `streams` streams.
pub const fn of_contexts(streams: u64) -> u64 {
    of_range(streams.saturating_mul(CONTEXTS))
}

/// What [`DEVICES`] has of those.
pub const CONTEXTS_KNOWN: u64 = of_contexts(MAX_DEVICES as u64 * STREAMS);

/// Tables for `bytes` bytes of RAM of which every page is mapped by itself, in both views.
pub const fn of_ram(bytes: u64) -> u64 {
    VIEWS * of_range(bytes)
}

/// The same for one view; the range may begin and end anywhere.
const fn of_range(bytes: u64) -> u64 {
    bytes.div_ceil(LEVEL3) + 1 + bytes.div_ceil(LEVEL2) + 1
}
