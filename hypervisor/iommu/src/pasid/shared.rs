//! Descriptors that are shared with processes: counted, and moved out of the way.

use alloc::sync::Arc;

use palisade_hal::{Asid, SubstreamId};

use super::asids::Holder;
use super::space::{Descriptor, PasidError, Space, State, TableId};
use super::store::Unwritten;
use super::table::{Counted, User};
use crate::driver::{Argument, Context, DriverError};
use crate::sva::{Notifier, Process, ProcessKey, ProcessNotifier, Range};

impl Space {
    /// Shares `process` with the devices of `table`: the notifier of the pair, with one more
    /// reference. The first of a pair pins the process's ASID, registers the notifier, makes
    /// the descriptor and shares the ASID, in this order; a failure undoes them in reverse.
    ///
    /// # Errors
    /// [`PasidError::NoProcess`] if the process has gone; [`PasidError::AsidInUse`],
    /// [`PasidError::BadAsid`], [`PasidError::NoAsid`], [`PasidError::Quota`], or the driver's.
    pub fn alloc_shared(
        &self,
        table: TableId,
        process: &Arc<dyn Process>,
    ) -> Result<Arc<Notifier>, PasidError> {
        let mut state = self.state.lock();
        let key = process.key();
        if let Some(counted) = state.table(table)?.counted(key) {
            if counted.cleared {
                return Err(PasidError::NoProcess);
            }
            counted.references += 1;
            return Ok(counted.notifier.clone());
        }
        if state.descriptors.len() >= self.processes && !state.descriptors.contains_key(&key) {
            return Err(PasidError::Quota);
        }
        let asid = process.pin().ok_or(PasidError::NoProcess)?;
        let notifier = Arc::new(Notifier::new(self.this.clone(), table, key));
        let registered: Arc<dyn ProcessNotifier> = notifier.clone();
        if let Err(error) = process.register(registered.clone()) {
            process.unpin();
            return Err(error);
        }
        if let Err(error) = state.reference(key, asid, process) {
            process.unregister(&registered);
            process.unpin();
            return Err(error);
        }
        let counted = Counted { notifier: notifier.clone(), references: 1, cleared: false };
        state.table(table)?.notifiers.push(counted);
        Ok(notifier)
    }

    /// Gives back what [`alloc_shared`](Self::alloc_shared) answered. With the last reference
    /// every entry that still translates for the process in this table is quiesced, and the
    /// notifier goes; with the last notifier the ASID is unpinned and given back.
    ///
    /// # Errors
    /// [`PasidError::NoProcess`] for a notifier that has been given back already; the driver's,
    /// if an entry could not be quiesced: the ASID is then lost, everything else is given back.
    pub fn free_shared(&self, notifier: &Arc<Notifier>) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let (id, key) = (notifier.table(), notifier.key());
        let table = state.table(id)?;
        let counted = table
            .counted(key)
            .filter(|counted| counted.notifier.serial() == notifier.serial())
            .ok_or(PasidError::NoProcess)?;
        counted.references = counted.references.saturating_sub(1);
        if counted.references > 0 {
            return Ok(());
        }
        let mut answer = Ok(());
        for substream in table.substreams(key) {
            let quiesced = state.quiesce(id, substream);
            if quiesced.is_err() {
                state.soil(key);
                state.table(id)?.give_up(substream);
            }
            answer = answer.and(quiesced);
        }
        let table = state.table(id)?;
        table.notifiers.retain(|counted| counted.notifier.serial() != notifier.serial());
        state.put_notifier(notifier);
        answer
    }

    /// A notifier's process changed its tables in `ranges`.
    pub(crate) fn invalidate(
        &self,
        notifier: &Notifier,
        ranges: &[Range],
    ) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let key = notifier.key();
        let Some(asid) = state.cached_as(notifier)? else { return Ok(()) };
        let table = state.table(notifier.table())?;
        let substreams = table.substreams(key);
        let answer = if ranges.iter().any(Range::is_everything) {
            table.forget(asid, &substreams)
        } else {
            table.store.forget_ranges(asid, &substreams, ranges)
        };
        if answer.is_err() {
            state.soil(key);
        }
        answer.map_err(PasidError::from)
    }

    /// A notifier's process goes, whatever its devices are doing.
    pub(crate) fn release(&self, notifier: &Notifier) -> Result<(), PasidError> {
        let mut state = self.state.lock();
        let key = notifier.key();
        let Some(asid) = state.cached_as(notifier)? else { return Ok(()) };
        let table = state.table(notifier.table())?;
        let substreams = table.substreams(key);
        let mut answer = Ok(());
        for &substream in &substreams {
            answer = answer.and(table.park(substream));
        }
        answer = answer.and(table.forget(asid, &substreams).map_err(PasidError::from));
        // Only a whole success is never repeated.
        match (&answer, table.counted(key)) {
            (Ok(()), Some(counted)) => counted.cleared = true,
            _ => state.soil(key),
        }
        answer
    }
}

