//! Stage 1 over a VM's stage 2: context tables of the hypervisor, or of the guest.
//!
//! Both start from an assigned group and leave everything of stage 2 as it is. The first way
//! gives the core a table that it binds processes in; the second takes the guest's own entry,
//! of which the driver copies only the fields that a guest may choose.

use crate::driver::Feature;
use alloc::sync::Arc;

use palisade_hal::{StreamId, Vmid};

use crate::attach::{abort_all, configure, destroy_contexts, is_fatal};
use crate::domain::Domain;
use crate::driver::{
    ContextView, DefaultSubstream, DriverError, Invalidation, Response, StageTwo, StreamPolicy,
    StreamState,
};
use crate::error::Error;
use crate::fault::Owner;
use crate::group::{Attachment, Condition, Group, Mode, State};
use crate::pasid::StreamContexts;
use crate::registry::Iommus;

impl Iommus {
    /// Puts an assigned group behind context tables of the hypervisor with `2^bits` substreams
    /// each, nested over its domain. The result is the store of a PASID table.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Mode`] if it is nested already; [`Error::Condition`] if it is
    /// contained; `Unsupported` without nesting; or the driver's. Everything is then as it was, or
    /// the group is dead.
    pub fn enable_contexts(
        &self,
        group: &Group,
        owner: Owner,
        bits: u8,
        default: DefaultSubstream,
        view: Arc<dyn ContextView + Send + Sync>,
    ) -> Result<StreamContexts, Error> {
        let instance = group.instance();
        let streams = {
            let mut state = group.lock();
            state.owned_plain(owner)?;
            state.uncontained()?;
            let capabilities = instance.capabilities();
            if !capabilities.nested {
                return Err(DriverError::Unsupported(Feature::Nested).into());
            }
            if bits > capabilities.substream_bits {
                return Err(DriverError::Unsupported(Feature::Substreams).into());
            }
            state.streams.clone()
        };
        // The view takes the VM's map, which comes before the group: the tables are made while
        // nothing points at them, and whoever makes the first stream's makes them all.
        for (done, &stream) in streams.iter().enumerate() {
            if let Err(error) = instance.driver().create_contexts(stream, bits, &*view) {
                destroy_contexts(instance, streams.get(..done).unwrap_or_default(), &*view)?;
                return Err(error.into());
            }
        }
        match self.nest(group, owner, default, &view) {
            Ok((vmid, ats)) => {
                let instance = instance.clone();
                Ok(StreamContexts { instance, streams, vmid, bits, ats, view })
            }
            Err(error) => {
                if let Err(also) = destroy_contexts(instance, &streams, &*view) {
                    log::error!("context tables that were not used: {also}");
                }
                Err(error)
            }
        }
    }

    /// Puts every stream of an assigned group behind the context table that was made for it, or
    /// none. Returns the VMID, and whether devices hold translations themselves.
    fn nest(
        &self,
        group: &Group,
        owner: Owner,
        default: DefaultSubstream,
        view: &Arc<dyn ContextView + Send + Sync>,
    ) -> Result<(Vmid, bool), Error> {
        let instance = group.instance();
        let mut guard = group.lock();
        let state = &mut *guard;
        // It may have changed hands, or have been contained, while nobody held it.
        let (domain, stage_two, policy) = state.owned_plain(owner)?;
        state.uncontained()?;
        // Counted first, so that no flush from now on leaves combined entries behind.
        domain.set_nested(instance, true);
        for (done, &stream) in state.streams.iter().enumerate() {
            let driver = instance.driver();
            let Err(error) = driver.attach_contexts(stream, Some(&stage_two), default, policy)
            else {
                continue;
            };
            let mut back = if is_fatal(error) { Err(error) } else { Ok(()) };
            for &stream in state.streams.iter().take(done).rev() {
                back = back.and_then(|()| configure(instance, stream, &domain, policy));
            }
            domain.set_nested(instance, false);
            if back.is_err() {
                self.kill(group, state);
            }
            return Err(error.into());
        }
        if let Some(attachment) = &mut state.attachment {
            attachment.mode = Mode::Contexts(view.clone());
        }
        Ok((stage_two.vmid, policy.ats))
    }

