//! A virtual SMMU: what is behind it, and when it translates.

use arrayvec::ArrayVec;
use palisade_spec::{Config, EventNumber, EventRecord, Ste, Words, register};

use super::backend::{Backend, Outlet, Wire};
use super::events::{EventSide, Events, Signal};
use super::identity::Identity;
use super::queue::Queue;
use super::registers::Progress;
use super::table::{Found, StreamTable};
use super::{MAX_DEVICES, MAX_GROUPS};

/// Devices that have one entry: the hypervisor cannot tell them apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    /// The backend's number of the group.
    pub(super) group: usize,
    /// Virtual StreamIDs of its devices.
    pub(super) streams: ArrayVec<u32, MAX_DEVICES>,
    /// The guest's stage 1 is in force.
    pub(super) nested: bool,
}

/// What the guest made of its SMMU, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that the guest sent.
    pub commands: u64,
    /// Synchronisations among them.
    pub syncs: u64,
    /// Physical batches, each with one synchronisation.
    pub batches: u64,
    /// Entries that were attached.
    pub entries: u64,
    /// Entries that made no sense.
    pub refused: u64,
    /// Commands that made no sense.
    pub illegal: u64,
    /// Exits after which commands were left for the next.
    pub continued: u64,
}

/// The command half of a virtual SMMU: identity, control, stream table and command queue.
#[derive(Debug)]
pub struct VirtualSmmu {
    pub(super) identity: Identity,
    pub(super) members: ArrayVec<Member, MAX_GROUPS>,
    pub(super) cr0: u32,
    pub(super) cr1: u32,
    pub(super) cr2: u32,
    pub(super) gbpa: u32,
    pub(super) table: StreamTable,
    pub(super) queue: Queue,
    /// CMDQ_CONS.ERR.
    pub(super) cerror: u32,
    /// An entry that concerns several groups goes on with this one.
    pub(super) entry_at: usize,
    pub(super) counts: Counts,
}

/// A device cannot be put behind a virtual SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a virtual SMMU has room for {MAX_DEVICES} devices in {MAX_GROUPS} groups")]
pub struct NoRoom;

