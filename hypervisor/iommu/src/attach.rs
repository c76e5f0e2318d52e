//! Assigning groups to domains, and taking them back.
//!
//! A group changes owner only along Free → Assigned → Quarantined → Free. Taking it back is
//! done in one order: every stream aborts (entry, configuration invalidated, synchronised), the
//! domain's translations are invalidated and synchronised, what the IOMMU recorded of the old
//! owner is delivered to the old owner, and only then the group leaves its domain. It stays
//! quarantined until its devices are proven idle.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::device::DeviceId;
use crate::domain::{Domain, DomainKind};
use crate::driver::{ContextView, DriverError, Invalidation, StreamPolicy, StreamState};
use crate::error::Error;
use crate::fault::{Owner, Storms};
use crate::group::{Attachment, Condition, Group, Idle, Mode, State};
use crate::instance::Instance;
use crate::registry::Iommus;

/// Records that a detach takes from the queue at most before it lets the owner go.
const DRAIN_ROUNDS: usize = 64;
const DRAIN_BUDGET: usize = 256;

/// One line of the posture report.
#[derive(Clone, Debug)]
pub struct Posture {
    /// Phandle of the IOMMU.
    pub phandle: u32,
    /// The stream.
    pub stream: palisade_hal::StreamId,
    /// The devices that use it: all of the group.
    pub devices: Vec<DeviceId>,
    /// The VM that owns it.
    pub owner: Option<Owner>,
    /// What its entry in memory says now.
    pub state: StreamState,
    /// The condition of its group.
    pub condition: Condition,
}

impl Iommus {
    /// Gives a free group to a domain: every stream of it, or none.
    ///
    /// # Errors
    /// [`Error::Assigned`], [`Error::Condition`], [`Error::NoStageTwo`], [`Error::StaleOwner`],
    /// or the driver's error; everything is then as it was. If even the way back failed, the
    /// group is dead.
    pub fn assign(
        &self,
        group: &Arc<Group>,
        domain: &Arc<Domain>,
        policy: StreamPolicy,
    ) -> Result<(), Error> {
        let instance = group.instance();
        let mut state = group.lock();
        let device = state.first_device();
        let phandle = instance.phandle();
        match (state.condition(), state.attachment.as_ref().and_then(|a| a.domain.owner())) {
            (Condition::Free, _) => {}
            (Condition::Assigned, Some(owner)) => return Err(Error::Assigned { device, owner }),
            (condition, _) => return Err(Error::Condition { device, condition }),
        }
        if !instance.is_ready() {
            return Err(Error::NotReady { device, phandle });
        }
        self.fits(instance, domain, device)?;
        let ats: &[_] = if policy.ats { &state.streams } else { &[] };
        // What its last owner did is not the next one's.
        instance.driver().renew_budget(&state.streams);
        domain.enter(instance, ats)?;
        // Routed before the first transaction can fault, so that none is charged to nobody.
        self.route(instance, &state, domain.owner());
        for (done, &stream) in state.streams.iter().enumerate() {
            let configured = group.waits().around(|| configure(instance, stream, domain, policy));
            if let Err(error) = configured {
                let back = abort_all(instance, state.streams.iter().take(done).rev())
                    .and(if done > 0 { forget(instance, domain, ats) } else { Ok(()) });
                let clean = back.is_ok() && !is_fatal(error);
                self.route(instance, &state, None);
                domain.leave(instance, ats, clean);
                if !clean {
                    state.condition = Condition::Dead;
                }
                return Err(error.into());
            }
        }
        state.condition = Condition::Assigned;
        state.attachment = Some(Attachment { domain: domain.clone(), policy, mode: Mode::Plain });
        Ok(())
    }

