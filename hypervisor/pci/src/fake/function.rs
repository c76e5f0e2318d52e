//! A function of the fake hierarchy, built step by step.

use std::vec::Vec;

use crate::bar;
use crate::regs::{
    acs, advanced, ats, bridge, capability, express, extended, header, msi, msix, power, sriov,
};

const SPACE: usize = 4096;

/// A function of the fake hierarchy.
pub struct FakeFunction {
    pub(super) device: u8,
    pub(super) function: u8,
    pub(super) bytes: Vec<u8>,
    /// Bits that a write changes.
    pub(super) writable: Vec<u8>,
    pub(super) children: Vec<FakeFunction>,
    pub(super) express: Option<u16>,
    pub(super) power: Option<u16>,
    pub(super) advanced: Option<u16>,
    /// Where the next capability goes, and the pointer to it.
    next: (u8, u8),
    next_extended: u16,
    /// Ticks from a reset until it answers.
    pub(super) reset_ticks: u64,
    pub(super) ready_at: u64,
    /// A transfer and when it is due.
    pub(super) armed: Option<u64>,
    /// A reset does not cancel the transfer.
    pub(super) survives_reset: bool,
    /// Bus mastering stays on whatever is written.
    pub(super) stuck_master: bool,
    /// Its identity after a reset, if it changes.
    pub(super) changes_to: Option<u32>,
    pub(super) resets: usize,
}

impl FakeFunction {
    /// An endpoint with Vendor ID and Device ID in one word.
    pub fn endpoint(device: u8, function: u8, id: u32) -> Self {
        let mut this = Self {
            device,
            function,
            bytes: std::vec![0; SPACE],
            writable: std::vec![0; SPACE],
            children: Vec::new(),
            express: None,
            power: None,
            advanced: None,
            next: (0x40, header::CAPABILITIES as u8),
            next_extended: extended::START,
            reset_ticks: 1000,
            ready_at: 0,
            armed: None,
            survives_reset: false,
            stuck_master: false,
            changes_to: None,
            resets: 0,
        };
        this.put32(header::ID, id);
        this.put32(header::CLASS, 0x00ff_0000);
        this.allow16(header::COMMAND, 0x0507);
        this.allow16(header::INTERRUPT_LINE, 0x00ff);
        this
    }

    /// A bridge with 64-bit prefetchable window and the devices behind it.
    pub fn bridge(device: u8, function: u8, children: Vec<FakeFunction>) -> Self {
        let mut this = Self::endpoint(device, function, 0x000c_1b36);
        this.put32(header::CLASS, 0x0604_0000);
        this.bytes[usize::from(header::HEADER_TYPE)] = 1;
        this.allow32(bridge::BUSES, 0x00ff_ffff);
        this.allow16(bridge::IO, 0xf0f0);
        this.allow32(bridge::MEMORY, 0xfff0_fff0);
        this.put32(bridge::PREFETCHABLE, 0x0001_0001);
        this.allow32(bridge::PREFETCHABLE, 0xfff0_fff0);
        this.allow32(bridge::PREFETCHABLE_BASE_UPPER, u32::MAX);
        this.allow32(bridge::PREFETCHABLE_LIMIT_UPPER, u32::MAX);
        this.allow16(bridge::CONTROL, bridge::SECONDARY_RESET);
        this.children = children;
        this
    }

    /// A root port with ACS.
    pub fn root_port(device: u8, children: Vec<FakeFunction>) -> Self {
        Self::bridge(device, 0, children).express(4, false).acs(acs::ISOLATING)
    }

    /// Marks the device as one with more functions.
    pub fn multi_function(mut self) -> Self {
        self.bytes[usize::from(header::HEADER_TYPE)] |= header::MULTI_FUNCTION;
        self
    }

    /// A 32-bit BAR.
    pub fn bar32(mut self, index: u8, size: u32) -> Self {
        self.allow32(bar::offset(index), !(size - 1));
        self
    }

    /// A 64-bit BAR.
    pub fn bar64(mut self, index: u8, size: u64, prefetchable: bool) -> Self {
        let [low, high] = bar::halves(!(size - 1));
        self.put32(bar::offset(index), if prefetchable { 0xc } else { 4 });
        self.allow32(bar::offset(index), low);
        self.allow32(bar::offset(index) + 4, high);
        self
    }

    /// A BAR register that reads as `value` and keeps what `writable` allows.
    pub fn odd_bar(mut self, index: u8, value: u32, writable: u32) -> Self {
        self.put32(bar::offset(index), value);
        self.allow32(bar::offset(index), writable);
        self
    }

