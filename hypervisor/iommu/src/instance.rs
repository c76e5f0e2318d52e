//! One registered IOMMU.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::StreamId;
use palisade_mem::Agent;

use crate::driver::{Capabilities, DriverError, Invalidation, IommuDriver};
use crate::fault::Routes;

/// One registered IOMMU: its driver, and the routes of its streams to their owners.
pub struct Instance {
    phandle: u32,
    driver: Arc<dyn IommuDriver>,
    agent: Agent,
    routes: Routes,
    ready: AtomicBool,
}

/// What makes an instance: given to `register`, and given back whole when that fails.
pub struct Registration {
    /// Phandle of the FDT node.
    pub phandle: u32,
    /// The driver, its hardware up and every stream aborting.
    pub driver: Arc<dyn IommuDriver>,
    /// The voice of this IOMMU in proofs that memory is out of reach.
    pub agent: Agent,
}

impl Instance {
    pub(crate) fn new(registration: Registration) -> Self {
        let Registration { phandle, driver, agent } = registration;
        Self { phandle, driver, agent, routes: Routes::new(), ready: AtomicBool::new(false) }
    }

    /// Undoes [`new`](Self::new).
    pub(crate) fn into_registration(self) -> Registration {
        Registration { phandle: self.phandle, driver: self.driver, agent: self.agent }
    }

    /// The phandle of its FDT node: its key.
    pub fn phandle(&self) -> u32 {
        self.phandle
    }

    /// Its driver.
    pub fn driver(&self) -> &dyn IommuDriver {
        &*self.driver
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    /// Registration came to its end, and it was not unregistered since.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Published last when registering, withdrawn first when unregistering.
    pub(crate) fn publish(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Invalidates one VMID, so that nothing of it is cached.
    pub(crate) fn flush_vmid(&self, vmid: palisade_hal::Vmid) -> Result<(), DriverError> {
        self.driver.invalidate(&[Invalidation::Vmid(vmid)])
    }

    /// Sets `stream` to abort.
    pub(crate) fn abort(&self, stream: StreamId) -> Result<(), DriverError> {
        self.driver.detach(stream)
    }
}
