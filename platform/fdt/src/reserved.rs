//! What must not be used of the RAM: the reservation block and `/reserved-memory`.

use arrayvec::ArrayVec;
use palisade_board::{MAX_RESERVED, Range, Reservation};

use crate::error::Error;
use crate::tree::{Tree, Visit};

/// Reservations in ascending order.
type Reserved = ArrayVec<Reservation, MAX_RESERVED>;

/// Everything the tree reserves. Reservations without an address are requests to an operating
/// system and none of ours.
///
/// # Errors
/// One of them cannot be read: what it keeps is unknown then.
pub(crate) fn reservations<'a>(tree: &Tree<'a>) -> Result<Reserved, Error<'a>> {
    let mut reserved = Reserved::new();
    for entry in tree.fdt().memory_reservations() {
        let (start, size) = (entry.address() as u64, entry.size() as u64);
        // One that would end beyond 64 bits keeps everything above its start.
        if let Some(range) = Range::new(start, size.min(u64::MAX.wrapping_sub(start))) {
            add(&mut reserved, Reservation { range, no_map: false });
        }
    }
    tree.visit(&mut |node| {
        if node.depth() == 0 || (node.depth() == 1 && node.name() == "reserved-memory") {
            return Ok(Visit::Children);
        }
        if node.parent_name() == "reserved-memory" && node.enabled() {
            let no_map = node.property("no-map").is_some();
            node.registers(&mut |range| {
                add(&mut reserved, Reservation { range, no_map });
                Ok(())
            })?;
        }
        Ok(Visit::Skip)
    })?;
    Ok(reserved)
}

/// Adds a reservation. None is ever lost: where there are too many, the two with the least memory
/// between them become one that covers both.
fn add(reserved: &mut Reserved, new: Reservation) {
    if reserved.is_full() {
        join_nearest(reserved);
    }
    let at = reserved.partition_point(|other| other.range.start() <= new.range.start());
    // There is room for one: joining made it.
    reserved.insert(at.min(reserved.len()), new);
}

/// Makes one of the two neighbours that are closest to each other.
fn join_nearest(reserved: &mut Reserved) {
    // Ascending by start, so that a pair's first may still end beyond its second.
    let gap = |pair: &[Reservation]| match pair {
        [low, high] => high.range.start().saturating_sub(low.range.end()),
        _ => u64::MAX,
    };
    let gaps = reserved.windows(2).map(gap).enumerate();
    let Some((first, _)) = gaps.min_by_key(|(_, gap)| *gap) else { return };
    let Some(high) = reserved.pop_at(first.saturating_add(1)) else { return };
    if let Some(low) = reserved.get_mut(first) {
        let end = low.range.end().max(high.range.end());
        let size = end.saturating_sub(low.range.start());
        low.range = Range::new(low.range.start(), size).unwrap_or(low.range);
        low.no_map |= high.no_map;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, size: u64) -> Reservation {
        Reservation { range: Range::new(start, size).expect("range"), no_map: false }
    }

    #[test]
    fn more_than_fit_are_all_still_covered() {
        let mut reserved = Reserved::new();
        // Backwards, with gaps of different sizes, and one that encloses others.
        let all: ArrayVec<Reservation, 512> =
            (0..400u64).rev().map(|n| range(n * 0x10_0000 + (n % 7) * 0x1000, 0x2000)).collect();
        all.iter().for_each(|one| add(&mut reserved, *one));
        add(&mut reserved, Reservation { no_map: true, ..range(0x100_0000, 0x400_0000) });
        assert!(reserved.len() <= MAX_RESERVED);
        for one in &all {
            assert!(reserved.iter().any(|kept| kept.range.encloses(&one.range)), "{one:?}");
        }
        let wide = range(0x100_0000, 0x400_0000).range;
        assert!(reserved.iter().any(|kept| kept.no_map && kept.range.encloses(&wide)));
    }
}
