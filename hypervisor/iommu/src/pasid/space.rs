//! A space of ASIDs and the tables that use it.

use alloc::sync::{Arc, Weak};

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{Asid, SubstreamId};
use palisade_mem::SortedMap;

use super::asids::{Asids, Holder};
use super::store::{ContextStore, Unwritten};
use super::table::{Table, User};
use crate::driver::{Context, DriverError};
use crate::sva::{AddressSpace, Notifier, Process, ProcessKey};

/// Why a PASID table was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasidError {
    /// The table is unknown to this space.
    #[error("context table is unknown")]
    Table,
    /// The table has users.
    #[error("context table is in use")]
    TableInUse,
    /// The substream is beyond the table, or was not prepared.
    #[error("substream {0} is not in the table")]
    Substream(SubstreamId),
    /// The substream translates for somebody.
    #[error("substream {0} is bound")]
    Bound(SubstreamId),
    /// The substream does not translate for the one who asks.
    #[error("substream {0} is not bound to this process")]
    NotBound(SubstreamId),
    /// The process has no address space any more.
    #[error("process has gone")]
    NoProcess,
    /// Every ASID is in use.
    #[error("no ASID left")]
    NoAsid,
    /// The ASID is 0, too wide, or lost.
    #[error("ASID {0} cannot be used")]
    BadAsid(Asid),
    /// Another process uses the ASID.
    #[error("ASID {0} belongs to another process")]
    AsidInUse(Asid),
    /// As many address spaces or bindings as are allowed.
    #[error("quota is used up")]
    Quota,
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl From<Unwritten> for PasidError {
    fn from(unwritten: Unwritten) -> Self {
        unwritten.error.into()
    }
}

/// A table of a [`Space`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(u32);

/// A process that is shared with devices: one descriptor, one pinned ASID.
pub(super) struct Descriptor {
    pub(super) process: Arc<dyn Process>,
    pub(super) asid: Asid,
    pub(super) context: Context,
    pub(super) references: u32,
    /// An invalidation failed: the ASID can never be reused.
    pub(super) dirty: bool,
}

/// Entries of all tables of one space that were ever made ready, at most.
pub const MAX_ENTRIES: usize = 2048;

pub(super) struct State {
    pub(super) asids: Asids,
    pub(super) tables: SortedMap<TableId, Table>,
    pub(super) descriptors: SortedMap<ProcessKey, Descriptor>,
    next_table: u32,
}

/// What a space holds; equal before and after anything that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceFootprint {
    /// Tables.
    pub tables: usize,
    /// Entries that translate for somebody.
    pub bound: usize,
    /// Entries that the hardware kept from being taken back: never to be used again.
    pub stuck: usize,
    /// Notifiers.
    pub notifiers: usize,
    /// Shared descriptors.
    pub descriptors: usize,
    /// ASIDs in use.
    pub asids: u32,
    /// ASIDs lost for good.
    pub asids_lost: u32,
}

/// See the module's text. One lock for all of it; below it only drivers, and the calls of a
/// [`Process`] that are said to be made under it.
pub struct Space {
    pub(super) state: Mutex<State>,
    pub(super) this: Weak<Space>,
    pub(super) processes: usize,
}

