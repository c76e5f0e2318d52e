//! A function as enumeration found it.

use crate::ats::set_ats;
use crate::bar::{self, Bar, MAX_BARS};
use crate::ecam::Config;
use crate::msix::{self, MsixTable};
use crate::regs::{acs, advanced, capability, express, extended, header, pasid, pri, sriov};
use crate::{Address, Error};

/// Device/Port Type (7.5.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortType {
    /// Endpoint behind a link.
    Endpoint,
    /// Root Port.
    RootPort,
    /// Upstream Port of a switch.
    Upstream,
    /// Downstream Port of a switch.
    Downstream,
    /// Bridge from PCI Express to PCI.
    ToConventional,
    /// Bridge from PCI to PCI Express.
    FromConventional,
    /// Endpoint or event collector inside the root complex.
    Integrated,
    /// A value that is not defined.
    Unknown,
}

/// The PCI Express capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Express {
    /// Where it starts.
    pub offset: u16,
    /// What the function is.
    pub port: PortType,
    /// It has function-level reset.
    pub flr: bool,
    /// Max_Payload_Size of Device Control as enumeration found it: a matter of the whole link.
    payload: u16,
}

/// What kind of header a function has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// Type 0.
    Endpoint,
    /// Type 1: a bridge, with the numbers of the buses behind it.
    Bridge {
        /// The bus behind it.
        secondary: u8,
        /// The last bus behind it.
        subordinate: u8,
    },
    /// Anything else. Never enabled, never assigned.
    Other,
}

/// A function as enumeration found it.
#[derive(Clone, Debug)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Vendor ID (low half) and Device ID (high half).
    pub id: u32,
    /// Revision ID (low byte) and Class Code (upper three).
    pub class: u32,
    /// What kind of header it has.
    pub header: Header,
    /// Its BARs.
    pub bars: [Option<Bar>; MAX_BARS],
    /// PCI Express capability; a conventional function has none.
    pub express: Option<Express>,
    /// Power Management capability: where it starts.
    pub power: Option<u16>,
    /// Advanced Features capability with function-level reset: where it starts.
    pub advanced: Option<u16>,
    /// ACS separates what must be apart; switched on by enumeration.
    pub isolates: bool,
    /// MSI-X table.
    pub msix: Option<MsixTable>,
    /// Interrupt pin: 1 = INTA … 4 = INTD, 0 = none.
    pub pin: u8,
    /// Index in the topology of the bridge above; `None` on the root bus.
    pub parent: Option<usize>,
}

impl Function {
    /// Reads the function at `config`, which has just been found present, and
    /// leaves it deaf and mute: no decoding, no bus mastering, no INTx. With `keep` the firmware's
    /// addresses stay in its BARs.
    pub(crate) fn probe(config: Config<'_>, parent: Option<usize>, keep: bool) -> Self {
        config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
        let kind = config.read8(header::HEADER_TYPE);
        let (header, bars, rom) = match kind & !header::MULTI_FUNCTION {
            0 => (Header::Endpoint, 6, header::ROM0),
            1 => (Header::Bridge { secondary: 0, subordinate: 0 }, 2, header::ROM1),
            _ => (Header::Other, 0, header::ROM0),
        };
        if header != Header::Other {
            config.write32(rom, 0);
        }
        firmware_off(config);
        let bars = bar::read_all(config, bars, keep);
        let express = config.capability(capability::EXPRESS).map(|at| read_express(config, at));
        let advanced = config.capability(capability::ADVANCED).filter(|at| {
            let offered = config.read8(at.saturating_add(advanced::CAPABILITIES));
            let both = advanced::FLR | advanced::TP;
            offered != 0xff && offered & both == both
        });
        Self {
            address: config.address(),
            id: config.read32(header::ID),
            class: config.read32(header::CLASS),
            header,
            bars,
            express,
            power: config.capability(capability::POWER),
            advanced,
            isolates: enable_acs(config, express.map(|express| express.port)),
            msix: msix::read(config, &bars),
            pin: match config.read8(header::INTERRUPT_PIN) {
                pin @ 1..=4 => pin,
                _ => 0,
            },
            parent,
        }
    }

    /// Whether it can be given to a VM at all.
    pub fn is_endpoint(&self) -> bool {
        self.header == Header::Endpoint
    }

