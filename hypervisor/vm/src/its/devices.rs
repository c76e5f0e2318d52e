//! Devices, events and collections as the guest's commands have mapped them.

use alloc::vec::Vec;

use palisade_mem::SortedMap;

/// Widest EventID: as many events as an MSI-X table has entries.
pub const MAX_EVENT_BITS: u8 = 11;
/// Collections that the guest may use; GITS_TYPER.CIDbits says so.
pub(super) const COLLECTION_BITS: u32 = 4;

/// A mapped event of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The LPI it raises.
    pub intid: u32,
    /// The collection, and so the vCPU, it goes to.
    pub collection: u16,
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
    pub devices: Vec<Device>,
    pub collections: [Option<u16>; 1 << COLLECTION_BITS],
}

impl Mappings {
    pub fn new(devices: impl IntoIterator<Item = u32>) -> Self {
        let new = |id| Device { id, event_bits: None, events: SortedMap::new() };
        Self {
            devices: devices.into_iter().map(new).collect(),
            collections: [None; 1 << COLLECTION_BITS],
        }
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

    /// Every event of a collection: (device, event id, event).
    pub fn of_collection(&self, collection: u16) -> Vec<(u32, u32, Event)> {
        let mut all = Vec::new();
        for device in &self.devices {
            for (&id, &event) in device.events.iter() {
                if event.collection == collection {
                    all.push((device.id, id, event));
                }
            }
        }
        all
    }

    /// Whether some event raises this LPI already.
    pub fn is_taken(&self, intid: u32) -> bool {
        self.devices.iter().any(|d| d.events.values().any(|event| event.intid == intid))
    }
}
