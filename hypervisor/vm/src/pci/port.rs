//! A virtual root port, so that a guest finds devices that the manifest puts on other buses
//! than 0.
//!
//! Its bus numbers are the guest's to write; it starts with those of the manifest. Its windows
//! can be written and mean nothing: the host maps a BAR wherever the guest puts it.

use alloc::boxed::Box;

use palisade_pci::regs::{bridge, capability, express, header};

use super::layout;
use super::shadow::Shadow;

/// Red Hat's generic root port, which every driver of ports knows.
const ID: u32 = 0x000c_1b36;
/// PCI-to-PCI bridge, revision 0.
const CLASS: u32 = 0x0604_0000;
/// Where the PCI Express capability stands.
const CAPABILITY: u16 = 0x40;
/// Version 2, Root Port (7.5.3.2).
const PORT: u16 = 0x0042;
/// Role-Based Error Reporting, which every port has (7.5.3.3).
const DEVICE_CAPABILITIES: u32 = 1 << 15;
/// Link Capabilities, Link Control and Status, Link Capabilities 2: 2.5 GT/s, one lane.
const LINK: [(u16, u32); 3] = [(0x0c, 0x11), (0x10, 0x11 << 16), (0x2c, 1 << 1)];
/// What a guest changes of Bridge Control; not the reset.
const CONTROL: u16 = 0x001f;

/// A root port with one bus behind it.
pub(super) struct RootPort {
    pub(super) bdf: u16,
    /// The bus that the manifest knows behind it.
    pub(super) bus: u8,
    shadow: Box<Shadow>,
}

impl RootPort {
    /// The port that leads to `bus`.
    pub(super) fn new(bus: u8) -> Self {
        let mut shadow = Shadow::new();
        shadow.own32(header::ID, ID, 0);
        let decode = header::COMMAND_IO | header::COMMAND_MEMORY;
        let command = decode | header::COMMAND_MASTER | header::COMMAND_INTX_OFF;
        shadow.own16(header::COMMAND, 0, command);
        shadow.own16(header::STATUS, header::STATUS_CAPABILITIES, 0);
        shadow.own32(header::CLASS, CLASS, 0);
        shadow.own8(header::HEADER_TYPE, 1, 0);
        shadow.own32(bridge::BUSES, u32::from_le_bytes([0, bus, bus, 0]), 0x00ff_ffff);
        shadow.own16(bridge::IO, 0x00f0, 0xf0f0);
        shadow.own32(bridge::MEMORY, 0x0000_fff0, 0xfff0_fff0);
        shadow.own32(bridge::PREFETCHABLE, 0x0001_fff1, 0xfff0_fff0);
        shadow.own32(bridge::PREFETCHABLE_BASE_UPPER, 0, u32::MAX);
        shadow.own32(bridge::PREFETCHABLE_LIMIT_UPPER, 0, u32::MAX);
        shadow.own8(header::CAPABILITIES, CAPABILITY as u8, 0);
        shadow.own8(header::INTERRUPT_LINE, 0, 0xff);
        shadow.own16(bridge::CONTROL, 0, CONTROL);
        shadow.own8(CAPABILITY, capability::EXPRESS, 0);
        shadow.own16(CAPABILITY + express::CAPABILITIES, PORT, 0);
        shadow.own32(CAPABILITY + express::DEVICE_CAPABILITIES, DEVICE_CAPABILITIES, 0);
        shadow.own16(CAPABILITY + express::DEVICE_CONTROL, 0, 0x7fff);
        for (offset, value) in LINK {
            shadow.own32(CAPABILITY + offset, value, 0);
        }
        Self { bdf: u16::from(layout::port(bus)) << 3, bus, shadow }
    }

    /// The number that the guest gave the bus behind it, 0 for none.
    pub(super) fn secondary(&self) -> u8 {
        self.shadow.get32(bridge::BUSES).to_le_bytes()[1]
    }

    pub(super) fn read(&self, at: u16, bytes: u16) -> u32 {
        self.shadow.read(at, bytes, 0)
    }

    pub(super) fn write(&mut self, at: u16, bytes: u16, value: u32) {
        self.shadow.write(at, bytes, value);
    }

    /// Every virtual register as at first.
    pub(super) fn power_on(&mut self) {
        *self = Self::new(self.bus);
    }
}
