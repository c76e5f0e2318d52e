//! Domains: what a group's transactions are translated by.
//!
//! A paging domain names the stage 2 of one VM's DMA view. The tables themselves belong to the
//! VM's memory map, which drives the CPU view and the DMA view alike; the domain knows which
//! IOMMUs could hold translations of them, and is the only one who can make those forget.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{Iova, Ipa, StreamId, Vmid};
use palisade_mem::{AgentSet, Closed, Proof, Scope, Space};

use crate::driver::{DriverError, Invalidation, StageTwo};
use crate::error::Error;
use crate::fault::Owner;
use crate::instance::Instance;
use crate::waits::Waits;

/// What a domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainKind {
    /// Everything passes untranslated. For devices that the hypervisor itself uses.
    Identity,
    /// Stage 2 of a VM.
    Paging {
        /// The VM.
        owner: Owner,
        /// Its tables.
        stage_two: StageTwo,
    },
}

/// What [`Domain::flush`] makes every IOMMU forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// The whole domain.
    All,
    /// A range of IPAs.
    Range {
        /// Start, aligned to 4 KiB.
        start: Ipa,
        /// Bytes.
        size: u64,
        /// Size of the leaf entries that changed, if one for all and no table was removed.
        leaf: Option<u64>,
    },
}

/// Invalidations that go to a driver together; nothing is allocated for them.
const BATCH: usize = 16;

/// One IOMMU that may hold translations of the domain.
struct Member {
    instance: Arc<Instance>,
    /// Groups attached through it.
    groups: u32,
    /// A group left without the IOMMU's word that it forgot: an entry of it may be cached still,
    /// and lead here. What others leave behind cleanly proves nothing about that one, nor does a
    /// later invalidation by VMID, which takes no entries; only a reset of the IOMMU would.
    unclean: bool,
    /// Some of them are nested, so combined entries may exist.
    nested: u32,
    /// Streams whose devices hold translations themselves (ATS).
    device_tlbs: Vec<StreamId>,
}

impl Member {
    /// Makes the IOMMU forget, and then the devices' own TLBs, in one batch: the driver puts the
    /// synchronisation between them, since a device asked too early could fetch anew what the
    /// IOMMU still holds.
    fn flush(&self, vmid: Vmid, what: Flush) -> Result<(), DriverError> {
        let mut batch = ArrayVec::<_, BATCH>::new();
        match what {
            Flush::All => batch.push(Invalidation::Vmid(vmid)),
            Flush::Range { start, size, leaf } => {
                batch.push(Invalidation::StageTwo { vmid, start, size, granule: 4096, leaf });
            }
        }
        // VMALL takes stage 1 with it; a range leaves combined entries behind.
        if let Flush::Range { .. } = what
            && self.nested > 0
        {
            batch.push(Invalidation::StageOneOf(vmid));
        }
        // A nested device is addressed by what its guest maps, not by IPAs.
        let (start, size) = match what {
            Flush::Range { start, size, .. } if self.nested == 0 => (start.get(), size),
            _ => (0, u64::MAX),
        };
        let start = Iova::new(start);
        let driver = self.instance.driver();
        for &stream in &self.device_tlbs {
            if batch.is_full() {
                driver.invalidate(&batch)?;
                batch.clear();
            }
            batch.push(Invalidation::Device { stream, substream: None, start, size });
        }
        driver.invalidate(&batch)
    }
}

struct State {
    members: Vec<Member>,
    /// Present while groups may be attached; given up once, for the one [`Closed`].
    space: Option<Space>,
    retired: bool,
}

impl State {
    fn attached(&self) -> bool {
        self.members.iter().any(|member| member.groups > 0)
    }
}

/// See the module's text. Lock order: after the group's lock, before any driver.
pub struct Domain {
    scope: Scope,
    kind: DomainKind,
    waits: Waits,
    state: Mutex<State>,
}

impl Domain {
    pub(crate) fn new(space: Space, kind: DomainKind) -> Self {
        let scope = space.scope();
        let state = State { members: Vec::new(), space: Some(space), retired: false };
        let state = Mutex::new(Rank::Domain, state);
        Self { scope, kind, waits: Waits::default(), state }
    }

    /// What it does.
    pub fn kind(&self) -> DomainKind {
        self.kind
    }

    /// Its address space in proofs.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Its VM, if it has one.
    pub fn owner(&self) -> Option<Owner> {
        match self.kind {
            DomainKind::Paging { owner, .. } => Some(owner),
            DomainKind::Identity => None,
        }
    }

    /// Its stage 2, if it has one.
    pub fn stage_two(&self) -> Option<StageTwo> {
        match self.kind {
            DomainKind::Paging { stage_two, .. } => Some(stage_two),
            DomainKind::Identity => None,
        }
    }

    /// Its VMID, if it has one.
    pub fn vmid(&self) -> Option<Vmid> {
        self.stage_two().map(|stage_two| stage_two.vmid)
    }

