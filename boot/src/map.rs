//! The hypervisor's identity map (VA = PA): 4K granule, 48 bits, four levels.
//!
//! Entries only ever go from invalid to valid, and what is mapped first stays
//! as it is: the image's sections come first, so that no later request (all of
//! RAM, say) can make text writable or fill a guard page.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::machine::{MAX_CPUS, MachineError, MapKind};

use crate::area::guards;
use crate::image::Image;

const PAGE: u64 = 4096;
/// Table pages for the whole map. RAM takes blocks, so that a few do.
const POOL: usize = 48;
/// Entries of one table.
const ENTRIES: u64 = 512;
/// One past the highest address that the map can hold.
const TOP: u64 = 1 << 48;

/// Descriptor bits (D8.3): valid, table or page, AF, inner shareable, read
/// only, XN. AP\[1\] is RES1 at EL2.
mod bits {
    pub const VALID: u64 = 1;
    pub const TABLE: u64 = 1 << 1;
    pub const NORMAL: u64 = 1 << 2;
    pub const AP1: u64 = 1 << 6;
    pub const READ_ONLY: u64 = 1 << 7;
    pub const INNER: u64 = 0b11 << 8;
    pub const AF: u64 = 1 << 10;
    pub const XN: u64 = 1 << 54;
    pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

fn attributes(kind: MapKind) -> u64 {
    let common = bits::VALID | bits::AP1 | bits::AF;
    match kind {
        MapKind::Text => common | bits::NORMAL | bits::INNER | bits::READ_ONLY,
        MapKind::ReadOnly => common | bits::NORMAL | bits::INNER | bits::READ_ONLY | bits::XN,
        MapKind::Data => common | bits::NORMAL | bits::INNER | bits::XN,
        MapKind::Device => common | bits::XN,
    }
}

#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES as usize]);

// In BSS, so that a fresh table has only invalid entries. Table 0 is the root.
#[unsafe(link_section = ".bss_pages")]
static TABLES: [Table; POOL] =
    [const { Table([const { AtomicU64::new(0) }; ENTRIES as usize]) }; POOL];
/// Tables handed out. Plain loads and stores only: used with the MMU off,
/// where exclusives need not work, and later by the one `Map`.
static USED: AtomicU64 = AtomicU64::new(0);

fn fresh() -> Option<&'static Table> {
    let used = USED.load(Ordering::Relaxed);
    let table = TABLES.get(used as usize)?;
    USED.store(used + 1, Ordering::Relaxed);
    Some(table)
}

/// The table that `entry` points at, which came from the pool.
fn below(entry: u64) -> Option<&'static Table> {
    let first = (&raw const TABLES) as u64;
    let index = (entry & bits::ADDRESS).checked_sub(first)? / PAGE;
    TABLES.get(index as usize)
}

/// Maps `range`, whole pages, with the largest blocks that fit; leaves what is
/// mapped already, and the guard pages, alone.
fn map(range: Range<u64>, kind: MapKind) -> Result<(), MachineError> {
    let mut at = range.start & !(PAGE - 1);
    let end = range.end.checked_add(PAGE - 1).ok_or(MachineError::Range(range.end))? & !(PAGE - 1);
    if at >= end || end > TOP {
        return Err(MachineError::Range(range.start));
    }
    while at < end {
        let mut table = &TABLES[0];
        let mut level = 0;
        at += loop {
            let shift = 39 - 9 * level;
            let size = 1u64 << shift;
            let entry = &table.0[(at >> shift) as usize % ENTRIES as usize];
            let old = entry.load(Ordering::Relaxed);
            let leaf = level == 3 || (level > 0 && old & bits::TABLE == 0);
            if old & bits::VALID != 0 && leaf {
                break size - at % size;
            }
            let fits = at.is_multiple_of(size) && end - at >= size;
            if old == 0 && level > 0 && fits {
                let page = if level == 3 { bits::TABLE } else { 0 };
                entry.store(at | attributes(kind) | page, Ordering::Relaxed);
                break size;
            }
            if old == 0 {
                let next = fresh().ok_or(MachineError::NoTables(at))?;
                let address = (&raw const *next) as u64;
                entry.store(address | bits::TABLE | bits::VALID, Ordering::Release);
                table = next;
            } else {
                table = below(old).ok_or(MachineError::NoTables(at))?;
            }
            level += 1;
        };
    }
    Ok(())
}

/// Maps the image section by section, and the device tree read only. Runs once,
/// with the MMU off. Answers the root's address.
pub(crate) fn build(dtb: u64) -> Option<u64> {
    let root = fresh()?;
    let image = Image;
    map(image.text(), MapKind::Text).ok()?;
    map(image.rodata(), MapKind::ReadOnly).ok()?;
    map(image.data(), MapKind::Data).ok()?;
    let mut at = image.stacks().start;
    for cpu in 0..MAX_CPUS {
        for guard in guards(cpu) {
            if at < guard {
                map(at..guard, MapKind::Data).ok()?;
            }
            at = guard + PAGE;
        }
    }
    map(at..image.stacks().end, MapKind::Data).ok()?;
    if let Some(size) = tree_size(dtb) {
        map(dtb..dtb.checked_add(size)?, MapKind::ReadOnly).ok()?;
    }
    Some((&raw const *root) as u64)
}

/// The size that a device tree claims in its header, in bytes, within the
/// 2 MiB that the boot protocol allows; `None` when there is no tree.
pub(crate) fn tree_size(dtb: u64) -> Option<u64> {
    const MAGIC: u32 = 0xd00d_feed;
    const MOST: u64 = 2 << 20;
    if dtb == 0 || !dtb.is_multiple_of(8) || dtb >= TOP {
        return None;
    }
    let header = dtb as *const u32;
    // SAFETY: the boot protocol says that the tree is at this address, in RAM,
    // and the address is aligned; two words are read.
    let (magic, size) = unsafe { (header.read_volatile(), header.add(1).read_volatile()) };
    let size = u64::from(u32::from_be(size));
    (u32::from_be(magic) == MAGIC && (40..=MOST).contains(&size)).then_some(size)
}

/// Adds to the hypervisor's map, whole pages, VA = PA. What is mapped already
/// keeps its kind; the image with its guard pages is left out. Calls must not
/// overlap in time.
///
/// # Errors
/// [`MachineError`]: the range is no range of addresses, or the tables are used up.
pub(crate) fn add(range: Range<u64>, kind: MapKind) -> Result<(), MachineError> {
    let image = Image.whole();
    if range.start >= range.end {
        return Err(MachineError::Range(range.start));
    }
    let before = range.start..range.end.min(image.start);
    let after = range.start.max(image.end)..range.end;
    for part in [before, after] {
        if part.start < part.end {
            map(part, kind)?;
        }
    }
    // SAFETY: makes the new entries visible to the walkers; no entry was valid
    // before, so nothing is cached.
    unsafe { asm!("dsb ishst", "isb", options(nostack)) };
    Ok(())
}
