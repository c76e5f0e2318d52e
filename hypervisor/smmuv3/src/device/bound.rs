//! What an invalidation costs at most: commands, waits and instructions.
//!
//! A call of [`IommuDriver::invalidate`](palisade_iommu::IommuDriver::invalidate) retires at most
//!
//! ```text
//! BASE + Σ entry + (COMMAND + CLEAN_COMMAND) × commands + (BATCH + CLEAN_BATCH) × batches
//!      + TURN × turns
//! ```
//!
//! A64 instructions at EL2 from the call to its return, built as it ships. [`Smmu::bound`] says all
//! of it but the turns, for any batch. Commands include the CMD_SYNCs; a batch is one write of
//! CMDQ_PROD and one wait for its last CMD_SYNC; the CLEAN terms are for an SMMU that does not see
//! the caches. A turn is one of the loop that waits: none where the SMMU is done at once, and at
//! most [`Options::sync_turns`](crate::Options::sync_turns) per batch. When a batch has taken that
//! long, the call adds
//!
//! ```text
//! TIME_OUT + TURN × turns + REGISTER_TURN × register turns
//! ```
//!
//! for a lone CMD_SYNC under the same limit and, if not even that is done, for disabling the SMMU:
//! three waits of at most [`Options::register_turns`](crate::Options::register_turns).
//!
//! Each command that the SMMU refuses adds `REFUSAL`, and a turn.
//!
//! Not in it: what the log writes about time-outs and refusals; the containment of devices whose
//! own TLBs do not answer, one change of an entry for each; and waiting for a lock. The lock of the
//! queue is held for one batch's writing or for one turn, never across a wait, and a core spins on
//! it with a handful of instructions for each load.
//!
//! tests/on-target counts each kind of call on QEMU's SMMU and, for what that one does not have, on
//! paper. It fails where a call takes more than its bound, and where the worst call of a kind has a
//! bound of more than a quarter above it. A change of the driver that makes a call longer or much
//! shorter has to change the numbers here.

use palisade_hal::Env;
use palisade_iommu::Invalidation;

use crate::command::range::SINGLE_COMMANDS_MAX;
use crate::device::batch::Phase;
use crate::device::smmu::Smmu;
use crate::features::Features;

/// The call and its return.
pub const BASE: u64 = 110;
/// One command, into the batch and into the queue.
pub const COMMAND: u64 = 108;
/// The same, cleaned: where a cache line has 64 bytes, a quarter of one.
pub const CLEAN_COMMAND: u64 = 4;
/// One batch: made visible, published, seen to be done at the first look, and judged.
pub const BATCH: u64 = 930;
/// The same, cleaned.
pub const CLEAN_BATCH: u64 = 200;
/// One turn of the loop that waits for a CMD_SYNC.
pub const TURN: u64 = 360;
/// What a time-out adds, without turns.
pub const TIME_OUT: u64 = 2300;
/// What each command that is refused adds, without its turn.
pub const REFUSAL: u64 = 640;
/// One turn of a loop that waits for a register.
pub const REGISTER_TURN: u64 = 58;

/// What a call does at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bound {
    /// Commands, CMD_SYNCs included.
    pub commands: u64,
    /// Writes of CMDQ_PROD, each with one wait.
    pub batches: u64,
    /// Instructions without turns.
    pub instructions: u64,
}

/// What an entry costs at most: the phase of its commands, how many there are, and the instructions
/// that tell which.
///
/// The worst range asks for one command with range invalidation, else for
/// [`SINGLE_COMMANDS_MAX`]. A device TLB's stream is searched among those that are attached: this is
/// with 256 of them, and twice as many are one step more, of some ten instructions.
const fn entry(of: &Invalidation, features: &Features) -> (Phase, u64, u64) {
    let range = if features.ril { 1 } else { SINGLE_COMMANDS_MAX };
    match of {
        Invalidation::All => (Phase::Stage2, 1 + features.hyp as u64, 20),
        Invalidation::Vmid(_) if features.stage2 => (Phase::Stage2, 1, 20),
        Invalidation::StageTwo { .. } if features.stage2 => (Phase::Stage2, range, 185),
        Invalidation::Vmid(_) | Invalidation::StageOneOf(_) | Invalidation::Asid { .. }
            if features.stage1 =>
        {
            (Phase::Stage1, 1, 20)
        }
        Invalidation::StageOne { .. } if features.stage1 => (Phase::Stage1, range, 215),
        Invalidation::Context { .. } | Invalidation::Contexts(_) if features.stage1 => {
            (Phase::Configuration, 1, 20)
        }
        Invalidation::Device { .. } if features.ats => (Phase::Device, 1, 250),
        Invalidation::Device { .. } => (Phase::Device, 0, 48),
        _ => (Phase::Configuration, 0, 20),
    }
}

impl<E: Env> Smmu<E> {
    /// What [`invalidate`](palisade_iommu::IommuDriver::invalidate) costs at most, whatever ranges
    /// the entries of `batch` name.
    pub fn bound(&self, batch: &[Invalidation]) -> Bound {
        let mut bound = Bound { instructions: BASE, ..Bound::default() };
        let mut before = None;
        for of in batch {
            let (phase, commands, instructions) = entry(of, &self.features);
            bound.instructions += instructions;
            if commands == 0 {
                continue;
            }
            // The CMD_SYNC that the phase waits for, or that tells one device from another.
            let device = match of {
                Invalidation::Device { stream, .. } => Some(*stream),
                _ => None,
            };
            let synced = before.is_some_and(|(before, last)| {
                phase > before
                    || phase == Phase::Device && device != last
                    || self.features.sync_between_kinds
            });
            bound.commands += commands + u64::from(synced);
            // All is two kinds.
            let kinds = matches!(of, Invalidation::All) && commands > 1;
            bound.commands += u64::from(kinds && self.features.sync_between_kinds);
            before = Some((phase, device));
        }
        bound.batches = bound.commands.div_ceil(self.queue.batch_max() as u64 - 1);
        bound.commands += bound.batches;
        let clean = u64::from(!self.features.coherent);
        bound.instructions += (COMMAND + clean * CLEAN_COMMAND) * bound.commands;
        bound.instructions += (BATCH + clean * CLEAN_BATCH) * bound.batches;
        bound
    }
}