    /// Puts a nested group back behind stage 2 alone; everything of its stage 1 is forgotten. The
    /// streams of a contained one abort before and after. Tables bound in a PASID space are to be
    /// freed before, or abandoned after.
    ///
    /// # Errors
    /// [`Error::NotOwner`], [`Error::Mode`] if it is not nested; the driver's make it dead.
    pub fn disable_nesting(&self, group: &Group, owner: Owner) -> Result<(), Error> {
        let instance = group.instance();
        let mut guard = group.lock();
        let state = &mut *guard;
        let attachment = state.owned(owner)?;
        let (domain, policy) = (attachment.domain.clone(), attachment.policy);
        let mode = attachment.mode.clone();
        if mode.is_plain() {
            return Err(Error::Mode);
        }
        let mut answer = Ok(());
        for &stream in state.streams.iter().filter(|_| !state.contained) {
            answer = answer.and_then(|()| configure(instance, stream, &domain, policy));
        }
        if let Some(vmid) = domain.vmid() {
            let forget = || instance.driver().invalidate(&[Invalidation::StageOneOf(vmid)]);
            answer = answer.and_then(|()| forget());
        }
        domain.set_nested(instance, false);
        if let Err(error) = answer {
            self.kill(group, state);
            return Err(error.into());
        }
        if let Some(attachment) = &mut state.attachment {
            attachment.mode = Mode::Plain;
        }
        let Mode::Contexts(view) = mode else { return Ok(()) };
        // No entry points at them; the view takes the VM's map, which comes before the group.
        let streams = state.streams.clone();
        drop(guard);
        let destroyed = destroy_contexts(instance, &streams, &*view);
        if destroyed.is_err() {
            let mut state = group.lock();
            if state.owned(owner).is_ok() {
                self.kill(group, &mut state);
            }
        }
        destroyed.map_err(Error::from)
    }

    /// Configures every stream of a group by the guest's own entry, or none. Answers what they do
    /// then.
    ///
    /// # Errors
    /// [`Error::NotOwner`]; [`Error::Mode`] where the hypervisor owns the context tables; the
    /// driver's refusal names the word to blame. Everything is then as it was; if even the way
    /// back failed, the group is dead.
    pub fn attach_guest_entry(
        &self,
        group: &Group,
        owner: Owner,
        words: &[u64; 8],
    ) -> Result<StreamState, Error> {
        let instance = group.instance();
        let driver = instance.driver();
        let mut guard = group.lock();
        let state = &mut *guard;
        let attachment = state.owned(owner)?;
        let (domain, policy) = (attachment.domain.clone(), attachment.policy);
        let (old, stage_two) = match (&attachment.mode, domain.stage_two()) {
            (Mode::Plain, Some(stage_two)) => (None, stage_two),
            (Mode::Guest(old), Some(stage_two)) => (Some(*old), stage_two),
            _ => return Err(Error::Mode),
        };
        if !instance.capabilities().nested {
            return Err(DriverError::Unsupported(Feature::Nested).into());
        }
        state.uncontained()?;
        if old.is_none() {
            domain.set_nested(instance, true);
        }
        let mut now = StreamState::Abort;
        for (done, &stream) in state.streams.iter().enumerate() {
            let error = match driver.attach_nested(stream, &stage_two, policy, words) {
                Ok(answer) => {
                    now = answer;
                    continue;
                }
                Err(error) => error,
            };
            let mut back = if is_fatal(error) { Err(error) } else { Ok(()) };
            for &stream in state.streams.iter().take(done).rev() {
                back = back.and_then(|()| match &old {
                    None => configure(instance, stream, &domain, policy),
                    Some(old) => driver.attach_nested(stream, &stage_two, policy, old).map(drop),
                });
            }
            if done > 0 {
                let forget = || driver.invalidate(&[Invalidation::StageOneOf(stage_two.vmid)]);
                back = back.and_then(|()| forget());
            }
            if old.is_none() {
                domain.set_nested(instance, false);
            }
            if back.is_err() {
                self.kill(group, state);
            }
            return Err(error.into());
        }
        if let Some(attachment) = &mut state.attachment {
            attachment.mode = Mode::Guest(*words);
        }
        Ok(now)
    }

