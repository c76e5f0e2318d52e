//! Errors of the IOMMU core.

use palisade_hal::StreamId;

use crate::device::DeviceId;
use crate::driver::DriverError;
use crate::fault::Owner;
use crate::group::Condition;

/// What the IOMMU core has a limited number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each message says it")]
pub enum Resource {
    #[error("fault route")]
    FaultRoute,
    #[error("owner slot")]
    OwnerSlot,
    #[error("VMID")]
    Vmid,
}

/// Why the core refused or failed; names the device, group or instance to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing stands between this device and memory.
    #[error("device {0}: no IOMMU before it")]
    NoIommu(DeviceId),
    /// The IOMMU before the device is known from the FDT but not (or not yet) in use.
    #[error("device {device}: IOMMU {phandle:#x} is not ready")]
    NotReady {
        /// The device.
        device: DeviceId,
        /// The instance's phandle.
        phandle: u32,
    },
    /// The IOMMU before the device cannot isolate it.
    #[error("device {device}: IOMMU {phandle:#x} has no stage 2")]
    NoStageTwo {
        /// The device.
        device: DeviceId,
        /// The instance's phandle.
        phandle: u32,
    },
    /// No such device was announced.
    #[error("device {0} is unknown")]
    UnknownDevice(DeviceId),
    /// The device was announced twice.
    #[error("device {0} was announced twice")]
    DuplicateDevice(DeviceId),
    /// No instance has this phandle.
    #[error("IOMMU {0:#x} is unknown")]
    UnknownInstance(u32),
    /// Another instance has this phandle.
    #[error("IOMMU {0:#x} is registered with another driver")]
    Conflict(u32),
    /// Devices of the instance are assigned.
    #[error("IOMMU {phandle:#x} is in use: device {device} is assigned")]
    InUse {
        /// The instance's phandle.
        phandle: u32,
        /// One of the devices.
        device: DeviceId,
    },
    /// A new device would tie together groups that are already in use apart.
    #[error("device {0} would tie together groups that are in use")]
    Tangled(DeviceId),
    /// The group is assigned already.
    #[error("device {device} is assigned to VM {}", owner.index())]
    Assigned {
        /// First device of the group.
        device: DeviceId,
        /// Its owner.
        owner: Owner,
    },
    /// The group is in a condition that forbids the operation.
    #[error("device {device} is {condition}")]
    Condition {
        /// First device of the group.
        device: DeviceId,
        /// Its condition.
        condition: Condition,
    },
    /// The one who asks does not own the object.
    #[error("not the owner")]
    NotOwner,
    /// The handle's owner has gone.
    #[error("owner has gone")]
    StaleOwner,
    /// The domain is in use, or has been given up.
    #[error("domain is in use or retired")]
    Domain,
    /// A detach from the domain was not confirmed: what it maps may be reachable still, for good.
    #[error("IOMMU {phandle:#x} did not confirm a detach from the domain: all of it stays away")]
    Unclean {
        /// The instance's phandle.
        phandle: u32,
    },
    /// The operation does not fit the kind of the domain, or the way the group is attached.
    #[error("operation does not fit the attachment")]
    Mode,
    /// A stream of the group does not belong to it.
    #[error("stream {0} is not of this group")]
    NotOfGroup(StreamId),
    /// All numbers of this kind are used up.
    #[error("no {0} left")]
    Exhausted(Resource),
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// No memory for the core's own lists.
    #[error("out of memory")]
    NoMemory,
}

// Two registers carry it.
const _: () = assert!(size_of::<Result<(), Error>>() <= 16);
