//! What each command does.

use palisade_gic::its::Command;

use super::Backend;
use super::devices::{Event, MAX_EVENT_BITS, Mappings, Place, Route};
use super::job::{Job, Step};

impl Mappings {
    /// Begins one command; short ones are done when this returns.
    pub(super) fn execute(&mut self, command: Command, backend: &mut impl Backend) -> Step {
        match command {
            Command::Mapd { device, event_bits, valid, .. } => {
                let bits = valid.then_some(event_bits);
                if bits.is_some_and(|bits| bits > MAX_EVENT_BITS) || self.device(device).is_none() {
                    return Step::Refused;
                }
                // A table that is replaced takes its events with it (5.13.11).
                Step::Left(Job::Unmap { device, bits })
            }
            Command::Mapc { collection, target, valid } => {
                self.map_collection(collection, valid.then_some(target), backend)
            }
            Command::Mapti { device, event, intid, collection } => {
                self.map_event(device, Route { event, intid }, collection, backend).into()
            }
            Command::Mapi { device, event, collection } => {
                self.map_event(device, Route { event, intid: event }, collection, backend).into()
            }
            Command::Movi { device, event, collection } => {
                self.move_event(device, event, collection, backend).into()
            }
            Command::Movall { from, to } => self.move_all(from, to, backend).into(),
            Command::Int { device, event } => self.pend(device, event, true, backend).into(),
            Command::Clear { device, event } => self.pend(device, event, false, backend).into(),
            Command::Discard { device, event } => self.discard(device, event, backend).into(),
            Command::Inv { device, event } => {
                let Some((found, Some(_))) = self.event(device, event) else {
                    return Step::Refused;
                };
                let route = Route { event, intid: found.intid };
                backend.configure(device, &[route]);
                backend.refresh(device, route);
                Step::Done
            }
            Command::Invall { collection } => match self.target(collection) {
                Some(vcpu) => {
                    Step::Left(Job::Configure { collection, vcpu, from: Place::default() })
                }
                None => Step::Refused,
            },
            // Every command here is complete when the next one starts.
            Command::Sync { .. } => Step::Done,
        }
    }

    /// MAPC. What was mapped to the collection before goes along, whatever it was mapped to in the
    /// meantime. While a collection is not mapped its events still reach the vCPU that they went to
    /// last: the hardware would drop them (5.13.10), here none is lost.
    fn map_collection(
        &mut self,
        collection: u16,
        target: Option<u64>,
        backend: &impl Backend,
    ) -> Step {
        let vcpu = match target.map(u16::try_from) {
            Some(Ok(vcpu)) if usize::from(vcpu) < backend.vcpus() => Some(vcpu),
            Some(_) => return Step::Refused,
            None => None,
        };
        let Some(slot) = self.collections.get_mut(usize::from(collection)) else {
            return Step::Refused;
        };
        *slot = vcpu;
        match vcpu.map(usize::from) {
            Some(to) => Step::Left(Job::Move { collection, to, from: Place::default() }),
            None => Step::Done,
        }
    }

    fn map_event(
        &mut self,
        id: u32,
        route: Route,
        collection: u16,
        backend: &mut impl Backend,
    ) -> bool {
        let Some(vcpu) = self.target(collection) else { return false };
        if !self.is_free(route.intid) {
            return false;
        }
        let Some(device) = self.device(id) else { return false };
        let fits = device.event_bits.is_some_and(|bits| route.event >> bits == 0);
        if !fits || device.events.contains_key(&route.event) {
            return false;
        }
        if !backend.map_event(id, route, vcpu) {
            return false;
        }
        device.events.insert(route.event, Event { intid: route.intid, collection });
        self.take(route.intid, true);
        true
    }

    fn move_event(
        &mut self,
        id: u32,
        event: u32,
        collection: u16,
        backend: &mut impl Backend,
    ) -> bool {
        let Some(to) = self.target(collection) else { return false };
        let Some(slot) = self.device(id).and_then(|device| device.events.get_mut(&event)) else {
            return false;
        };
        slot.collection = collection;
        let intid = slot.intid;
        backend.move_events(id, &[Route { event, intid }], to);
        true
    }

    /// Pending LPIs move; collections and events stay as they are mapped (5.13.8). The physical
    /// ITS has no part in it: whichever core takes an LPI, the vCPU that it is for is told.
    fn move_all(&mut self, from: u64, to: u64, backend: &mut impl Backend) -> bool {
        let vcpus = backend.vcpus() as u64;
        if from >= vcpus || to >= vcpus {
            return false;
        }
        backend.move_pending(from as usize, to as usize);
        true
    }

    fn pend(&mut self, id: u32, event: u32, on: bool, backend: &mut impl Backend) -> bool {
        let Some((found, Some(_))) = self.event(id, event) else { return false };
        backend.set_pending(found.intid, on);
        true
    }

    fn discard(&mut self, id: u32, event: u32, backend: &mut impl Backend) -> bool {
        let Some(found) = self.device(id).and_then(|device| device.events.remove(&event)) else {
            return false;
        };
        self.take(found.intid, false);
        backend.unmap_events(id, &[Route { event, intid: found.intid }]);
        true
    }
}
