//! Which devices the bus can tell apart: requester-ID aliases and ACS.

use arrayvec::ArrayVec;
use palisade_board::PcieHost;

use crate::enumerate::MAX_DEPTH;
use crate::function::{Function, Header, PortType};
use crate::topology::Topology;
use crate::{Address, Error};

/// StreamIDs of a function, aliases included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Streams {
    /// Phandle of the SMMU they lead to.
    pub controller: u32,
    /// StreamIDs at that SMMU, the function's own first.
    pub ids: ArrayVec<u32, 4>,
}

impl Topology {
    /// Every requester ID that the function's transactions can carry when they
    /// leave the root complex, its own first.
    pub fn requesters(&self, index: usize) -> ArrayVec<u16, { MAX_DEPTH + 1 }> {
        let mut ids = ArrayVec::new();
        let Some(function) = self.functions.get(index) else { return ids };
        ids.push(function.address.requester());
        for (_, bridge) in self.bridges(index) {
            let Header::Bridge { secondary, .. } = bridge.header else { continue };
            let alias = match bridge.express.map(|express| express.port) {
                // A PCI Express to PCI bridge takes ownership in the name of
                // device 0 on its secondary bus.
                Some(PortType::ToConventional) => u16::from(secondary) << 8,
                // Ports of the tree itself change nothing.
                Some(PortType::RootPort | PortType::Upstream | PortType::Downstream) => continue,
                // A conventional bridge, or one that says nonsense, in its own.
                _ => bridge.address.requester(),
            };
            if !ids.contains(&alias) && ids.try_push(alias).is_err() {
                break;
            }
        }
        ids
    }

    /// The requester ID that the function's messages carry: its own, or that of
    /// the last bridge above it that sends in its own name (PCI Express to PCI
    /// Bridge Specification 1.0, 2.3). Functions behind one bridge share it.
    pub fn message_requester(&self, index: usize) -> Option<u16> {
        self.requesters(index).last().copied()
    }

    /// The function's StreamIDs by the host's iommu-map; `None` where no SMMU
    /// stands before it.
    ///
    /// # Errors
    /// [`Error::SplitStreams`] if some of its requester IDs lead elsewhere than
    /// the others.
    pub fn streams(&self, index: usize, host: &PcieHost) -> Result<Option<Streams>, Error> {
        let address = self.function(index).map(|f| f.address);
        let split = || Error::SplitStreams(address.unwrap_or(Address::new(0, 0)));
        let mut streams: Option<Streams> = None;
        for (position, requester) in self.requesters(index).into_iter().enumerate() {
            match (host.iommu_map.lookup(requester), &mut streams) {
                (None, None) => {}
                (Some((controller, id)), None) if position == 0 => {
                    streams = Some(Streams { controller, ids: [id].into_iter().collect() });
                }
                (Some((controller, id)), Some(known)) if known.controller == controller => {
                    if !known.ids.contains(&id) {
                        known.ids.try_push(id).map_err(|_| split())?;
                    }
                }
                _ => return Err(split()),
            }
        }
        Ok(streams)
    }

    /// A number that endpoints share which may reach one another without passing
    /// the SMMU; `None` for one that stands alone.
    ///
    /// Walking up, each thing that does not separate widens the set: functions of
    /// one device unless all of them have ACS; everything behind a root port
    /// without ACS, or behind a bridge that is none; everything behind a switch of
    /// which one downstream port has no ACS, for what is behind that one sends
    /// straight into the devices behind the others (6.12.1).
    pub fn isolation(&self, index: usize) -> Option<u32> {
        let mut shared = None;
        let start = self.functions.get(index).map(|function| (index, function));
        for (at, function) in start.into_iter().chain(self.bridges(index)) {
            if !self.separates(at, function) {
                // Only downstream ports widen the set to what is above them.
                let top = function.parent.filter(|_| function.is_port(PortType::Downstream));
                let top = top.and_then(|parent| self.functions.get(parent)).unwrap_or(function);
                shared = Some(top.address.number() & !7);
            }
        }
        shared
    }

    /// Whether nothing passes between what is behind a function (the function
    /// itself, for an endpoint) and the rest of its device or switch.
    fn separates(&self, index: usize, function: &Function) -> bool {
        let apart = match (function.header, function.express.map(|express| express.port)) {
            (Header::Endpoint, _) => true,
            (_, Some(PortType::RootPort)) => function.isolates,
            (_, Some(PortType::Downstream)) => {
                let mut ports = self.functions.iter().filter(|f| f.parent == function.parent);
                ports.all(|port| port.isolates)
            }
            // Nothing meets in an upstream port; its downstream ports count.
            (_, Some(PortType::Upstream)) => true,
            _ => false,
        };
        let mut others = self.siblings(index).peekable();
        apart && (others.peek().is_none() || function.isolates && others.all(|f| f.isolates))
    }

    /// The other functions of a function's device. That there are some is not
    /// asked of its own header: only function 0's has to say so (7.5.1.1.9).
    fn siblings(&self, index: usize) -> impl Iterator<Item = &Function> {
        let device = self.functions.get(index).map(|function| function.address.number() & !7);
        let others = self.functions.iter().enumerate().filter(move |(other, function)| {
            *other != index && Some(function.address.number() & !7) == device
        });
        others.map(|(_, function)| function)
    }
}
