//! RAM as UEFI's memory map gives it (UEFI 2.10, section 7.2.3); ACPI says nothing about it.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_board::{MAX_MEMORY, Part, Range, Reservation};

use crate::notes::Notes;

/// A descriptor of the memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EfiMemory {
    /// `EFI_MEMORY_TYPE`.
    pub kind: u32,
    /// First address.
    pub start: u64,
    /// Pages of 4 KiB.
    pub pages: u64,
    /// `EFI_MEMORY_…` attributes.
    pub attributes: u64,
}

/// `EFI_MEMORY_WB`: it can be mapped write-back; `EFI_MEMORY_SP`: it is meant for something
/// special.
const WRITE_BACK: u64 = 0x8;
const SPECIAL: u64 = 0x4_0000;

/// The RAM of a descriptor, if it is free once boot services have ended: the loader's and the
/// boot services' own and what is in nobody's use (table 7.6). Tables that firmware asks to be
/// kept, its runtime services' memory and whatever has another type are not.
pub fn usable(descriptor: &EfiMemory) -> Option<Range> {
    const LOADER_CODE: u32 = 1;
    const BOOT_SERVICES_DATA: u32 = 4;
    const CONVENTIONAL: u32 = 7;
    let free = matches!(descriptor.kind, LOADER_CODE..=BOOT_SERVICES_DATA | CONVENTIONAL);
    let fit = descriptor.attributes & WRITE_BACK != 0 && descriptor.attributes & SPECIAL == 0;
    let size = descriptor.pages.checked_mul(4096)?;
    Range::new(descriptor.start, size).filter(|_| free && fit)
}

/// RAM, sorted; what touches or overlaps is one range. Where more than are kept are left, the
/// smallest go, with a note.
pub(crate) fn ram(given: &[Range], notes: &mut Notes) -> ArrayVec<Range, MAX_MEMORY> {
    let mut sorted = given.to_vec();
    sorted.sort_unstable_by_key(Range::start);
    let mut joined: Vec<Range> = Vec::new();
    for new in sorted {
        match joined.last_mut().filter(|last| new.start() <= last.end()) {
            Some(last) => {
                let end = last.end().max(new.end());
                let size = end.saturating_sub(last.start());
                *last = Range::new(last.start(), size).unwrap_or(*last);
            }
            None => joined.push(new),
        }
    }
    if joined.len() > MAX_MEMORY {
        notes.too_many("UEFI memory map", Part::Memory, MAX_MEMORY);
        joined.sort_unstable_by_key(|range| core::cmp::Reverse(range.size()));
        joined.truncate(MAX_MEMORY);
        joined.sort_unstable_by_key(Range::start);
    }
    joined.into_iter().take(MAX_MEMORY).collect()
}

/// Adds a reservation in its place; `false` where there is no room for it.
pub(crate) fn reserve<const N: usize>(
    reserved: &mut ArrayVec<Reservation, N>,
    new: Reservation,
) -> bool {
    let at = reserved.partition_point(|other| other.range.start() <= new.range.start());
    reserved.try_insert(at.min(reserved.len()), new).is_ok()
}