    /// The IOMMUs that may hold translations of this domain now; what is detached from the
    /// domain's tables must be proven forgotten by all of them. `None`: by none.
    pub fn agents(&self) -> Option<AgentSet> {
        let state = self.state.lock();
        let sets = state.members.iter().map(|member| member.instance.agent().set());
        sets.reduce(AgentSet::with)
    }

    /// Invalidations of its translations.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Groups attached.
    pub fn attached(&self) -> u32 {
        self.state.lock().members.iter().map(|member| member.groups).sum()
    }

    /// Makes every IOMMU of the domain forget `what`, and adds their words to `proof`.
    ///
    /// The caller holds its map lock from the change of the tables until this returns: a word
    /// speaks for everything that was detached before, so `what` must cover all of it.
    ///
    /// # Errors
    /// The first driver's error; `proof` then lacks that IOMMU's word, for good. The others
    /// are still flushed.
    pub fn flush(&self, what: Flush, proof: &mut Proof) -> Result<(), Error> {
        let Some(vmid) = self.vmid() else { return Ok(()) };
        let state = self.state.lock();
        let mut answer = Ok(());
        for member in &state.members {
            let ticket = member.instance.agent().begin(self.scope);
            match self.waits.around(|| member.flush(vmid, what)) {
                Ok(()) => proof.add(ticket.complete()),
                Err(error) => answer = answer.and(Err(error.into())),
            }
        }
        answer
    }

    /// Counts a group in that is about to be attached through `instance`; the devices of
    /// `device_tlbs` will hold translations themselves.
    pub(crate) fn enter(
        &self,
        instance: &Arc<Instance>,
        device_tlbs: &[StreamId],
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        if state.space.is_none() {
            return Err(Error::Domain);
        }
        if let Some(member) = find(&mut state.members, instance) {
            member.device_tlbs.try_reserve(device_tlbs.len()).map_err(|_| Error::NoMemory)?;
            member.device_tlbs.extend_from_slice(device_tlbs);
            member.groups += 1;
            return Ok(());
        }
        state.members.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let mut own = Vec::new();
        own.try_reserve_exact(device_tlbs.len()).map_err(|_| Error::NoMemory)?;
        own.extend_from_slice(device_tlbs);
        let instance = instance.clone();
        state.members.push(Member {
            instance,
            groups: 1,
            unclean: false,
            nested: 0,
            device_tlbs: own,
        });
        Ok(())
    }

    /// Counts a group out. `clean`: its IOMMU and the devices of `device_tlbs` have forgotten the
    /// domain since the group's last transaction; else the IOMMU stays a member for good, however
    /// clean the others leave.
    pub(crate) fn leave(&self, instance: &Arc<Instance>, device_tlbs: &[StreamId], clean: bool) {
        let mut state = self.state.lock();
        if let Some(member) = find(&mut state.members, instance) {
            if clean {
                member.device_tlbs.retain(|stream| !device_tlbs.contains(stream));
            }
            member.groups = member.groups.saturating_sub(1);
            member.unclean |= !clean;
            if member.groups == 0 && !member.unclean {
                state.members.retain(|member| !Arc::ptr_eq(&member.instance, instance));
            }
        }
    }

    /// Counts a group as nested, or no longer.
    pub(crate) fn set_nested(&self, instance: &Arc<Instance>, nested: bool) {
        let mut state = self.state.lock();
        if let Some(member) = find(&mut state.members, instance) {
            member.nested =
                if nested { member.nested + 1 } else { member.nested.saturating_sub(1) };
        }
    }

    /// Closes the domain: nothing can be attached any more. Returns the word that lets its tables,
    /// and the memory that they map, be released.
    ///
    /// # Errors
    /// [`Error::Domain`] while a group is attached (the domain stays open), or when it was closed
    /// before; [`Error::Unclean`] if an IOMMU did not confirm that it let go: then there is no
    /// such word, ever.
    pub fn close(&self) -> Result<Closed, Error> {
        let mut state = self.state.lock();
        if state.attached() {
            return Err(Error::Domain);
        }
        let space = state.space.take().ok_or(Error::Domain)?;
        match state.members.first() {
            None => Ok(space.close()),
            Some(member) => Err(Error::Unclean { phandle: member.instance.phandle() }),
        }
    }

    /// Ends the domain: nothing can be attached any more. Returns whether no IOMMU can hold
    /// anything of it.
    pub(crate) fn retire(&self) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if state.retired || state.attached() {
            return Err(Error::Domain);
        }
        state.retired = true;
        state.space = None;
        Ok(state.members.is_empty())
    }
}

fn find<'a>(members: &'a mut [Member], instance: &Arc<Instance>) -> Option<&'a mut Member> {
    members.iter_mut().find(|member| Arc::ptr_eq(&member.instance, instance))
}
