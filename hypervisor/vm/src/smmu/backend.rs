//! What a virtual SMMU is connected to.

use palisade_hal::Ipa;
use palisade_spec::Words;

/// Why the commands of a physical batch were not all carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandFailure {
    /// The command makes no sense to the physical SMMU either: the guest is to blame.
    Illegal,
    /// The hardware did not confirm; the device that was concerned is dead by now.
    Hardware,
}

/// An entry that makes no sense: its group aborts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream table entry makes no sense")]
pub struct EntryRefused;

/// The wired interrupts of a virtual SMMU; edges, all of them (§3.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Events are in the queue.
    Event,
    /// A CMD_SYNC is complete.
    Sync,
    /// GERROR changed.
    Error,
}

/// How a guest is told something.
pub trait Outlet {
    /// Writes guest RAM; false where there is none.
    fn write(&mut self, at: Ipa, from: &[u8]) -> bool;

    /// Makes an interrupt pending.
    fn interrupt(&mut self, wire: Wire);
}

/// The world behind a virtual SMMU: guest memory, the guest's devices, its interrupts. Groups are
/// numbered from 0; their order is the virtual SMMU's own.
pub trait Backend: Outlet {
    /// Reads guest RAM, each byte once; false where there is none.
    fn read(&mut self, at: Ipa, to: &mut [u8]) -> bool;

    /// Configures a group by an entry of the guest's. True if its stage 1 is in force then; an
    /// error means that the entry makes no sense, and the group aborts.
    ///
    /// # Errors
    /// [`EntryRefused`].
    fn attach(&mut self, group: usize, entry: &Words) -> Result<bool, EntryRefused>;

    /// Carries out commands about translations and contexts, in order, with one synchronisation.
    ///
    /// # Errors
    /// The number that were carried out before the one to blame, and why.
    fn invalidate(&mut self, commands: &[[u64; 2]]) -> Result<(), (usize, CommandFailure)>;

    /// Answers a stalled transaction of a virtual stream: CMD_RESUME's words, or CMD_STALL_TERM's.
    fn resume(&mut self, command: &[u64; 2]);
}
