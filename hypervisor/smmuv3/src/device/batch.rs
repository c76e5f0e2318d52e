//! Several commands in one write of PROD, with the CMD_SYNCs that order them inside.

use arrayvec::ArrayVec;
use palisade_hal::Env;

use crate::command;
use crate::command::range::{Cover, Piece};
use crate::device::smmu::Smmu;
use crate::error::QueueError;
use crate::queue::BATCH_COMMANDS_MAX;
use crate::spec::Cmd;

/// What must be complete before what (§4.3.6, §4.4.3.1, §4.5.1): a TLB entry could be made again
/// from a stale descriptor, a combined entry from a stale stage 2 one, a device's from either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Configuration structures.
    Configuration,
    /// Stage 2, and whole VMIDs.
    Stage2,
    /// Stage 1.
    Stage1,
    /// Device TLBs.
    Device,
}

/// Commands on their way; sends them by itself when it is full.
pub(crate) struct Batch<'a, E: Env> {
    smmu: &'a Smmu<E>,
    commands: ArrayVec<Cmd, BATCH_COMMANDS_MAX>,
    /// How many fit; one place is kept for the CMD_SYNC at the end.
    room: usize,
    phase: Phase,
    /// Commands of different kinds need a CMD_SYNC between them.
    watchful: bool,
}

impl<'a, E: Env> Batch<'a, E> {
    /// An empty batch.
    pub fn new(smmu: &'a Smmu<E>) -> Self {
        let room = smmu.queue.batch_max() - 1;
        let watchful = smmu.features.sync_between_kinds;
        Self { smmu, commands: ArrayVec::new(), room, phase: Phase::Configuration, watchful }
    }

    /// Adds a command, after a CMD_SYNC where its phase must see earlier ones complete, or where
    /// it has to be told apart from the one before.
    ///
    /// # Errors
    /// That of sending what had to make room.
    pub fn push(&mut self, phase: Phase, command: Cmd) -> Result<(), QueueError> {
        if (phase > self.phase || self.watchful || phase == Phase::Device)
            && self.needs_sync(phase, &command)
        {
            self.add(command::sync())?;
        }
        self.phase = phase;
        self.add(command)
    }

    /// Whether a CMD_SYNC has to stand between what is there and `command`.
    fn needs_sync(&self, phase: Phase, command: &Cmd) -> bool {
        self.commands.last().is_some_and(|before| {
            phase > self.phase
                || phase == Phase::Device && other_stream(before, command)
                || self.watchful && before.opcode() != command.opcode()
        })
    }

    /// Adds the commands of a range; `whole` is the one that covers everything.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_cover(
        &mut self,
        phase: Phase,
        cover: Cover,
        single: impl Fn(u64, bool) -> Cmd,
        whole: Cmd,
    ) -> Result<(), QueueError> {
        match cover {
            Cover::Nothing => Ok(()),
            Cover::Whole => self.push(phase, whole),
            Cover::One(piece) => self.push(phase, shaped(&piece, &single)),
            Cover::Each { first, step, count } => {
                let mut address = first.address;
                let mut command = shaped(&first, &single);
                for _ in 0..count {
                    self.push(phase, command)?;
                    address = address.wrapping_add(step);
                    Cmd::ADDRESS.set_address(&mut command.0, address);
                }
                Ok(())
            }
        }
    }

    fn add(&mut self, command: Cmd) -> Result<(), QueueError> {
        if self.commands.len() >= self.room {
            self.smmu.run(&self.commands)?;
            self.commands.clear();
            if command.is_sync() {
                return Ok(());
            }
        }
        self.commands.push(command);
        Ok(())
    }

    /// Sends what is left, one CMD_SYNC after it, and waits. By reference, since a move would
    /// copy all of the array.
    ///
    /// # Errors
    /// See [`QueueError`].
    pub fn finish(&self) -> Result<(), QueueError> {
        if self.commands.is_empty() { Ok(()) } else { self.smmu.run(&self.commands) }
    }
}

/// Whether the commands are about different streams. A CMD_SYNC between the CMD_ATC_INVs of two
/// devices says which of them is slow, and leaves the other alone (§4.7.3).
fn other_stream(one: &Cmd, other: &Cmd) -> bool {
    !one.is_sync() && Cmd::STREAM_ID.get(&one.0) != Cmd::STREAM_ID.get(&other.0)
}

/// The command for one piece of a range (§4.4.1.1).
fn shaped(piece: &Piece, single: &impl Fn(u64, bool) -> Cmd) -> Cmd {
    let mut cmd = single(piece.address, piece.leaf);
    Cmd::TG.set(&mut cmd.0, u64::from(piece.tg));
    Cmd::TTL.set(&mut cmd.0, u64::from(piece.ttl));
    Cmd::NUM.set(&mut cmd.0, u64::from(piece.num));
    Cmd::SCALE.set(&mut cmd.0, u64::from(piece.scale));
    cmd
}
