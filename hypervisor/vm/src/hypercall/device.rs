//! A device, as a guest's interface knows it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::StreamId;
use palisade_iommu::{Group, StreamPolicy};

/// A device of the VM, as the service needs to know it.
#[derive(Clone)]
pub struct ServiceDevice {
    /// The guest's number for it.
    pub number: u32,
    /// Its group, assigned to the VM's domain.
    pub group: Arc<Group>,
    /// Its streams, aliases included.
    pub streams: Vec<StreamId>,
    /// What the manifest allows.
    pub policy: StreamPolicy,
}
