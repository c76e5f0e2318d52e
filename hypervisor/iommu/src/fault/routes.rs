//! From a StreamID to its device and owner, without a lock.

use crate::error::Resource;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use palisade_hal::StreamId;

use super::Owner;
use crate::device::DeviceId;
use crate::error::Error;

/// StreamIDs that one instance can have devices for.
const CAPACITY: usize = 256;

struct Route {
    /// StreamID + 1; 0 is a free place.
    key: AtomicU64,
    device: AtomicU32,
    /// [`Owner::to_word`]; 0 without an owner.
    owner: AtomicU64,
}

/// The routes of one instance. Changed under the registry's lock (places) and the group's lock
/// (owners), read by the event interrupt at any time.
pub(crate) struct Routes {
    places: [Route; CAPACITY],
}

impl Routes {
    pub(crate) fn new() -> Self {
        let free = |_| Route {
            key: AtomicU64::new(0),
            device: AtomicU32::new(0),
            owner: AtomicU64::new(0),
        };
        Self { places: core::array::from_fn(free) }
    }

    /// Makes a place for `stream`, without an owner.
    pub(crate) fn add(&self, stream: StreamId, device: DeviceId) -> Result<(), Error> {
        let place = self
            .places
            .iter()
            .find(|place| place.key.load(Ordering::Relaxed) == 0)
            .ok_or(Error::Exhausted(Resource::FaultRoute))?;
        place.device.store(device.get(), Ordering::Relaxed);
        place.owner.store(0, Ordering::Relaxed);
        place.key.store(u64::from(stream.get()) + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn remove(&self, stream: StreamId) {
        if let Some(place) = self.place(stream) {
            place.owner.store(0, Ordering::Release);
            place.key.store(0, Ordering::Release);
        }
    }

    pub(crate) fn set_owner(&self, stream: StreamId, owner: Option<Owner>) {
        if let Some(place) = self.place(stream) {
            place.owner.store(owner.map_or(0, Owner::to_word), Ordering::Release);
        }
    }

    /// Device and owner of `stream`.
    pub(crate) fn find(&self, stream: StreamId) -> Option<(DeviceId, Option<Owner>)> {
        let place = self.place(stream)?;
        let device = DeviceId::new(place.device.load(Ordering::Relaxed));
        Some((device, Owner::from_word(place.owner.load(Ordering::Acquire))))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.iter().filter(|place| place.key.load(Ordering::Relaxed) != 0).count()
    }

    fn place(&self, stream: StreamId) -> Option<&Route> {
        let key = u64::from(stream.get()) + 1;
        self.places.iter().find(|place| place.key.load(Ordering::Acquire) == key)
    }
}
