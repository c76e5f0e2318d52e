//! Devices as the core knows them: a number, a name, their StreamIDs.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use palisade_hal::StreamId;

/// Number of a device, chosen by whoever announces it (for PCI: segment and BDF).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(u32);

impl DeviceId {
    /// A device's number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What is said of a device when it is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub id: DeviceId,
    /// Its name in messages and reports.
    pub name: String,
    /// Phandle of the IOMMU before it, if there is one.
    pub iommu: Option<u32>,
    /// Every StreamID that its transactions can carry, aliases included.
    pub streams: Vec<StreamId>,
    /// Devices that the bus cannot tell apart, or that reach each other without passing the
    /// IOMMU, carry the same number here. Devices that share a StreamID are joined anyway.
    pub isolation: Option<u32>,
}
