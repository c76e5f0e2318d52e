//! Finding every function and numbering the buses, depth first (7.3.1, 7.5.1.3.2).

use alloc::vec::Vec;

use palisade_board::PcieHost;

use crate::bridge;
use crate::ecam::Ecam;
use crate::function::{Function, Header, PortType};
use crate::keep::{self, Seen};
use crate::place;
use crate::regs::header;
use crate::topology::{MAX_FUNCTIONS, Topology};
use crate::{Address, Error};

/// Deepest chain of bridges that is followed.
pub(crate) const MAX_DEPTH: usize = 8;
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

impl Topology {
    /// Finds every function behind `host`, numbers the buses, places the BARs in
    /// the host's windows and opens the bridges. Afterwards no endpoint decodes
    /// anything or masters the bus. What does not work is told by
    /// [`problems`](Self::problems); the rest is usable.
    ///
    /// Where the host keeps what firmware set up, numbers, BARs and windows are read instead; what
    /// has none that can be right is refused, named.
    pub fn enumerate(ecam: Ecam, host: &PcieHost) -> Self {
        let (first, last) = ecam.buses();
        let mut scan = Scan {
            topology: Self { ecam, functions: Vec::new(), problems: Vec::new() },
            next_bus: u16::from(first).saturating_add(1),
            last_bus: u16::from(last),
            kept: host.keep.then(|| Seen::new(first)),
        };
        scan.bus(first, None, 0);
        if host.keep {
            scan.other_roots(first, last);
        }
        let mut topology = scan.topology;
        if host.keep {
            keep::place(&mut topology, host)
        } else {
            place::place(&mut topology, host)
        }
        topology
    }
}

struct Scan {
    topology: Topology,
    /// The next bus number to give away.
    next_bus: u16,
    last_bus: u16,
    /// Where firmware's numbers are kept: the buses that were scanned.
    kept: Option<Seen>,
}

impl Scan {
    fn problem(&mut self, error: Error) {
        if self.topology.problems.len() < MAX_FUNCTIONS {
            self.topology.problems.push(error);
        }
    }

    /// Scans one bus. Behind a port there is a link, with device 0 at its end;
    /// other numbers would reach the same device again.
    fn bus(&mut self, bus: u8, parent: Option<usize>, depth: usize) {
        let link = parent
            .and_then(|parent| self.topology.functions.get(parent)?.express)
            .is_some_and(|e| matches!(e.port, PortType::RootPort | PortType::Downstream));
        for device in 0..if link { 1 } else { DEVICES } {
            let segment = self.topology.ecam.segment();
            let zero = Address::from_parts(segment, bus, device, 0);
            // Function 0 is always there, and says whether there are others (7.5.1.1.9).
            let config = self.topology.ecam.config(zero);
            let kind = if config.present() { config.read8(header::HEADER_TYPE) } else { continue };
            let more = kind & header::MULTI_FUNCTION != 0;
            for function in 0..if more { FUNCTIONS } else { 1 } {
                let address = Address::from_parts(segment, bus, device, function);
                self.function(address, parent, depth);
            }
        }
    }

    /// Looks at one function.
    fn function(&mut self, address: Address, parent: Option<usize>, depth: usize) {
        let config = self.topology.ecam.config(address);
        if !config.present() {
            return;
        }
        if self.topology.functions.len() >= MAX_FUNCTIONS {
            // Firmware may have let it master the bus.
            config.write16(header::COMMAND, header::COMMAND_INTX_OFF);
            self.problem(Error::TooMany(address));
            return;
        }
        let function = Function::probe(config, parent, self.kept.is_some());
        let is_bridge = matches!(function.header, Header::Bridge { .. });
        let index = self.topology.functions.len();
        self.topology.functions.push(function);
        if is_bridge {
            self.bridge(address, index, depth);
        }
    }

    /// Scans buses that no bridge leads to: roots of their own, which one allocation of
    /// configuration space may have several of.
    fn other_roots(&mut self, first: u8, last: u8) {
        for bus in first..=last {
            if self.kept.as_mut().is_some_and(|seen| seen.take(bus)) {
                self.bus(bus, None, 0);
            }
        }
    }

    /// Follows a bridge by the numbers that it has.
    fn kept_bridge(&mut self, address: Address, index: usize, depth: usize) {
        let (secondary, subordinate) = keep::buses(self.topology.ecam.config(address));
        // A number that was used, or that lies outside, would lead into another's devices.
        let right = address.bus() < secondary
            && secondary <= subordinate
            && u16::from(subordinate) <= self.last_bus
            && depth < MAX_DEPTH
            && self.kept.as_mut().is_some_and(|seen| seen.take(secondary));
        if !right {
            // Closed, so that nothing behind it is taken for a root's.
            bridge::number(self.topology.ecam.config(address), 0, 0, 0);
            self.problem(Error::NoBus(address));
            return;
        }
        if let Some(function) = self.topology.functions.get_mut(index) {
            function.header = Header::Bridge { secondary, subordinate };
        }
        self.bus(secondary, Some(index), depth.saturating_add(1));
    }

    fn bridge(&mut self, address: Address, index: usize, depth: usize) {
        if self.kept.is_some() {
            return self.kept_bridge(address, index, depth);
        }
        let number = u8::try_from(self.next_bus).ok().filter(|_| self.next_bus <= self.last_bus);
        let (Some(secondary), true) = (number, depth < MAX_DEPTH) else {
            // Closed: a bridge whose numbers are 0 forwards nothing.
            bridge::number(self.topology.ecam.config(address), 0, 0, 0);
            self.problem(Error::NoBus(address));
            return;
        };
        self.next_bus = self.next_bus.saturating_add(1);
        let last = u8::try_from(self.last_bus).unwrap_or(u8::MAX);
        bridge::number(self.topology.ecam.config(address), address.bus(), secondary, last);
        self.bus(secondary, Some(index), depth.saturating_add(1));
        let subordinate = u8::try_from(self.next_bus.saturating_sub(1)).unwrap_or(u8::MAX);
        bridge::number(self.topology.ecam.config(address), address.bus(), secondary, subordinate);
        if let Some(function) = self.topology.functions.get_mut(index) {
            function.header = Header::Bridge { secondary, subordinate };
        }
    }
}