    /// Carries out a guest's own invalidation commands on the IOMMU of `group`. `stream`
    /// translates the guest's StreamIDs, as [`IommuDriver::cache_invalidate`] says; what it
    /// answers must be of the guest's groups. It is called under the group's lock.
    ///
    /// # Errors
    /// `(done, error)`, see [`IommuDriver::cache_invalidate`].
    ///
    /// [`IommuDriver::cache_invalidate`]: crate::IommuDriver::cache_invalidate
    pub fn guest_invalidate(
        &self,
        group: &Group,
        owner: Owner,
        stream: &dyn Fn(u32, usize) -> Option<StreamId>,
        words: &[[u64; 2]],
    ) -> Result<usize, (usize, Error)> {
        let mut state = group.lock();
        let attachment = state.owned(owner).map_err(|error| (0, error))?;
        let vmid = match (&attachment.mode, attachment.domain.vmid()) {
            (Mode::Guest(_), Some(vmid)) => vmid,
            _ => return Err((0, Error::Mode)),
        };
        let driver = group.instance().driver();
        let waits = attachment.domain.waits();
        let answer = waits.around(|| driver.cache_invalidate(vmid, stream, words));
        answer.map_err(|(done, error)| (done, error.into()))
    }

    /// Answers a stalled transaction of one of the owner's streams.
    ///
    /// # Errors
    /// [`Error::NotOwner`], [`Error::NotOfGroup`], [`Error::Mode`] where stalls are not
    /// allowed, or the driver's.
    pub fn resume(
        &self,
        group: &Group,
        owner: Owner,
        stream: StreamId,
        tag: u16,
        response: Response,
    ) -> Result<(), Error> {
        let mut state = group.lock();
        if !state.owned(owner)?.policy.stalls {
            return Err(Error::Mode);
        }
        if !state.streams.contains(&stream) {
            return Err(Error::NotOfGroup(stream));
        }
        group.instance().driver().resume(stream, tag, response).map_err(Error::from)
    }

    /// Neither forth nor back: every stream aborts, for good.
    pub(crate) fn kill(&self, group: &Group, state: &mut State) {
        let instance = group.instance();
        let _ = abort_all(instance, state.streams.iter());
        if let Some(attachment) = state.attachment.take() {
            attachment.domain.leave(instance, &[], false);
        }
        state.condition = Condition::Dead;
        for &stream in &state.streams {
            instance.routes().set_owner(stream, None);
        }
    }
}

impl State {
    /// Refuses what would let a contained group translate.
    fn uncontained(&self) -> Result<(), Error> {
        if self.contained {
            let (device, condition) = (self.first_device(), self.condition());
            return Err(Error::Condition { device, condition });
        }
        Ok(())
    }

    /// The attachment, if it is the owner who asks.
    pub(crate) fn owned(&mut self, owner: Owner) -> Result<&mut Attachment, Error> {
        match &mut self.attachment {
            Some(attachment) if attachment.domain.owner() == Some(owner) => Ok(attachment),
            _ => Err(Error::NotOwner),
        }
    }

    /// Domain, stage 2 and policy of an attachment that is not nested.
    fn owned_plain(
        &mut self,
        owner: Owner,
    ) -> Result<(Arc<Domain>, StageTwo, StreamPolicy), Error> {
        let attachment = self.owned(owner)?;
        match (&attachment.mode, attachment.domain.stage_two()) {
            (Mode::Plain, Some(stage_two)) => {
                Ok((attachment.domain.clone(), stage_two, attachment.policy))
            }
            _ => Err(Error::Mode),
        }
    }
}
