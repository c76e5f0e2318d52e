//! One context table as the library keeps it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::{Asid, SubstreamId};
use palisade_mem::SortedMap;

use super::space::PasidError;
use super::store::{ContextStore, Unwritten};
use crate::driver::{Argument, Context, DriverError};
use crate::sva::{Notifier, ProcessKey};

/// Who an entry translates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Nobody: prepared or parked.
    Nobody,
    /// A private descriptor.
    Private,
    /// A process.
    Process(ProcessKey),
    /// It could not be parked, or not be taken back: never to be used again.
    Stuck,
}

/// What is in memory for one substream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) context: Option<Context>,
    pub(super) user: User,
}

/// A notifier of this table, counted.
pub(super) struct Counted {
    pub(super) notifier: Arc<Notifier>,
    pub(super) references: u32,
    /// The process has gone, and all that it entails is done.
    pub(super) cleared: bool,
}

pub(super) struct Table {
    pub(super) store: Arc<dyn ContextStore>,
    pub(super) entries: SortedMap<u32, Entry>,
    pub(super) notifiers: Vec<Counted>,
}

impl Table {
    pub(super) fn new(store: Arc<dyn ContextStore>) -> Self {
        Self { store, entries: SortedMap::new(), notifiers: Vec::new() }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.notifiers.is_empty() && self.entries.values().all(|entry| entry.user == User::Nobody)
    }

    /// The entry of `substream`, made ready if it was not.
    pub(super) fn prepare(&mut self, substream: SubstreamId) -> Result<(), PasidError> {
        let bits = self.store.bits();
        if bits < 32 && substream.get() >> bits != 0 {
            return Err(PasidError::Substream(substream));
        }
        if self.entries.contains_key(&substream.get()) {
            return Ok(());
        }
        self.store.prepare(substream)?;
        self.entries.insert(substream.get(), Entry { context: None, user: User::Nobody });
        Ok(())
    }

    pub(super) fn entry(&self, substream: SubstreamId) -> Result<Entry, PasidError> {
        self.entries.get(&substream.get()).copied().ok_or(PasidError::Substream(substream))
    }

    /// Writes an entry; on failure it is as it was, or as [`Unwritten`] says.
    pub(super) fn put(
        &mut self,
        substream: SubstreamId,
        context: Context,
        user: User,
    ) -> Result<(), Unwritten> {
        let absent = Unwritten { error: DriverError::Argument(Argument::Substream), undone: true };
        let entry = self.entries.get_mut(&substream.get()).ok_or(absent)?;
        self.store.write(substream, entry.context.as_ref(), Some(&context))?;
        *entry = Entry { context: Some(context), user };
        Ok(())
    }

    /// Parks an entry: valid, no walks, ASID 0. One write; a parked or empty one stays.
    pub(super) fn park(&mut self, substream: SubstreamId) -> Result<(), PasidError> {
        let entry = self.entry(substream)?;
        match entry.context {
            Some(context) if !context.quiet => {
                let parked = Context { asid: Asid::new(0), table: 0, quiet: true, ..context };
                self.put(substream, parked, User::Nobody).map_err(PasidError::from)
            }
            _ => Ok(()),
        }
    }

    /// An entry that could not be parked.
    pub(super) fn give_up(&mut self, substream: SubstreamId) {
        if self.entry(substream).is_ok_and(|entry| entry.user != User::Nobody) {
            self.stick(substream);
        }
    }

    /// An entry of which nobody knows what the hardware has.
    pub(super) fn stick(&mut self, substream: SubstreamId) {
        if let Some(entry) = self.entries.get_mut(&substream.get()) {
            entry.user = User::Stuck;
        }
    }

    /// The substreams that translate for `key`.
    pub(super) fn substreams(&self, key: ProcessKey) -> Vec<SubstreamId> {
        let mine = |(_, entry): &(&u32, &Entry)| entry.user == User::Process(key);
        self.entries.iter().filter(mine).map(|(&id, _)| SubstreamId::new(id)).collect()
    }

    pub(super) fn forget(&self, asid: Asid, substreams: &[SubstreamId]) -> Result<(), DriverError> {
        self.store.forget(asid, substreams)
    }

    pub(super) fn counted(&mut self, key: ProcessKey) -> Option<&mut Counted> {
        self.notifiers.iter_mut().find(|counted| counted.notifier.key() == key)
    }
}