impl Space {
    /// A space of ASIDs with `bits` (8 or 16: what every IOMMU it is used on can do), for at
    /// most `processes` processes at once.
    pub fn new(bits: u8, processes: usize) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            state: Mutex::new(
                Rank::PasidSpace,
                State {
                    asids: Asids::new(bits),
                    tables: SortedMap::new(),
                    descriptors: SortedMap::new(),
                    next_table: 0,
                },
            ),
            this: this.clone(),
            processes,
        })
    }

    /// Adds a table, every entry of it empty.
    pub fn alloc_table(&self, store: Arc<dyn ContextStore>) -> TableId {
        let mut state = self.state.lock();
        let id = TableId(state.next_table);
        state.next_table = state.next_table.wrapping_add(1);
        state.tables.insert(id, Table::new(store));
        id
    }

    /// Takes a table out.
    ///
    /// # Errors
    /// [`PasidError::TableInUse`] while anything is bound in it.
    pub fn free_table(&self, table: TableId) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        if !state.table(table)?.is_idle() {
            return Err(PasidError::TableInUse);
        }
        state.tables.remove(&table);
        Ok(())
    }

    /// Makes an entry ready, so that a following write needs no memory. Replayable.
    ///
    /// # Errors
    /// [`PasidError::Substream`] beyond the table, [`PasidError::Quota`] beyond
    /// [`MAX_ENTRIES`], or the driver's.
    pub fn prepare(&self, table: TableId, substream: SubstreamId) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        // An entry that was ready once is kept when nothing is bound in it any more.
        let entries: usize = state.tables.values().map(|table| table.entries.len()).sum();
        let table = state.table(table)?;
        if entries >= MAX_ENTRIES && !table.entries.contains_key(&substream.get()) {
            return Err(PasidError::Quota);
        }
        table.prepare(substream)
    }

    /// Lets a prepared entry translate for the process of `notifier`.
    ///
    /// # Errors
    /// [`PasidError::Bound`] if it translates for somebody; [`PasidError::NoProcess`] if the
    /// process has gone meanwhile; [`PasidError::NotBound`] for a notifier of another table.
    pub fn write(
        &self,
        table: TableId,
        substream: SubstreamId,
        notifier: &Notifier,
    ) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let key = notifier.key();
        let context = state.context(key)?;
        let table = state.table(table)?;
        let counted = table.counted(key).ok_or(PasidError::NotBound(substream))?;
        if counted.notifier.serial() != notifier.serial() {
            return Err(PasidError::NotBound(substream));
        }
        if counted.cleared {
            return Err(PasidError::NoProcess);
        }
        if table.entry(substream)?.user != User::Nobody {
            return Err(PasidError::Bound(substream));
        }
        let Err(unwritten) = table.put(substream, context, User::Process(key)) else {
            return Ok(());
        };
        if !unwritten.undone {
            table.stick(substream);
            state.soil(key);
        }
        Err(unwritten.into())
    }

    /// Lets a prepared entry translate by an address space that belongs to this entry alone,
    /// under a private ASID, which may change later without anybody noticing.
    ///
    /// # Errors
    /// [`PasidError::Bound`], [`PasidError::NoAsid`], or the driver's.
    pub fn write_private(
        &self,
        table: TableId,
        substream: SubstreamId,
        space: &AddressSpace,
    ) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        if state.table(table)?.entry(substream)?.user != User::Nobody {
            return Err(PasidError::Bound(substream));
        }
        let asid = state.asids.alloc(Holder::Private { table, substream })?;
        let context = space.context(asid, true);
        let table = state.table(table)?;
        let Err(unwritten) = table.put(substream, context, User::Private) else { return Ok(()) };
        if !unwritten.undone {
            table.stick(substream);
        }
        state.give_back(asid, unwritten.undone);
        Err(unwritten.into())
    }

    /// Quiesces an entry: it stays valid and translates nothing, and nothing that was cached
    /// for it is reachable through it. One that translates for nobody stays as it is.
    ///
    /// # Errors
    /// The driver's. If only the invalidation failed, the entry is parked and its ASID will
    /// never be given to another address space.
    pub fn quiesce(&self, table: TableId, substream: SubstreamId) -> Result<(), PasidError> {
        self.state.lock().quiesce(table, substream)
    }

    /// Quiesces an entry if it still translates for the process of `notifier`; one that meanwhile
    /// translates for somebody else is none of this notifier's business.
    pub(crate) fn quiesce_for(
        &self,
        substream: SubstreamId,
        notifier: &Notifier,
    ) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let table = notifier.table();
        match state.table(table)?.entry(substream)?.user {
            User::Process(key) if key == notifier.key() => state.quiesce(table, substream),
            _ => Ok(()),
        }
    }

    /// Drops a table whose streams abort, without touching the hardware: everything bound in it
    /// ends. `clean`: every translation under the space's VMID has been forgotten since.
    ///
    /// # Errors
    /// [`PasidError::Table`].
    pub fn abandon_table(&self, table: TableId, clean: bool) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let dropped = state.tables.remove(&table).ok_or(PasidError::Table)?;
        for entry in dropped.entries.values().filter(|entry| entry.user == User::Private) {
            if let Some(context) = entry.context {
                state.give_back(context.asid, clean);
            }
        }
        for counted in dropped.notifiers {
            if !clean {
                state.soil(counted.notifier.key());
            }
            state.put_notifier(&counted.notifier);
        }
        Ok(())
    }

    /// What it holds now.
    pub fn footprint(&self) -> SpaceFootprint {
        let state = self.state.lock();
        let entries = || state.tables.values().flat_map(|table| table.entries.values());
        let bound = |user| matches!(user, User::Private | User::Process(_));
        SpaceFootprint {
            tables: state.tables.len(),
            bound: entries().filter(|entry| bound(entry.user)).count(),
            stuck: entries().filter(|entry| entry.user == User::Stuck).count(),
            notifiers: state.tables.values().map(|table| table.notifiers.len()).sum(),
            descriptors: state.descriptors.len(),
            asids: state.asids.used(),
            asids_lost: state.asids.lost(),
        }
    }
}

impl State {
    pub(super) fn table(&mut self, table: TableId) -> Result<&mut Table, PasidError> {
        self.tables.get_mut(&table).ok_or(PasidError::Table)
    }

    /// The context by which a process translates.
    pub(super) fn context(&self, key: ProcessKey) -> Result<Context, PasidError> {
        let descriptor = self.descriptors.get(&key).ok_or(PasidError::NoProcess)?;
        Ok(descriptor.context)
    }

    /// See [`Space::quiesce`].
    pub(super) fn quiesce(
        &mut self,
        id: TableId,
        substream: SubstreamId,
    ) -> Result<(), PasidError> {
        let table = self.tables.get_mut(&id).ok_or(PasidError::Table)?;
        let entry = table.entry(substream)?;
        let (Some(context), true) = (entry.context, entry.user != User::Nobody) else {
            return Ok(());
        };
        table.park(substream)?;
        let forgotten = table.forget(context.asid, &[substream]);
        match entry.user {
            User::Private => self.give_back(context.asid, forgotten.is_ok()),
            User::Process(key) if forgotten.is_err() => self.soil(key),
            _ => {}
        }
        forgotten.map_err(PasidError::from)
    }

    /// An ASID that nothing uses any more is free again, or lost if it is not clean.
    pub(super) fn give_back(&mut self, asid: Asid, clean: bool) {
        if clean {
            self.asids.free(asid);
        } else {
            self.asids.lose(asid);
        }
    }

    /// The ASID of this process can never be clean again.
    pub(super) fn soil(&mut self, key: ProcessKey) {
        if let Some(descriptor) = self.descriptors.get_mut(&key) {
            descriptor.dirty = true;
        }
    }
}
