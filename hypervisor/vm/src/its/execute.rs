//! What each command does.

use palisade_gic::its::Command;

use super::devices::{Event, MAX_EVENT_BITS, Mappings};
use super::{FIRST_LPI, INTID_BITS};

/// The world behind the virtual ITS: the physical ITS, the vCPUs' interfaces, guest memory.
pub trait Backend {
    /// How many vCPUs the VM has.
    fn vcpus(&self) -> usize;
    /// Reads guest memory; false where there is none.
    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool;
    /// The configuration byte of an LPI, from the guest's own table.
    fn configuration(&mut self, intid: u32) -> u8;
    /// Gives a device a table for 2^`event_bits` events, or takes it away. False: refused.
    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool;
    /// Routes a device's event to an LPI of a vCPU. False: refused.
    fn map_event(&mut self, device: u32, event: u32, intid: u32, vcpu: usize) -> bool;
    /// Routes an event to another vCPU; a pending LPI moves along.
    fn move_event(&mut self, device: u32, event: u32, intid: u32, from: usize, to: usize);
    /// Unroutes an event; its LPI is not pending afterwards.
    fn unmap_event(&mut self, device: u32, event: u32, intid: u32, vcpu: Option<usize>);
    /// Takes over a changed configuration byte.
    fn configure(&mut self, device: u32, event: u32, intid: u32, vcpu: usize, byte: u8);
    /// Makes an LPI pending at a vCPU, or not pending.
    fn set_pending(&mut self, intid: u32, vcpu: usize, pending: bool);
}

impl Mappings {
    /// Carries out one command; false if it makes no sense (IHI 0069, 5.3.3: the command is
    /// ignored, which is one of the behaviours the manual allows).
    pub(super) fn execute(&mut self, command: Command, backend: &mut impl Backend) -> bool {
        match command {
            Command::Mapd { device, event_bits, valid, .. } => {
                self.map_device(device, valid.then_some(event_bits), backend)
            }
            Command::Mapc { collection, target, valid } => {
                let vcpu = u16::try_from(target).ok().filter(|_| valid);
                if vcpu.is_some_and(|vcpu| usize::from(vcpu) >= backend.vcpus())
                    || vcpu.is_none() && valid
                {
                    return false;
                }
                self.map_collection(collection, vcpu, backend)
            }
            Command::Mapti { device, event, intid, collection } => {
                self.map_event(device, event, intid, collection, backend)
            }
            Command::Mapi { device, event, collection } => {
                self.map_event(device, event, event, collection, backend)
            }
            Command::Movi { device, event, collection } => {
                self.move_event(device, event, collection, backend)
            }
            Command::Movall { from, to } => self.move_all(from, to, backend),
            Command::Int { device, event } => self.pend(device, event, true, backend),
            Command::Clear { device, event } => self.pend(device, event, false, backend),
            Command::Discard { device, event } => self.discard(device, event, backend),
            Command::Inv { device, event } => {
                let Some((found, Some(vcpu))) = self.event(device, event) else { return false };
                let byte = backend.configuration(found.intid);
                backend.configure(device, event, found.intid, vcpu, byte);
                true
            }
            Command::Invall { collection } => {
                let Some(vcpu) = self.target(collection) else { return false };
                for (device, event, found) in self.of_collection(collection) {
                    let byte = backend.configuration(found.intid);
                    backend.configure(device, event, found.intid, vcpu, byte);
                }
                true
            }
            // Every command here is complete when the next one starts.
            Command::Sync { .. } => true,
        }
    }

    fn map_device(&mut self, id: u32, event_bits: Option<u8>, backend: &mut impl Backend) -> bool {
        if event_bits.is_some_and(|bits| bits > MAX_EVENT_BITS) {
            return false;
        }
        let collections = self.collections;
        let Some(device) = self.device(id) else { return false };
        // A table that is replaced takes its events with it (5.13.11).
        while let Some((event, found)) = device.events.pop_last() {
            let vcpu = collections.get(usize::from(found.collection)).copied().flatten();
            backend.unmap_event(id, event, found.intid, vcpu.map(usize::from));
        }
        if device.event_bits.take().is_some() {
            backend.map_device(id, None);
        }
        match event_bits {
            Some(bits) if backend.map_device(id, Some(bits)) => {
                device.event_bits = Some(bits);
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    fn map_collection(
        &mut self,
        collection: u16,
        vcpu: Option<u16>,
        backend: &mut impl Backend,
    ) -> bool {
        let old = self.target(collection);
        let Some(slot) = self.collections.get_mut(usize::from(collection)) else { return false };
        *slot = vcpu;
        if let (Some(from), Some(to)) = (old, vcpu.map(usize::from)) {
            for (device, event, found) in self.of_collection(collection) {
                backend.move_event(device, event, found.intid, from, to);
            }
        }
        true
    }

    fn map_event(
        &mut self,
        id: u32,
        event: u32,
        intid: u32,
        collection: u16,
        backend: &mut impl Backend,
    ) -> bool {
        let Some(vcpu) = self.target(collection) else { return false };
        if !(FIRST_LPI..1 << INTID_BITS).contains(&intid) || self.is_taken(intid) {
            return false;
        }
        let Some(device) = self.device(id) else { return false };
        let fits = device.event_bits.is_some_and(|bits| event >> bits == 0);
        if !fits || device.events.contains_key(&event) {
            return false;
        }
        if !backend.map_event(id, event, intid, vcpu) {
            return false;
        }
        device.events.insert(event, Event { intid, collection });
        let byte = backend.configuration(intid);
        backend.configure(id, event, intid, vcpu, byte);
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
        let Some((found, from)) = self.event(id, event) else { return false };
        let Some(slot) = self.device(id).and_then(|device| device.events.get_mut(&event)) else {
            return false;
        };
        slot.collection = collection;
        backend.move_event(id, event, found.intid, from.unwrap_or(to), to);
        true
    }

    fn move_all(&mut self, from: u64, to: u64, backend: &mut impl Backend) -> bool {
        let vcpus = backend.vcpus() as u64;
        if from >= vcpus || to >= vcpus {
            return false;
        }
        // Pending LPIs move; the collections themselves stay (5.13.8).
        for collection in 0..self.collections.len() as u16 {
            if self.target(collection) != Some(from as usize) {
                continue;
            }
            for (device, event, found) in self.of_collection(collection) {
                backend.move_event(device, event, found.intid, from as usize, to as usize);
            }
        }
        true
    }

    fn pend(&mut self, id: u32, event: u32, on: bool, backend: &mut impl Backend) -> bool {
        let Some((found, Some(vcpu))) = self.event(id, event) else { return false };
        backend.set_pending(found.intid, vcpu, on);
        true
    }

    fn discard(&mut self, id: u32, event: u32, backend: &mut impl Backend) -> bool {
        let Some((found, vcpu)) = self.event(id, event) else { return false };
        if let Some(device) = self.device(id) {
            device.events.remove(&event);
        }
        backend.unmap_event(id, event, found.intid, vcpu);
        true
    }
}
