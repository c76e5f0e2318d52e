//! RAM: what of it has no owner, mapped and handed to the frame allocator.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use palisade_board::BoardInfo;
use palisade_hal::PhysAddr;
use palisade_hal::machine::{Machine, MapKind};
use palisade_mem::{DirectMap, FRAME_BYTES, Frames, PhysRange};

use crate::machine::error::Error;

/// `ram` less every hole, in whole frames. None is lost: there is at most one piece more for each
/// hole and range, and both have their limits.
fn subtract(ram: impl Iterator<Item = Range<u64>>, holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    for range in ram {
        let start = range.start.checked_next_multiple_of(FRAME_BYTES).unwrap_or(u64::MAX);
        let end = range.end & !(FRAME_BYTES - 1);
        let mut rest = Vec::new();
        if start < end {
            rest.push(start..end);
        }
        for hole in holes {
            let from = hole.start & !(FRAME_BYTES - 1);
            let to = hole.end.checked_next_multiple_of(FRAME_BYTES).unwrap_or(u64::MAX);
            let mut cut = Vec::new();
            for piece in &rest {
                let before = piece.start..piece.end.min(from);
                let after = piece.start.max(to)..piece.end;
                cut.extend([before, after].into_iter().filter(|part| part.start < part.end));
            }
            rest = cut;
        }
        pieces.extend(rest);
    }
    pieces
}

/// Maps all free RAM and gives it to a new allocator. `taken` is what holds the
/// image, the device tree and the bundle.
///
/// # Errors
/// No RAM is left, or it cannot be mapped.
pub(crate) fn init(
    board: &BoardInfo<'_>,
    machine: &dyn Machine,
    taken: &[Range<u64>],
) -> Result<Arc<Frames>, Error> {
    let reserved = board.reserved.iter().map(|r| r.range.start()..r.range.end());
    let holes: Vec<Range<u64>> = reserved.chain(taken.iter().cloned()).collect();
    let pieces = subtract(board.memory.iter().map(|ram| ram.start()..ram.end()), &holes);
    let mut ranges = Vec::new();
    for piece in &pieces {
        machine.map(piece.clone(), MapKind::Data)?;
        let bytes = piece.end.saturating_sub(piece.start);
        ranges.push(PhysRange { start: PhysAddr::new(piece.start), bytes });
    }
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else {
        return Err(Error::NoMemory);
    };
    let (start, end) = (PhysAddr::new(first.start), PhysAddr::new(last.end));
    // SAFETY: the map is one to one, for ever. What lies between the pieces
    // (image, device tree, bundle, reservations) is not given to the allocator,
    // which forms pointers to what it was given only.
    let map = unsafe { DirectMap::new(start, end, first.start as usize) };
    Ok(Frames::new(map, &ranges)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(ram: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
        subtract(ram.iter().cloned(), holes)
    }

    #[test]
    fn holes_are_rounded_outwards_and_ram_inwards() {
        let (ram, hole) = (0x4000_0800..0x4001_0800, 0x4000_4001..0x4000_5001);
        assert_eq!(pieces(&[ram], &[hole]), [0x4000_1000..0x4000_4000, 0x4000_6000..0x4001_0000]);
    }

    #[test]
    fn overlapping_holes_and_holes_at_the_ends() {
        assert_eq!(
            pieces(
                &[0x1000..0x9000, 0xa000..0xb000],
                &[0..0x2000, 0x3000..0x5000, 0x4000..0x6000, 0x8000..0xc000]
            ),
            [0x2000..0x3000, 0x6000..0x8000]
        );
        let (ram, everything) = (0x1000..0x9000, 0..u64::MAX);
        assert_eq!(pieces(&[ram], &[everything]), []);
    }

    #[test]
    fn no_piece_is_lost_however_many_there_are() {
        let ram: Vec<_> = (0..64u64).map(|n| n << 32..(n << 32) + 0x1000_0000).collect();
        let holes: Vec<_> =
            (0..128u64).map(|n| (n / 2) << 32 | (0x1_0000 + n % 2 * 0x10_0000)).collect();
        let holes: Vec<_> = holes.iter().map(|start| *start..start + 0x1000).collect();
        let left = pieces(&ram, &holes);
        assert_eq!(left.len(), 64 * 3);
        let bytes: u64 = left.iter().map(|piece| piece.end - piece.start).sum();
        assert_eq!(bytes, 64 * 0x1000_0000 - 128 * 0x1000);
    }
}
