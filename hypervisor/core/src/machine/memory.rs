//! RAM: what of it has no owner, mapped and handed to the frame allocator.

use alloc::sync::Arc;
use core::ops::Range;

use arrayvec::ArrayVec;
use palisade_board::BoardInfo;
use palisade_hal::PhysAddr;
use palisade_hal::machine::{Machine, MapKind};
use palisade_mem::{DirectMap, FRAME_BYTES, Frames, PhysRange};

use crate::machine::error::Error;

/// Most free pieces that are kept; the smallest RAM lies beyond any board's.
const PIECES: usize = 64;

type Pieces = ArrayVec<Range<u64>, PIECES>;

/// `ram` less every hole, in whole frames. Pieces beyond [`PIECES`] are lost,
/// never given out by mistake.
fn subtract(ram: impl Iterator<Item = Range<u64>>, holes: &[Range<u64>]) -> Pieces {
    let mut pieces = Pieces::new();
    for range in ram {
        let start = range.start.next_multiple_of(FRAME_BYTES);
        let end = range.end & !(FRAME_BYTES - 1);
        let mut rest = ArrayVec::<Range<u64>, PIECES>::new();
        if start < end {
            rest.push(start..end);
        }
        for hole in holes {
            let from = hole.start & !(FRAME_BYTES - 1);
            let to = hole.end.checked_next_multiple_of(FRAME_BYTES).unwrap_or(u64::MAX);
            let mut cut = ArrayVec::new();
            for piece in &rest {
                let before = piece.start..piece.end.min(from);
                let after = piece.start.max(to)..piece.end;
                for part in [before, after] {
                    if part.start < part.end {
                        let _lost_when_full = cut.try_push(part);
                    }
                }
            }
            rest = cut;
        }
        for piece in rest {
            let _lost_when_full = pieces.try_push(piece);
        }
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
    let mut holes = Pieces::new();
    for hole in board.reserved.iter().map(|r| r.range.start()..r.range.end()) {
        holes.try_push(hole).map_err(|_| Error::NoMemory)?;
    }
    for hole in taken {
        holes.try_push(hole.clone()).map_err(|_| Error::NoMemory)?;
    }
    let pieces = subtract(board.memory.iter().map(|ram| ram.start()..ram.end()), &holes);
    let mut ranges = ArrayVec::<PhysRange, PIECES>::new();
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
    use alloc::vec::Vec;

    use super::*;

    fn pieces(ram: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
        subtract(ram.iter().cloned(), holes).into_iter().collect()
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
}
