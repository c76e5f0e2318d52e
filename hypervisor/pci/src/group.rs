//! Which devices the bus can tell apart: requester-ID aliases and ACS.

use arrayvec::ArrayVec;
use palisade_board::PcieHost;

use crate::function::{Header, PortType};
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
    pub fn requesters(&self, index: usize) -> ArrayVec<u16, 4> {
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
    /// one device without ACS; everything behind a root port without ACS, or
    /// behind a bridge that is none; everything behind a switch of which one
    /// downstream port on the way has no ACS.
    pub fn isolation(&self, index: usize) -> Option<u32> {
        let function = self.functions.get(index)?;
        let mut shared = None;
        if function.multi_function && !self.device_isolates(index) {
            // The device itself: its address with function 0, marked as such.
            shared = Some(function.address.number() & !7 | 1);
        }
        for (bridge, port) in self.bridges(index) {
            let separates = match port.express.map(|express| express.port) {
                Some(PortType::RootPort | PortType::Downstream) => port.isolates,
                // Nothing meets in an upstream port; its downstream ports count.
                Some(PortType::Upstream) => true,
                _ => false,
            };
            if separates {
                continue;
            }
            let switch = match port.express.map(|express| express.port) {
                Some(PortType::Downstream) => port.parent.unwrap_or(bridge),
                _ => bridge,
            };
            shared = self.functions.get(switch).map(|top| top.address.number() & !7);
        }
        shared
    }

    /// Whether every function of the device separates itself from the others.
    fn device_isolates(&self, index: usize) -> bool {
        let Some(function) = self.functions.get(index) else { return false };
        let device = function.address.number() & !7;
        self.functions
            .iter()
            .filter(|other| other.address.number() & !7 == device)
            .all(|other| other.isolates)
    }
}
