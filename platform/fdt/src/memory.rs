//! `/memory`.

use arrayvec::ArrayVec;
use palisade_board::{MAX_MEMORY, Part, Range};

use crate::error::Error;
use crate::notes::Notes;
use crate::tree::{Node, Tree, Visit};

/// Ranges of RAM in ascending order.
type Ranges = ArrayVec<Range, MAX_MEMORY>;

/// RAM, sorted; what touches or overlaps is one range. A node that cannot be read is left out: RAM
/// that is not known is not used.
///
/// # Errors
/// There is none.
pub(crate) fn ranges<'a>(tree: &Tree<'a>, notes: &mut Notes<'a>) -> Result<Ranges, Error<'a>> {
    let mut ranges = Ranges::new();
    tree.visit(&mut |node| {
        if node.depth() == 0 {
            return Ok(Visit::Children);
        }
        let is_memory = node.texts("device_type").any(|kind| kind == "memory");
        if is_memory && node.enabled() {
            let read = node.registers(&mut |range| {
                add(&mut ranges, range, node, notes);
                Ok(())
            });
            notes.keep(node, Part::Memory, read);
        }
        Ok(Visit::Skip)
    })?;
    if ranges.is_empty() { Err(Error::Missing("memory")) } else { Ok(ranges) }
}

/// Adds a range; where there is no room the smallest is left out.
fn add<'a>(ranges: &mut Ranges, new: Range, node: &Node<'_, 'a>, notes: &mut Notes<'a>) {
    let (mut start, mut end) = (new.start(), new.end());
    ranges.retain(|old| {
        let apart = old.end() < start || end < old.start();
        if !apart {
            (start, end) = (start.min(old.start()), end.max(old.end()));
        }
        apart
    });
    let new = Range::new(start, end.saturating_sub(start)).unwrap_or(new);
    if ranges.is_full() {
        notes.too_many(node, Part::Memory, MAX_MEMORY);
        let sizes = ranges.iter().map(Range::size).enumerate();
        match sizes.min_by_key(|(_, size)| *size) {
            Some((index, size)) if size < new.size() => drop(ranges.pop_at(index)),
            _ => return,
        }
    }
    let at = ranges.partition_point(|other| other.start() <= new.start());
    ranges.insert(at.min(ranges.len()), new);
}
