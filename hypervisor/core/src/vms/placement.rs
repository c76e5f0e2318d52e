//! Where VMs land in RAM: moved by `palisade.seed`, so that no test passes
//! because of where things happen to be, and never where guest and physical
//! addresses are the same numbers.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_mem::{Block, Frames, Owner, Use};

/// log2 of the blocks that VMs are moved by, in frames: 2 MiB.
const ORDER: u8 = 9;
/// Most blocks before one VM.
const MOST: u64 = 24;

/// Blocks that lie between VMs while they are built.
pub(crate) struct Placement {
    frames: Arc<Frames>,
    seed: u64,
    gaps: Vec<Block>,
}

impl Placement {
    /// A placement by the value of `palisade.seed`; 0 where it is none.
    pub(crate) fn new(frames: Arc<Frames>, seed: Option<&str>) -> Self {
        let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(0);
        Self { frames, seed, gaps: Vec::new() }
    }

    /// Leaves a gap before the next VM, as long as there is plenty of memory.
    pub(crate) fn skip(&mut self) {
        // A step of a linear congruential generator (Knuth, MMIX).
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let blocks = 1 + (self.seed >> 33) % MOST;
        for _ in 0..blocks {
            if self.frames.footprint().free < (blocks * 4) << ORDER {
                return;
            }
            let block = self.frames.alloc(ORDER, Use::Reserved, Owner::HYPERVISOR);
            self.gaps.extend(block);
        }
    }
}

impl Drop for Placement {
    fn drop(&mut self) {
        for block in self.gaps.drain(..) {
            // Never exposed, so that it always goes back.
            let _ = self.frames.free(block);
        }
    }
}