    /// Moves an assigned group to another domain of the same owner without an instant in which
    /// it translates by anything but the old or the new one.
    ///
    /// # Errors
    /// [`Error::NotOwner`] if the domains' owners differ; [`Error::Mode`] if the group is
    /// nested; else as [`assign`](Self::assign), everything being as it was.
    pub fn replace(&self, group: &Arc<Group>, domain: &Arc<Domain>) -> Result<(), Error> {
        let instance = group.instance();
        let mut state = group.lock();
        let device = state.first_device();
        let condition = state.condition();
        let State { streams, attachment, .. } = &mut *state;
        let Some(attachment) = attachment else {
            return Err(Error::Condition { device, condition });
        };
        if attachment.domain.owner() != domain.owner() {
            return Err(Error::NotOwner);
        }
        if !attachment.mode.is_plain() {
            return Err(Error::Mode);
        }
        if condition == Condition::Contained {
            return Err(Error::Condition { device, condition });
        }
        if Arc::ptr_eq(&attachment.domain, domain) {
            return Ok(());
        }
        self.fits(instance, domain, device)?;
        let (old, policy) = (attachment.domain.clone(), attachment.policy);
        let ats: &[_] = if policy.ats { streams } else { &[] };
        domain.enter(instance, ats)?;
        for (done, &stream) in streams.iter().enumerate() {
            let Err(error) = configure(instance, stream, domain, policy) else { continue };
            let mut back = if is_fatal(error) { Err(error) } else { Ok(()) };
            for &stream in streams.iter().take(done).rev() {
                back = back.and_then(|()| configure(instance, stream, &old, policy));
            }
            if done > 0 {
                back = back.and_then(|()| forget(instance, domain, ats));
            }
            domain.leave(instance, ats, back.is_ok());
            if back.is_err() {
                self.kill(group, &mut state);
            }
            return Err(error.into());
        }
        let forgotten = forget(instance, &old, ats);
        old.leave(instance, ats, forgotten.is_ok());
        attachment.domain = domain.clone();
        forgotten.map_err(Error::from)
    }

    /// Takes a group from its domain. When this returns `Ok`, every transaction of its devices
    /// aborts, the IOMMU holds nothing of the domain for it, and the group is quarantined.
    ///
    /// # Errors
    /// [`Error::Condition`] if it is not assigned; a driver's error makes the group dead: its
    /// entries say abort, but nothing that it could reach is proven out of reach.
    pub fn detach(&self, group: &Arc<Group>) -> Result<(), Error> {
        let instance = group.instance();
        let mut state = group.lock();
        let device = state.first_device();
        let Some(attachment) = state.attachment.take() else {
            return Err(Error::Condition { device, condition: state.condition() });
        };
        let domain = attachment.domain;
        // All of them, whatever one says.
        let aborted = group.waits().around(|| abort_all(instance, state.streams.iter()));
        let streams: &[_] = if attachment.policy.ats { &state.streams } else { &[] };
        let forgotten = domain.waits().around(|| forget(instance, &domain, streams));
        // What was recorded until now is the old owner's; after this nothing new can be. Who storms
        // meanwhile is contained when this group's lock is open again.
        let mut storms = Storms::new();
        for _ in 0..DRAIN_ROUNDS {
            let drained = self.take_records(instance, DRAIN_BUDGET);
            storms.extend(drained.storms.into_iter().take(storms.remaining_capacity()));
            if !drained.more {
                break;
            }
        }
        self.route(instance, &state, None);
        if !attachment.mode.is_plain() {
            domain.set_nested(instance, false);
        }
        let mut answer = aborted.and(forgotten);
        let (ats, streams) = (streams.to_vec(), state.streams.clone());
        drop(state);
        if let Mode::Contexts(view) = &attachment.mode {
            // The view takes the VM's map, which comes before the group. Meanwhile the group is
            // assigned to no domain: nothing can be done with it.
            answer = answer.and(destroy_contexts(instance, &streams, &**view));
        }
        domain.leave(instance, &ats, answer.is_ok());
        group.lock().condition =
            if answer.is_ok() { Condition::Quarantined } else { Condition::Dead };
        self.contain(instance, &storms);
        answer.map_err(Error::from)
    }

    /// Ends a quarantine: the devices of the group were proven idle.
    ///
    /// # Errors
    /// [`Error::Condition`] if the group is not quarantined.
    pub fn release(&self, group: &Group, _proven: Idle) -> Result<(), Error> {
        let mut state = group.lock();
        match state.condition {
            Condition::Quarantined => {
                state.condition = Condition::Free;
                Ok(())
            }
            _ => {
                let (device, condition) = (state.first_device(), state.condition());
                Err(Error::Condition { device, condition })
            }
        }
    }

