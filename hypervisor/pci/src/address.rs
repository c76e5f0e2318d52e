//! Where a function is.

use core::fmt;

use pci_types::PciAddress;

/// Segment, bus, device and function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(PciAddress);

impl Address {
    /// A function by its requester ID (bus << 8 | device << 3 | function).
    pub fn new(segment: u16, requester: u16) -> Self {
        let [bus, slot] = requester.to_be_bytes();
        Self(PciAddress::new(segment, bus, slot >> 3, slot & 7))
    }

    /// A function by its parts; `device` below 32, `function` below 8.
    pub fn from_parts(segment: u16, bus: u8, device: u8, function: u8) -> Self {
        Self(PciAddress::new(segment, bus, device & 31, function & 7))
    }

    /// The segment.
    pub fn segment(self) -> u16 {
        self.0.segment()
    }

    /// The bus number.
    pub fn bus(self) -> u8 {
        self.0.bus()
    }

    /// The device number, 0..=31.
    pub fn device(self) -> u8 {
        self.0.device()
    }

    /// The function number, 0..=7.
    pub fn function(self) -> u8 {
        self.0.function()
    }

    /// The requester ID: bus << 8 | device << 3 | function.
    pub fn requester(self) -> u16 {
        u16::from_be_bytes([self.bus(), (self.device() << 3) | self.function()])
    }

    /// Segment and requester ID in one word, as manifests name devices.
    pub fn number(self) -> u32 {
        (u32::from(self.segment()) << 16) | u32::from(self.requester())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
