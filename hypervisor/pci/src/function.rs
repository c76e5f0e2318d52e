//! A function as enumeration found it.

use crate::bar::{self, Bar, MAX_BARS};
use crate::ecam::Config;
use crate::msix::{self, MsixTable};
use crate::regs::{acs, advanced, capability, express, extended, header};
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
    /// leaves it deaf and mute: no decoding, no bus mastering, no INTx.
    pub(crate) fn probe(config: Config<'_>, parent: Option<usize>) -> Self {
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
        let bars = bar::read_all(config, bars);
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

    /// Writes back what a reset took: the BARs' addresses. Command becomes 0 but for
    /// INTx, which is off.
    ///
    /// # Errors
    /// [`Error::Unplaced`] if one does not hold its address.
    pub fn restore(&self, config: Config<'_>) -> Result<(), Error> {
        config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
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
    // Phantom functions would bring requester IDs that nobody announced.
    config.update16(at.saturating_add(express::DEVICE_CONTROL), express::PHANTOM_ENABLE, 0);
    let offered = config.read32(at.saturating_add(express::DEVICE_CAPABILITIES));
    Express { offset: at, port, flr: offered != u32::MAX && offered & express::FLR != 0 }
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