    /// Gives a group up for good: its devices could not be proven idle. Its streams abort.
    pub fn bury(&self, group: &Arc<Group>) {
        let assigned = group.lock().attachment.is_some();
        // A failed detach makes it dead as well.
        if assigned && self.detach(group).is_err() {
            return;
        }
        group.lock().condition = Condition::Dead;
    }

    /// The posture of every stream that has a device, read back from the entries in memory.
    pub fn posture(&self) -> Vec<Posture> {
        let groups = self.inner.lock().groups.clone();
        let mut rows = Vec::new();
        for group in groups {
            let instance = group.instance();
            let state = group.lock();
            for &stream in &state.streams {
                rows.push(Posture {
                    phandle: instance.phandle(),
                    stream,
                    devices: state.devices.clone(),
                    owner: state.attachment.as_ref().and_then(|a| a.domain.owner()),
                    state: instance.driver().stream_state(stream),
                    condition: state.condition(),
                });
            }
        }
        rows
    }

    /// The instance can do what the domain needs, for an owner that still lives.
    fn fits(&self, instance: &Instance, domain: &Domain, device: DeviceId) -> Result<(), Error> {
        let DomainKind::Paging { owner, stage_two } = domain.kind() else { return Ok(()) };
        let capabilities = instance.capabilities();
        if !self.owners.is_open(owner) {
            return Err(Error::StaleOwner);
        }
        if !capabilities.stage2 || stage_two.vmid.get() > capabilities.vmid_max() {
            return Err(Error::NoStageTwo { device, phandle: instance.phandle() });
        }
        Ok(())
    }

    fn route(&self, instance: &Instance, state: &State, owner: Option<Owner>) {
        for &stream in &state.streams {
            instance.routes().set_owner(stream, owner);
        }
    }
}

/// Puts one stream behind `domain`.
pub(crate) fn configure(
    instance: &Instance,
    stream: palisade_hal::StreamId,
    domain: &Domain,
    policy: StreamPolicy,
) -> Result<(), DriverError> {
    match domain.kind() {
        DomainKind::Identity => instance.driver().attach_identity(stream),
        DomainKind::Paging { stage_two, .. } => {
            instance.driver().attach(stream, &stage_two, policy)
        }
    }
}

/// Sets every stream to abort; answers the first failure, after all were tried.
pub(crate) fn abort_all<'a>(
    instance: &Instance,
    streams: impl Iterator<Item = &'a palisade_hal::StreamId>,
) -> Result<(), DriverError> {
    let mut answer = Ok(());
    for &stream in streams {
        let aborted = instance.abort(stream);
        answer = answer.and(aborted);
    }
    answer
}

/// Makes the instance forget the domain, and the devices of `streams` everything.
fn forget(
    instance: &Instance,
    domain: &Domain,
    streams: &[palisade_hal::StreamId],
) -> Result<(), DriverError> {
    let mut answer = match domain.vmid() {
        Some(vmid) => instance.flush_vmid(vmid),
        None => Ok(()),
    };
    for &stream in streams {
        let start = palisade_hal::Iova::new(0);
        let item = Invalidation::Device { stream, substream: None, start, size: u64::MAX };
        answer = answer.and(instance.driver().invalidate(&[item]));
    }
    answer
}

/// Gives the context tables of `streams` back, which no entry points at: all of them, whatever one
/// says. The first stream's is the last, so that no others are made before all are gone. The
/// caller holds no group's lock: the view takes the VM's map.
pub(crate) fn destroy_contexts(
    instance: &Instance,
    streams: &[palisade_hal::StreamId],
    view: &dyn ContextView,
) -> Result<(), DriverError> {
    let destroy = |&stream| instance.driver().destroy_contexts(stream, view);
    streams.iter().rev().map(destroy).fold(Ok(()), Result::and)
}

/// After these nothing is known of what the hardware holds.
pub(crate) fn is_fatal(error: DriverError) -> bool {
    matches!(error, DriverError::Timeout(_) | DriverError::InvalidationTimeout | DriverError::Dead)
}
