//! Devices, events and collections as the guest's commands have mapped them.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_mem::SortedMap;

use super::FIRST_LPI;
use crate::vgic::LPIS;

/// Widest EventID: as many events as an MSI-X table has entries.
pub const MAX_EVENT_BITS: u8 = 11;
/// Collections that the guest may use; GITS_TYPER.CIDbits says so.
pub(super) const COLLECTION_BITS: u32 = 4;
/// Events that are worked on at once, with one wait for the physical ITS.
pub const PIECE: usize = 32;

/// A mapped event of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The LPI it raises.
    pub intid: u32,
    /// The collection, and so the vCPU, it goes to.
    pub collection: u16,
}

/// An event of a device that is known, and its LPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// EventID.
    pub event: u32,
    /// The LPI it raises.
    pub intid: u32,
}

/// Some events of one device.
pub(super) type Piece = ArrayVec<Route, PIECE>;

/// Where a walk over all events stands: the next is the first at or after this.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    device: u32,
    event: u32,
}

/// One device that the VM owns.
#[derive(Debug)]
pub(super) struct Device {
    /// The DeviceID that the guest knows.
    pub id: u32,
    /// Bits of an EventID, while MAPD has given the device a table.
    pub event_bits: Option<u8>,
    pub events: SortedMap<u32, Event>,
}

/// Everything the queue's commands have built up.
#[derive(Debug)]
pub(super) struct Mappings {
    /// By ascending DeviceID.
    devices: Vec<Device>,
    pub collections: [Option<u16>; 1 << COLLECTION_BITS],
    /// The LPIs that some event raises, from the first on.
    taken: [u64; LPIS / 64],
}

impl Mappings {
    pub fn new(devices: impl IntoIterator<Item = u32>) -> Self {
        let mut mappings = Self {
            devices: Vec::new(),
            collections: [None; 1 << COLLECTION_BITS],
            taken: [0; LPIS / 64],
        };
        devices.into_iter().for_each(|id| mappings.add(id));
        mappings
    }

    /// The VM has a device.
    pub fn add(&mut self, id: u32) {
        if let Err(place) = self.devices.binary_search_by_key(&id, |device| device.id) {
            let new = Device { id, event_bits: None, events: SortedMap::new() };
            self.devices.insert(place, new);
        }
    }

    /// The VM has a device no more; its events were unmapped.
    pub fn remove(&mut self, id: u32) {
        self.devices.retain(|device| device.id != id);
    }

    /// The DeviceIDs of the VM's devices.
    pub fn ids(&self) -> Vec<u32> {
        self.devices.iter().map(|device| device.id).collect()
    }

    /// The device of this DeviceID, if it is the VM's.
    pub fn device(&mut self, id: u32) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id)
    }

    /// The vCPU that a collection goes to.
    pub fn target(&self, collection: u16) -> Option<usize> {
        self.collections.get(usize::from(collection)).copied().flatten().map(usize::from)
    }

    /// An event and the vCPU it goes to.
    pub fn event(&mut self, device: u32, event: u32) -> Option<(Event, Option<usize>)> {
        let found = *self.device(device)?.events.get(&event)?;
        Some((found, self.target(found.collection)))
    }

    /// The next events of a collection, all of one device, and where to go on; none if there are
    /// no more. Bounded by what a VM can map: its LPIs.
    pub fn next_of(&self, collection: u16, from: Place) -> Option<(u32, Piece, Place)> {
        for device in self.devices.iter().filter(|device| device.id >= from.device) {
            let first = if device.id == from.device { from.event } else { 0 };
            let mut piece = Piece::new();
            for (&event, found) in device.events.iter() {
                if event < first || found.collection != collection {
                    continue;
                }
                if piece.is_full() {
                    break;
                }
                let _ = piece.try_push(Route { event, intid: found.intid });
            }
            if let Some(last) = piece.last() {
                let next = Place { device: device.id, event: last.event.saturating_add(1) };
                return Some((device.id, piece, next));
            }
        }
        None
    }

    /// Takes the last events of a device away, at most a piece; none if it has no more.
    pub fn take_last(&mut self, id: u32) -> Piece {
        let mut piece = Piece::new();
        while !piece.is_full()
            && let Some((event, found)) = self.device(id).and_then(|one| one.events.pop_last())
        {
            self.take(found.intid, false);
            let _ = piece.try_push(Route { event, intid: found.intid });
        }
        piece
    }

    /// Whether no event raises this LPI, and there is one of this number.
    pub fn is_free(&self, intid: u32) -> bool {
        let Some((word, bit)) = place(intid) else { return false };
        self.taken.get(word).is_some_and(|word| word & bit == 0)
    }

    /// Notes that an event raises this LPI, or that none does.
    pub fn take(&mut self, intid: u32, taken: bool) {
        if let Some((word, bit)) = place(intid)
            && let Some(word) = self.taken.get_mut(word)
        {
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }
}

/// An LPI's word and bit.
fn place(intid: u32) -> Option<(usize, u64)> {
    let index = intid.checked_sub(FIRST_LPI)? as usize;
    Some((index / 64, 1 << (index % 64)))
}