    /// An I/O BAR.
    pub fn bar_io(mut self, index: u8, size: u16) -> Self {
        self.put32(bar::offset(index), 1);
        self.allow32(bar::offset(index), u32::from(!(size - 1)) & !3);
        self
    }

    /// The same without the window for I/O ports that a bridge need not have.
    pub fn without_io(mut self) -> Self {
        self.allow16(bridge::IO, 0);
        self
    }

    /// The interrupt pin, 1 = INTA.
    pub fn pin(mut self, pin: u8) -> Self {
        self.bytes[usize::from(header::INTERRUPT_PIN)] = pin;
        self
    }

    /// A PCI Express capability with this port type.
    pub fn express(mut self, port: u16, flr: bool) -> Self {
        let at = self.capability(capability::EXPRESS, 0x3c);
        self.put16(at + express::CAPABILITIES, (port << 4) | 2);
        self.put32(at + express::DEVICE_CAPABILITIES, if flr { express::FLR } else { 0 });
        self.allow16(at + express::DEVICE_CONTROL, 0x7fff);
        self.express = Some(at);
        self
    }

    /// A Power Management capability that resets on the way back from D3hot,
    /// unless `soft` says No_Soft_Reset.
    pub fn power(mut self, soft: bool) -> Self {
        let at = self.capability(capability::POWER, 8);
        self.put16(at + power::CONTROL, if soft { power::NO_SOFT_RESET } else { 0 });
        self.allow16(at + power::CONTROL, power::STATE);
        self.power = Some(at);
        self
    }

    /// An Advanced Features capability with function-level reset.
    pub fn advanced(mut self) -> Self {
        let at = self.capability(capability::ADVANCED, 8);
        self.bytes[usize::from(at + advanced::CAPABILITIES)] = advanced::FLR | advanced::TP;
        self.advanced = Some(at);
        self
    }

    /// An MSI-X capability.
    pub fn msix(mut self, vectors: u16, bar: u8, offset: u32, pending: u32) -> Self {
        let at = self.capability(capability::MSIX, 12);
        self.put16(at + msix::CONTROL, vectors - 1);
        self.allow16(at + msix::CONTROL, msix::ENABLE | msix::MASK_ALL);
        self.put32(at + msix::TABLE, offset | u32::from(bar));
        self.put32(at + msix::PBA, pending | u32::from(bar));
        self
    }

    /// An ACS capability that offers `offered`.
    pub fn acs(mut self, offered: u16) -> Self {
        let at = self.extended(extended::ACS, 8);
        self.put16(at + acs::CAPABILITY, offered);
        self.allow16(at + acs::CONTROL, offered);
        self
    }

    /// An MSI capability with these bits in Message Control (7.7.1).
    pub fn msi(mut self, control: u16) -> Self {
        let wide = control & msi::WIDE != 0;
        let masks = control & msi::MASKS != 0;
        let size = if wide { 14 } else { 10 } + if masks { 10 } else { 0 };
        let at = self.capability(capability::MSI, u8::next_multiple_of(size, 4));
        self.put16(at + msi::CONTROL, control);
        self.allow16(at + msi::CONTROL, msi::ENABLE | msi::MULTIPLE_ENABLE);
        self.allow32(at + msi::ADDRESS, !3);
        if wide {
            self.allow32(at + 8, u32::MAX);
        }
        self.allow16(at + if wide { 12 } else { 8 }, u16::MAX);
        if masks {
            self.allow32(at + if wide { 16 } else { 12 }, u32::MAX);
        }
        self
    }

    /// An SR-IOV capability whose virtual functions firmware left on.
    pub fn sriov(mut self) -> Self {
        let at = self.extended(extended::SRIOV, 0x40);
        let on = sriov::VF_ENABLE | sriov::VF_MEMORY;
        self.allow16(at + sriov::CONTROL, on);
        self.put16(at + sriov::CONTROL, on);
        self
    }

    /// Device Control as firmware left it.
    pub fn device_control(mut self, value: u16) -> Self {
        if let Some(at) = self.express {
            self.put16(at + express::DEVICE_CONTROL, value);
        }
        self
    }

    /// An ATS capability.
    pub fn ats(mut self) -> Self {
        let at = self.extended(extended::ATS, 8);
        self.allow16(at + ats::CONTROL, ats::CONTROL_ENABLE | 0x1f);
        self
    }

