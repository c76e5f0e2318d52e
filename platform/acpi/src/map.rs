//! ID mappings made usable: counts as they are meant, no two that contradict each other, and the
//! way through an SMMU to an ITS as one step.

use alloc::vec::Vec;

use palisade_board::{IdMap, IdMapEntry, MAX_ID_MAP, Part, Problem};

use crate::error::Signature;
use crate::iort::{Node, NodeKind};
use crate::notes::Notes;

/// A mapping whose length is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    pub(crate) input: u32,
    pub(crate) length: u32,
    pub(crate) output: u32,
    pub(crate) to: u32,
}

impl Line {
    /// One past the last ID that comes in.
    const fn end(&self) -> u64 {
        self.input as u64 + self.length as u64
    }
}

/// What requester IDs there are: 16 bits.
const REQUESTERS: u64 = 1 << 16;

/// The mappings of a node in ascending order, without those that contradict each other. `part` is
/// what goes without these.
///
/// Old firmware counts N where the specification says N − 1 (DEN0049, table 5, "number of IDs
/// minus one"). Taken literally such a mapping is one ID too long, and a function that no SMMU
/// sees would count as confined. Two things give it away: its last ID is the first of the next
/// mapping; or, of a root complex, whose IDs come in devices of eight functions, the count is a
/// multiple of eight. The last ID is left out then: at worst a function is refused.
pub(crate) fn lines(node: &Node<'_>, part: Part, notes: &mut Notes) -> Vec<Line> {
    const COUNT: &str = "number of IDs";
    let root = matches!(node.kind, NodeKind::Root(_));
    let most = if root { REQUESTERS } else { 1 << 32 };
    let mut sorted: Vec<_> = node.mappings.iter().filter(|mapping| !mapping.single).collect();
    if sorted.len() < node.mappings.len() {
        notes.add(node.at, part, "single mapping", Problem::Value);
    }
    sorted.sort_by_key(|mapping| mapping.input);
    let mut old = false;
    let mut lines: Vec<Line> = Vec::new();
    let mut overlap = false;
    // One past the last ID of all before, and whether the last of them still stands in the list.
    let (mut end, mut kept) = (0u64, false);
    for (index, mapping) in sorted.iter().enumerate() {
        let last = u64::from(mapping.input).saturating_add(mapping.count.into());
        let next = index.checked_add(1).and_then(|next| sorted.get(next));
        let meets = next.is_some_and(|next| u64::from(next.input) == last);
        let eights = root && mapping.count % 8 == 0;
        let one_more = mapping.count != 0 && (meets || eights);
        old |= one_more;
        let past = if one_more { last } else { last.saturating_add(1) };
        let length = past.min(most).checked_sub(mapping.input.into());
        let length = length.and_then(|length| u32::try_from(length).ok()).filter(|l| *l != 0);
        let fits = |length: &u32| mapping.output.checked_add(length.saturating_sub(1)).is_some();
        let Some(length) = length.filter(fits) else {
            notes.add(node.at, part, "ID mapping", Problem::Range);
            continue;
        };
        let line = Line { input: mapping.input, length, output: mapping.output, to: mapping.to };
        if u64::from(line.input) < end {
            overlap = true;
            if kept {
                lines.pop();
            }
            kept = false;
        } else {
            lines.push(line);
            kept = true;
        }
        end = end.max(line.end());
    }
    if old {
        notes.add(node.at, part, COUNT, Problem::Count);
    }
    if overlap {
        notes.add(node.at, part, "ID mapping", Problem::Overlap);
    }
    lines
}

/// What of `line` comes out at `inner`, as one step: `line` leads into the node whose mapping
/// `inner` is.
pub(crate) fn join(line: &Line, inner: &Line) -> Option<Line> {
    let start = line.output.max(inner.input);
    let end = u64::from(line.output).saturating_add(line.length.into()).min(inner.end());
    let length = u32::try_from(end.checked_sub(start.into())?).ok().filter(|l| *l != 0)?;
    Some(Line {
        input: line.input.checked_add(start.checked_sub(line.output)?)?,
        length,
        output: inner.output.checked_add(start.checked_sub(inner.input)?)?,
        to: inner.to,
    })
}

/// `line` without the IDs that come out in `from..end`, and whether there were any.
pub(crate) fn without(lines: &[Line], to: u32, from: u32, end: u64) -> Vec<Line> {
    let mut left = Vec::new();
    for line in lines {
        let stop = u64::from(line.output).saturating_add(line.length.into());
        if line.to != to || u64::from(from) >= stop || end <= line.output.into() {
            left.push(*line);
            continue;
        }
        let before = from.saturating_sub(line.output);
        if before != 0 {
            left.push(Line { length: before, ..*line });
        }
        let skip = end.saturating_sub(line.output.into());
        let rest = u64::from(line.length).checked_sub(skip).filter(|rest| *rest != 0);
        if let (Some(rest), Ok(skip)) = (rest, u32::try_from(skip)) {
            left.push(Line {
                input: line.input.saturating_add(skip),
                output: line.output.saturating_add(skip),
                length: u32::try_from(rest).unwrap_or(0),
                to,
            });
        }
    }
    left
}

/// Adds to a map; a line that goes on where the last one ends becomes one with it.
pub(crate) fn push(map: &mut IdMap, new: IdMapEntry, part: Part, notes: &mut Notes) {
    if let Some(last) = map.entries.last_mut()
        && last.controller == new.controller
        && last.input.checked_add(last.length) == Some(new.input)
        && last.output.checked_add(last.length) == Some(new.output)
        && let Some(length) = last.length.checked_add(new.length)
    {
        last.length = length;
        return;
    }
    if map.entries.try_push(new).is_err() {
        notes.too_many(Signature::IORT.name(), part, MAX_ID_MAP);
    }
}
