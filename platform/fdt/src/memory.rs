//! `/memory`, the reservation block and `/reserved-memory`.

use arrayvec::ArrayVec;
use palisade_board::{MAX_MEMORY, MAX_RESERVED, Range, Reservation};

use crate::error::Error;
use crate::tree::{Tree, Visit};

/// RAM, sorted and free of overlaps.
pub(crate) fn ranges<'a>(tree: &Tree<'a>) -> Result<ArrayVec<Range, MAX_MEMORY>, Error<'a>> {
    let mut ranges = ArrayVec::<Range, MAX_MEMORY>::new();
    tree.visit(&mut |node| {
        if node.depth() == 0 {
            return Ok(Visit::Children);
        }
        let is_memory = node.texts("device_type").any(|kind| kind == "memory");
        if is_memory && node.enabled() {
            node.registers(&mut |range| {
                let at = ranges.partition_point(|other| other.start() <= range.start());
                ranges.try_insert(at, range).map_err(|_| node.too_many("memory ranges"))
            })?;
        }
        Ok(Visit::Skip)
    })?;
    if ranges.is_empty() {
        return Err(Error::Missing("memory"));
    }
    for pair in ranges.windows(2) {
        if let [low, high] = pair
            && low.overlaps(high)
        {
            return Err(Error::MemoryOverlap(high.start()));
        }
    }
    Ok(ranges)
}

/// Everything the tree reserves. Reservations without an address are requests
/// to an operating system and none of ours.
pub(crate) fn reservations<'a>(
    tree: &Tree<'a>,
) -> Result<ArrayVec<Reservation, MAX_RESERVED>, Error<'a>> {
    let mut reserved = ArrayVec::<Reservation, MAX_RESERVED>::new();
    let Some(root) = tree.node("/") else { return Ok(reserved) };
    for entry in tree.fdt().memory_reservations() {
        if let Some(range) = Range::new(entry.address() as u64, entry.size() as u64) {
            let reservation = Reservation { range, no_map: false };
            reserved.try_push(reservation).map_err(|_| root.too_many("reservations"))?;
        }
    }
    tree.visit(&mut |node| {
        if node.depth() == 0 || (node.depth() == 1 && node.name() == "reserved-memory") {
            return Ok(Visit::Children);
        }
        if node.parent_name() == "reserved-memory" && node.enabled() {
            let no_map = node.property("no-map").is_some();
            node.registers(&mut |range| {
                reserved
                    .try_push(Reservation { range, no_map })
                    .map_err(|_| node.too_many("reservations"))
            })?;
        }
        Ok(Visit::Skip)
    })?;
    Ok(reserved)
}
