//! A guest's commands, gathered into one physical batch with one synchronisation.

use arrayvec::ArrayVec;
use palisade_hal::Ipa;

use super::backend::{Backend, CommandFailure, Wire};

/// Commands of one physical batch.
const MOST: usize = 64;

/// How a CMD_SYNC is signalled (§4.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// By CONS alone.
    None,
    /// By the wired interrupt.
    Wire,
    /// By a word in memory.
    Message { at: u64, data: u32 },
}

/// Why a command is not complete, and where it stands in the guest's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blamed {
    pub(super) cons: u32,
    pub(super) why: CommandFailure,
}

/// Commands that were taken from the guest's queue and are not synchronised yet, and the guest's
/// own synchronisations between them.
#[derive(Default)]
pub(super) struct Batch {
    words: ArrayVec<[u64; 2], MOST>,
    places: ArrayVec<u32, MOST>,
    /// How many commands come before each, and how it is signalled.
    syncs: ArrayVec<(usize, Completion), MOST>,
}

impl Batch {
    /// Whether anything goes to the physical SMMU.
    pub(super) fn has_commands(&self) -> bool {
        !self.words.is_empty()
    }

    /// No more commands fit.
    pub(super) fn is_full(&self) -> bool {
        self.words.is_full() || self.syncs.is_full()
    }

    /// Adds a command that stands at `cons`.
    pub(super) fn push(&mut self, words: [u64; 2], cons: u32) {
        if self.words.try_push(words).is_ok() {
            self.places.push(cons);
        }
    }

    /// Adds one of the guest's synchronisations.
    pub(super) fn sync(&mut self, completion: Completion) {
        let _ = self.syncs.try_push((self.words.len(), completion));
    }

    /// Carries everything out with one synchronisation, then signals the guest's own. True if a
    /// message found no memory.
    ///
    /// # Errors
    /// The first command that was not carried out; what came before it is, and is signalled.
    pub(super) fn flush(&mut self, backend: &mut dyn Backend) -> (bool, Result<(), Blamed>) {
        let result = match self.words.is_empty() {
            true => Ok(()),
            false => backend.invalidate(&self.words),
        };
        let (done, result) = match result {
            Ok(()) => (self.words.len(), Ok(())),
            Err((done, why)) => {
                let cons = self.places.get(done).or(self.places.last()).copied().unwrap_or(0);
                (done, Err(Blamed { cons, why }))
            }
        };
        let mut lost = false;
        for (before, completion) in self.syncs.iter().filter(|(before, _)| *before <= done) {
            debug_assert!(*before <= self.words.len());
            match *completion {
                Completion::None => {}
                Completion::Wire => backend.interrupt(Wire::Sync),
                Completion::Message { at, data } => {
                    lost |= !backend.write(Ipa::new(at), &data.to_le_bytes());
                }
            }
        }
        *self = Self::default();
        (lost, result)
    }
}