impl VirtualSmmu {
    /// As it is after a reset: off, every device behind stage 2 alone.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            members: ArrayVec::new(),
            cr0: 0,
            cr1: 0,
            cr2: 0,
            gbpa: 0,
            table: StreamTable::default(),
            queue: Queue::default(),
            cerror: 0,
            entry_at: 0,
            counts: Counts::default(),
        }
    }

    /// What the guest made of it so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The guest's stage 1 is in force for a group.
    pub fn is_nested(&self, group: usize) -> bool {
        self.members.iter().any(|member| member.group == group && member.nested)
    }

    /// Puts a device of a group behind it. While it is on, the device does what the guest's table
    /// says of it.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing changed.
    pub fn add(
        &mut self,
        group: usize,
        stream: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Result<(), NoRoom> {
        let at = match self.members.iter().position(|member| member.group == group) {
            Some(at) => at,
            None => {
                let member = Member { group, ..Member::default() };
                self.members.try_push(member).map_err(|_| NoRoom)?;
                self.members.len() - 1
            }
        };
        let member = self.members.get_mut(at).ok_or(NoRoom)?;
        if !member.streams.contains(&stream) {
            member.streams.try_push(stream).map_err(|_| NoRoom)?;
        }
        self.configure(at, backend, events);
        Ok(())
    }

    /// A group goes: commands that name its devices do nothing from now on.
    pub fn remove(&mut self, group: usize) {
        self.members.retain(|member| member.group != group);
        self.entry_at = 0;
    }

    /// A reset of the VM: everything is off; the caller has put the devices behind stage 2 alone.
    pub fn reset(&mut self, events: &Events) {
        *events.lock() = EventSide::new(self.identity);
        let mut fresh = Self::new(self.identity);
        fresh.members = core::mem::take(&mut self.members);
        fresh.members.iter_mut().for_each(|member| member.nested = false);
        fresh.counts = self.counts;
        *self = fresh;
    }

    pub(super) fn set_cr0(
        &mut self,
        value: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Progress {
        use register::{ATSCHK, CMDQEN, EVENTQEN, SMMUEN};
        let known = SMMUEN | EVENTQEN | CMDQEN | if self.identity.ats() { ATSCHK } else { 0 };
        let (before, now) = (self.cr0, value & known);
        self.cr0 = now;
        events.lock().set_enabled(now & EVENTQEN != 0);
        if (before ^ now) & SMMUEN != 0 {
            self.configure_all(backend, events);
        }
        self.advance(backend, events)
    }

    /// GBPA (§6.3.14): what passes while the SMMU is off.
    pub(super) fn set_gbpa(&mut self, value: u32, backend: &mut dyn Backend, events: &Events) {
        if value & register::GBPA_UPDATE == 0 {
            return;
        }
        let before = self.gbpa;
        self.gbpa = value & register::GBPA_ABORT;
        if self.gbpa != before && self.cr0 & register::SMMUEN == 0 {
            self.configure_all(backend, events);
        }
    }

    fn configure_all(&mut self, backend: &mut dyn Backend, events: &Events) {
        for at in 0..self.members.len() {
            self.configure(at, backend, events);
        }
    }

    /// Brings one group to what the guest says of it now: its entry is read once.
    pub(super) fn configure(&mut self, at: usize, backend: &mut dyn Backend, events: &Events) {
        let Some(member) = self.members.get(at) else { return };
        let (group, streams) = (member.group, member.streams.clone());
        let entry = self.wanted(&streams, backend);
        let attached = backend.attach(group, &entry);
        self.counts.entries = self.counts.entries.saturating_add(1);
        if let Some(member) = self.members.get_mut(at) {
            member.nested = attached == Ok(true);
        }
        if attached.is_err() {
            self.counts.refused = self.counts.refused.saturating_add(1);
            // Never a command error: the stream aborts, and an event says why (§4.3.1).
            for &stream in &streams {
                let signal = self.report(EventNumber::BadSte, stream, backend, events);
                notify(signal, backend, events);
            }
        }
    }

    /// The entry for a group: what the table says of its devices where all of them agree.
    fn wanted(&self, streams: &[u32], backend: &mut dyn Backend) -> Words {
        if self.cr0 & register::SMMUEN == 0 {
            let abort = self.gbpa & register::GBPA_ABORT != 0;
            return fixed(if abort { Config::Abort } else { Config::Bypass });
        }
        let mut common = None;
        for &stream in streams {
            let entry = match self.table.find(stream, &self.identity, backend) {
                Found::Entry(words) => words,
                Found::Outside | Found::Nowhere => fixed(Config::Abort),
            };
            if common.is_some_and(|common| common != entry) {
                return fixed(Config::Abort);
            }
            common = Some(entry);
        }
        common.unwrap_or(fixed(Config::Abort))
    }

    /// An event of the virtual SMMU's own making.
    fn report(
        &self,
        number: EventNumber,
        stream: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Signal {
        let mut record = [0; 4];
        EventRecord::NUMBER.set(&mut record, number as u64);
        EventRecord::STREAM_ID.set(&mut record, u64::from(stream));
        events.lock().push(&record, |at, bytes| backend.write(at, bytes))
    }
}

/// An entry of the hypervisor's own that does one thing for everything.
fn fixed(config: Config) -> Words {
    let mut words = [0; 8];
    Ste::V.set(&mut words, 1);
    Ste::CONFIG.set(&mut words, config as u64);
    words
}

/// Tells the guest: by its message where it gave an address, else by the wire.
pub(super) fn notify(signal: Signal, outlet: &mut dyn Outlet, events: &Events) {
    let (event, error) = events.lock().messages();
    if signal.event && !say(event, Wire::Event, outlet) {
        // A message that finds no memory is an error of its own (§7.5).
        let second = events.lock().raise(register::MSI_EVENTQ_ABT_ERR);
        if second.error {
            say(error, Wire::Error, outlet);
        }
    }
    if signal.error && !say(error, Wire::Error, outlet) {
        // Not announced: its own message is what failed.
        let _ = events.lock().raise(register::MSI_GERROR_ABT_ERR);
    }
}

/// False when the message found no memory.
fn say(message: super::events::Message, wire: Wire, outlet: &mut dyn Outlet) -> bool {
    if message.address == 0 {
        outlet.interrupt(wire);
        return true;
    }
    outlet.write(palisade_hal::Ipa::new(message.address), &message.data.to_le_bytes())
}