    /// An ATS capability that firmware left on.
    pub fn ats_left_on(self) -> Self {
        let mut this = self.ats();
        let mut at = extended::START;
        while this.get16(at) != extended::ATS {
            at = this.get16(at + 2) >> 4;
        }
        this.put16(at + ats::CONTROL, ats::CONTROL_ENABLE);
        this
    }

    /// The same at another place.
    pub fn at(mut self, device: u8, function: u8) -> Self {
        (self.device, self.function) = (device, function);
        self
    }

    /// An extended capability of `size` bytes that holds nothing.
    pub fn extended_capability(mut self, id: u16, size: u16) -> Self {
        self.extended(id, size);
        self
    }

    /// A byte of configuration space, as a hostile device would have it.
    pub fn byte(mut self, offset: u16, value: u8) -> Self {
        self.bytes[usize::from(offset)] = value;
        self
    }

    /// A capability list as a hostile device would have it: IDs and places, in this order.
    pub fn list(mut self, capabilities: &[(u8, u8)]) -> Self {
        let mut pointer = header::CAPABILITIES;
        for &(id, at) in capabilities {
            self.bytes[usize::from(pointer)] = at;
            self.bytes[usize::from(at)] = id;
            pointer = u16::from(at) + 1;
        }
        self.put16(header::STATUS, header::STATUS_CAPABILITIES);
        self
    }

    /// `count` bytes that a write changes.
    pub fn writable(mut self, at: u16, count: usize) -> Self {
        let at = usize::from(at);
        self.writable[at..at + count].fill(0xff);
        self
    }

    /// Ticks from a reset until it answers; `u64::MAX`: never.
    pub fn reset_takes(mut self, ticks: u64) -> Self {
        self.reset_ticks = ticks;
        self
    }

    /// Bus mastering cannot be switched off.
    pub fn stuck_master(mut self) -> Self {
        self.stuck_master = true;
        self
    }

    /// Comes back from a reset as another device.
    pub fn changes_to(mut self, id: u32) -> Self {
        self.changes_to = Some(id);
        self
    }

    /// A reset does not cancel an armed transfer.
    pub fn survives_reset(mut self) -> Self {
        self.survives_reset = true;
        self
    }

    fn capability(&mut self, id: u8, size: u8) -> u16 {
        let (at, pointer) = self.next;
        self.bytes[usize::from(pointer)] = at;
        self.bytes[usize::from(at)] = id;
        let status = self.get16(header::STATUS) | header::STATUS_CAPABILITIES;
        self.put16(header::STATUS, status);
        self.next = (at + size, at + 1);
        u16::from(at)
    }

    fn extended(&mut self, id: u16, size: u16) -> u16 {
        let at = self.next_extended;
        if at > extended::START {
            // Links the one before.
            let mut before = extended::START;
            while self.get16(before + 2) >> 4 != 0 {
                before = self.get16(before + 2) >> 4;
            }
            let version = self.get16(before + 2) & 0xf;
            self.put16(before + 2, (at << 4) | version);
        }
        self.put16(at, id);
        self.put16(at + 2, 1);
        self.next_extended = at + size;
        at
    }

    pub(super) fn get16(&self, at: u16) -> u16 {
        let at = usize::from(at);
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    pub(super) fn put16(&mut self, at: u16, value: u16) {
        let at = usize::from(at);
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn put32(&mut self, at: u16, value: u32) {
        let at = usize::from(at);
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: u16, mask: u16) {
        let at = usize::from(at);
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, at: u16, mask: u32) {
        let at = usize::from(at);
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.bytes[usize::from(header::HEADER_TYPE)] & 0x7f == 1
    }

    /// A bridge with a link behind it instead of a bus.
    pub(super) fn is_port(&self) -> bool {
        self.express.is_some_and(|at| matches!(self.get16(at + 2) >> 4, 4 | 6))
    }

    pub(super) fn mastering(&self) -> bool {
        self.get16(header::COMMAND) & header::COMMAND_MASTER != 0
    }

    /// Every writable bit back to 0.
    pub(super) fn reset(&mut self, now: u64) {
        for (byte, mask) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !mask;
        }
        if let Some(id) = self.changes_to {
            self.put32(header::ID, id);
        }
        if !self.survives_reset {
            self.armed = None;
        }
        self.resets += 1;
        self.ready_at = now.saturating_add(self.reset_ticks);
        for child in &mut self.children {
            child.reset(now);
        }
    }
}