impl State {
    /// The ASID under which something of a notifier's process may be cached for its table;
    /// `None` if the notifier was given back or its process went: then nothing is.
    fn cached_as(&mut self, notifier: &Notifier) -> Result<Option<Asid>, PasidError> {
        let key = notifier.key();
        let Some(asid) = self.descriptors.get(&key).map(|descriptor| descriptor.asid) else {
            return Ok(None);
        };
        let counted = self.table(notifier.table())?.counted(key);
        let this = |counted: &&mut Counted| counted.notifier.serial() == notifier.serial();
        Ok(counted.filter(this).filter(|counted| !counted.cleared).map(|_| asid))
    }

    /// One more reference on the descriptor of `key`, made if there is none. `asid` is pinned;
    /// a descriptor keeps one pin, further ones are given back here.
    fn reference(
        &mut self,
        key: ProcessKey,
        asid: Asid,
        process: &Arc<dyn Process>,
    ) -> Result<(), PasidError> {
        if let Some(descriptor) = self.descriptors.get_mut(&key) {
            if descriptor.asid != asid {
                return Err(PasidError::BadAsid(asid));
            }
            descriptor.references += 1;
            process.unpin();
            return Ok(());
        }
        self.share_asid(key, asid)?;
        let descriptor = Descriptor {
            process: process.clone(),
            asid,
            context: process.address_space().context(asid, false),
            references: 1,
            dirty: false,
        };
        self.descriptors.insert(key, descriptor);
        Ok(())
    }

    /// A notifier that is in no list any more: unregistered, its descriptor released.
    pub(super) fn put_notifier(&mut self, notifier: &Arc<Notifier>) {
        let key = notifier.key();
        if let Some(descriptor) = self.descriptors.get(&key) {
            let registered: Arc<dyn ProcessNotifier> = notifier.clone();
            descriptor.process.unregister(&registered);
        }
        self.dereference(key);
    }

    /// One reference less; with the last the ASID goes back, if it is clean.
    fn dereference(&mut self, key: ProcessKey) {
        let Some(descriptor) = self.descriptors.get_mut(&key) else { return };
        descriptor.references = descriptor.references.saturating_sub(1);
        if descriptor.references > 0 {
            return;
        }
        if let Some(descriptor) = self.descriptors.remove(&key) {
            self.give_back(descriptor.asid, !descriptor.dirty);
            descriptor.process.unpin();
        }
    }

    /// Takes `asid` for a process. A private descriptor that has it moves to a fresh one first.
    fn share_asid(&mut self, key: ProcessKey, asid: Asid) -> Result<(), PasidError> {
        match self.asids.holder(asid) {
            None => self.asids.take(asid, Holder::Process(key)),
            Some(Holder::Process(_)) => Err(PasidError::AsidInUse(asid)),
            Some(Holder::Lost) => Err(PasidError::BadAsid(asid)),
            Some(Holder::Private { table, substream }) => {
                let fresh = self.asids.alloc(Holder::Private { table, substream })?;
                self.move_private(table, substream, asid, fresh)?;
                self.asids.free(asid);
                self.asids.take(asid, Holder::Process(key))
            }
        }
    }

    /// Rewrites a private entry from `old` to `fresh` and makes the IOMMU forget `old`; on
    /// failure the entry wears `old` again and `fresh` is given back.
    fn move_private(
        &mut self,
        id: TableId,
        substream: SubstreamId,
        old: Asid,
        fresh: Asid,
    ) -> Result<(), PasidError> {
        if let Err(unworn) = self.wear(id, substream, fresh) {
            self.give_back(fresh, unworn.undone);
            return Err(unworn.into());
        }
        let table = self.table(id)?;
        let Err(error) = table.forget(old, &[]) else { return Ok(()) };
        // The old number may tag the old entries still, which were this very entry's: it can
        // have the number back, if the hardware takes it and forgets the fresh one.
        if let Err(unworn) = self.wear(id, substream, old) {
            self.asids.lose(old);
            return Err(unworn.into());
        }
        let clean = self.table(id)?.forget(fresh, &[]).is_ok();
        self.give_back(fresh, clean);
        Err(error.into())
    }

    /// Rewrites a private entry to another ASID.
    fn wear(&mut self, id: TableId, substream: SubstreamId, asid: Asid) -> Result<(), Unwritten> {
        let absent = Unwritten { error: DriverError::Argument(Argument::Substream), undone: true };
        let table = self.tables.get_mut(&id).ok_or(absent)?;
        let context = table.entry(substream).ok().and_then(|entry| entry.context).ok_or(absent)?;
        table.put(substream, Context { asid, ..context }, User::Private)
    }
}
