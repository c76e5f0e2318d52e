//! VMSAv8-64 descriptors (DDI 0487, D8.3): what one word says at one level.

use crate::bits::{bit, field, mask, ones};
use crate::tlb::Rights;

/// A decoded descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Invalid,
    Table { next: u64 },
    Leaf { output: u64, shift: u32 },
}

/// log2 of the bytes that one descriptor at `level` maps.
pub(crate) const fn shift(granule: u32, level: u32) -> u32 {
    granule + (granule - 3) * (3 - level)
}

/// Reads `word` as a descriptor of `level`.
pub(crate) fn decode(word: u64, granule: u32, level: u32) -> Descriptor {
    if !bit(word, 0) {
        return Descriptor::Invalid;
    }
    let shift = shift(granule, level);
    if level == 3 {
        if !bit(word, 1) {
            return Descriptor::Invalid;
        }
        return Descriptor::Leaf { output: word & mask(47, shift), shift };
    }
    if bit(word, 1) {
        return Descriptor::Table { next: word & mask(47, granule) };
    }
    // Blocks: levels 1 and 2 of 4 KiB tables, level 2 of the others (without 52-bit addresses).
    let block = if granule == 12 { level == 1 || level == 2 } else { level == 2 };
    if !block {
        return Descriptor::Invalid;
    }
    Descriptor::Leaf { output: word & mask(47, shift), shift }
}

/// The reserved bits of a valid descriptor, without 52-bit addresses, that are set.
pub(crate) fn reserved(word: u64, granule: u32, decoded: Descriptor) -> u64 {
    let between = |top: u32| ones(top) & !ones(12);
    match decoded {
        Descriptor::Invalid => 0,
        Descriptor::Table { .. } => word & (mask(50, 48) | between(granule)),
        // nT is bit 16 of a block.
        Descriptor::Leaf { shift, .. } if shift > granule => {
            word & (mask(49, 48) | between(shift) & !(1 << 16))
        }
        Descriptor::Leaf { .. } => word & (mask(49, 48) | between(granule)),
    }
}

/// How many neighbouring descriptors the Contiguous bit joins.
pub(crate) fn contiguous_count(granule: u32, level: u32) -> u64 {
    match (granule, level) {
        (12, _) => 16,
        (14, 3) => 128,
        _ => 32,
    }
}

/// What table descriptors above take away: APTable, UXNTable, PXNTable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub no_unprivileged: bool,
    pub no_write: bool,
    pub no_execute: bool,
    pub no_privileged_execute: bool,
}

impl Hierarchy {
    /// With what the table descriptor `word` takes away as well.
    pub fn with(self, word: u64) -> Self {
        Hierarchy {
            no_unprivileged: self.no_unprivileged || bit(word, 61),
            no_write: self.no_write || bit(word, 62),
            no_execute: self.no_execute || bit(word, 60),
            no_privileged_execute: self.no_privileged_execute || bit(word, 59),
        }
    }
}

/// What a stage 1 leaf allows (D8.4); `el2` for the single-privilege regime.
pub(crate) fn stage1_rights(
    word: u64,
    above: Hierarchy,
    el2: bool,
    update_dirty: bool,
    write_execute_never: bool,
    privileged_access_never: bool,
) -> Rights {
    let read_only = bit(word, 7) || above.no_write;
    let dirty_clean = update_dirty && bit(word, 51) && bit(word, 7) && !above.no_write;
    let write = !read_only;
    let unprivileged = bit(word, 6) && !above.no_unprivileged;
    if el2 {
        let never = bit(word, 54) || above.no_execute || write_execute_never && write;
        let execute = !never;
        return Rights {
            read: true,
            write,
            execute,
            privileged_read: true,
            privileged_write: write,
            privileged_execute: execute,
            write_when_dirty: dirty_clean,
        };
    }
    let user_write = unprivileged && write;
    let never = bit(word, 54) || above.no_execute || write_execute_never && user_write;
    let privileged_never =
        bit(word, 53) || above.no_privileged_execute || user_write || write_execute_never && write;
    let privileged_data = !(privileged_access_never && unprivileged);
    Rights {
        read: unprivileged,
        write: user_write,
        execute: !never,
        privileged_read: privileged_data,
        privileged_write: write && privileged_data,
        privileged_execute: !privileged_never,
        write_when_dirty: dirty_clean,
    }
}

/// What a stage 2 leaf allows (D8.4.2): S2AP and XN[1:0].
pub(crate) fn stage2_rights(word: u64, update_dirty: bool) -> Rights {
    let (read, write) = (bit(word, 6), bit(word, 7));
    let (execute, privileged_execute) = match field(word, 54, 53) {
        0 => (true, true),
        1 => (true, false),
        2 => (false, false),
        _ => (false, true),
    };
    Rights {
        read,
        write,
        execute,
        privileged_read: read,
        privileged_write: write,
        privileged_execute,
        write_when_dirty: update_dirty && bit(word, 51) && !write,
    }
}
