//! Groups: the smallest sets of devices that can change owner.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use palisade_hal::StreamId;
use palisade_hal::lock::{Mutex, MutexGuard, Rank};

use crate::device::DeviceId;
use crate::domain::Domain;
use crate::driver::{ContextView, StreamPolicy};
use crate::instance::Instance;
use crate::waits::Waits;

/// What may be done with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Aborting, idle, owned by nobody.
    Free,
    /// Attached to a domain.
    Assigned,
    /// Its devices faulted more than they may: every stream aborts, whatever its owner asks for,
    /// until the operator ends it.
    Contained,
    /// Aborting; its devices may still have transactions under way until they are proven idle.
    Quarantined,
    /// Something did not answer: never to be used again.
    Dead,
}

impl Condition {
    /// The word that reports and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Assigned => "assigned",
            Self::Contained => "contained",
            Self::Quarantined => "quarantined",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a group's devices were proven idle after their last owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Reset, the wait over, and it answers again.
    Reset,
    /// The manifest says that it needs none, and its settling time is over.
    Waived,
}

/// How the streams of an assigned group are configured.
#[derive(Clone)]
pub(crate) enum Mode {
    /// Stage 2 of the domain, or identity.
    Plain,
    /// Context tables of the hypervisor, fetched through a view of the VM.
    Contexts(Arc<dyn ContextView + Send + Sync>),
    /// An entry of the guest's own making, the same for every stream.
    Guest([u64; 8]),
}

impl Mode {
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// A group's tie to a domain.
pub(crate) struct Attachment {
    pub(crate) domain: Arc<Domain>,
    pub(crate) policy: StreamPolicy,
    pub(crate) mode: Mode,
}

pub(crate) struct State {
    pub(crate) devices: Vec<DeviceId>,
    pub(crate) streams: Vec<StreamId>,
    /// Where it is on its way from owner to owner; never [`Condition::Contained`], which hides it.
    pub(crate) condition: Condition,
    /// Its devices faulted more than they may, and the operator has not ended it.
    pub(crate) contained: bool,
    pub(crate) attachment: Option<Attachment>,
}

/// Devices that move together: all their streams or none.
///
/// Lock order: after the VM's map, before domains and drivers.
pub struct Group {
    instance: Arc<Instance>,
    isolation: Option<u32>,
    waits: Waits,
    state: Mutex<State>,
}

impl Group {
    pub(crate) fn new(instance: Arc<Instance>, isolation: Option<u32>) -> Self {
        let state = State {
            devices: Vec::new(),
            streams: Vec::new(),
            condition: Condition::Free,
            contained: false,
            attachment: None,
        };
        Self { instance, isolation, waits: Waits::default(), state: Mutex::new(Rank::Group, state) }
    }

    /// The IOMMU before it.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Its condition.
    pub fn condition(&self) -> Condition {
        self.state.lock().condition()
    }

    /// Its devices.
    pub fn devices(&self) -> Vec<DeviceId> {
        self.state.lock().devices.clone()
    }

    /// Its streams.
    pub fn streams(&self) -> Vec<StreamId> {
        self.state.lock().streams.clone()
    }

    /// Changes of its streams' entries.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The domain it is attached to.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.state.lock().attachment.as_ref().map(|attachment| attachment.domain.clone())
    }

    pub(crate) fn isolation(&self) -> Option<u32> {
        self.isolation
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// What may be done with the group.
    pub(crate) fn condition(&self) -> Condition {
        match self.condition {
            Condition::Free | Condition::Assigned if self.contained => Condition::Contained,
            condition => condition,
        }
    }

    /// The device to name in messages.
    pub(crate) fn first_device(&self) -> DeviceId {
        self.devices.first().copied().unwrap_or(DeviceId::new(0))
    }
}