    /// Whether it is a port of this type.
    pub(crate) fn is_port(&self, port: PortType) -> bool {
        self.express.is_some_and(|express| express.port == port)
    }

    /// Whether every memory BAR has an address.
    ///
    /// # Errors
    /// [`Error::Unplaced`].
    pub fn placed(&self) -> Result<(), Error> {
        let lost = |bar: &&Bar| bar.kind != bar::BarKind::Io && bar.cpu.is_none();
        match self.bars.iter().flatten().find(lost) {
            Some(_) => Err(Error::Unplaced(self.address)),
            None => Ok(()),
        }
    }

    /// Writes back what a reset took: the BARs' addresses, the payload size of its link
    /// (7.5.3.4), and ACS (7.7.8.3). Command becomes 0 but for INTx, which is off.
    ///
    /// # Errors
    /// [`Error::NotReady`] if there is no response yet, [`Error::Unplaced`] if a BAR does not
    /// hold its address, [`Error::NotApart`] if ACS does not go on again.
    pub fn restore(&self, config: Config<'_>) -> Result<(), Error> {
        if !config.present() {
            return Err(Error::NotReady(self.address));
        }
        config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
        if let Some(Express { offset, payload, .. }) = self.express {
            let control = offset.saturating_add(express::DEVICE_CONTROL);
            config.update16(control, express::PAYLOAD, payload);
        }
        let isolates = enable_acs(config, self.express.map(|express| express.port));
        if self.isolates && !isolates {
            return Err(Error::NotApart(self.address));
        }
        for bar in self.bars.iter().flatten() {
            bar.write(config);
            if !bar.holds(config) {
                return Err(Error::Unplaced(self.address));
            }
        }
        Ok(())
    }
}

fn read_express(config: Config<'_>, at: u16) -> Express {
    let flags = config.read16(at.saturating_add(express::CAPABILITIES));
    let port = match (flags >> 4) & 0xf {
        0 | 1 => PortType::Endpoint,
        4 => PortType::RootPort,
        5 => PortType::Upstream,
        6 => PortType::Downstream,
        7 => PortType::ToConventional,
        8 => PortType::FromConventional,
        9 | 10 => PortType::Integrated,
        _ => PortType::Unknown,
    };
    // Phantom functions would bring requester IDs that were not announced.
    let control = at.saturating_add(express::DEVICE_CONTROL);
    config.update16(control, express::PHANTOM_ENABLE, 0);
    let payload = config.read16(control) & express::PAYLOAD;
    let offered = config.read32(at.saturating_add(express::DEVICE_CAPABILITIES));
    Express { offset: at, port, flr: offered != u32::MAX && offered & express::FLR != 0, payload }
}

/// Switches off what firmware may have left on that lets a function send in another way or
/// under another requester ID than announced: its virtual functions (9.3.3.3), translations of
/// its own (10.5.1.3), page requests (10.5.2.1) and PASIDs (7.8.8.3).
fn firmware_off(config: Config<'_>) {
    let control =
        |id: u16, offset: u16| Some(config.extended_capability(id)?.saturating_add(offset));
    if let Some(at) = control(extended::SRIOV, sriov::CONTROL) {
        config.update16(at, sriov::VF_ENABLE | sriov::VF_MEMORY, 0);
    }
    set_ats(config, false);
    for (id, offset) in [(extended::PRI, pri::CONTROL), (extended::PASID, pasid::CONTROL)] {
        if let Some(at) = control(id, offset) {
            config.write16(at, 0);
        }
    }
}

/// Switches on what ACS offers; returns whether it separates. A port with a link
/// below needs more than a function of a device (7.7.8.2).
fn enable_acs(config: Config<'_>, port: Option<PortType>) -> bool {
    let Some(at) = config.extended_capability(extended::ACS) else { return false };
    let wanted = match port {
        Some(PortType::RootPort | PortType::Downstream) => acs::ISOLATING,
        _ => acs::ISOLATING_FUNCTION,
    };
    let control = at.saturating_add(acs::CONTROL);
    let offered = config.read16(at.saturating_add(acs::CAPABILITY));
    config.write16(control, offered & wanted);
    offered & wanted == wanted && config.read16(control) & wanted == wanted
}
