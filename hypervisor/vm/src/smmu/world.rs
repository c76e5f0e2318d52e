//! What stands behind a VM's virtual SMMU: its groups of devices, its RAM, its interrupts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::{Ipa, StreamId};
use palisade_iommu::{DriverError, Error, Group, Iommus, Owner, StreamState};
use palisade_spec::Words;

use super::backend::{Backend, CommandFailure, EntryRefused, Outlet, Wire};
use crate::hypercall::GuestRam;
use crate::vgic::Line;

/// The interrupt lines of a virtual SMMU, by [`Wire`].
#[derive(Clone)]
pub struct Lines {
    /// Events are in the queue.
    pub event: Line,
    /// A CMD_SYNC is complete.
    pub sync: Line,
    /// GERROR changed.
    pub error: Line,
}

/// How a virtual SMMU tells its guest something: by words in its RAM and by interrupts.
#[derive(Clone)]
pub(super) struct GuestOutlet {
    pub(super) ram: Arc<dyn GuestRam>,
    pub(super) lines: Lines,
}

impl Outlet for GuestOutlet {
    fn write(&mut self, at: Ipa, from: &[u8]) -> bool {
        self.ram.write(at, from).is_ok()
    }

    fn interrupt(&mut self, wire: Wire) {
        match wire {
            Wire::Event => self.lines.event.pulse(),
            Wire::Sync => self.lines.sync.pulse(),
            Wire::Error => self.lines.error.pulse(),
        }
    }
}

/// A device behind a virtual SMMU.
#[derive(Clone)]
pub(super) struct Place {
    /// Its virtual StreamID.
    pub(super) stream: u32,
    /// Its physical ones, aliases included.
    pub(super) physical: Vec<StreamId>,
    /// The number of its group behind this virtual SMMU.
    pub(super) number: usize,
}

/// Groups, RAM and interrupts of one VM behind one SMMU.
pub(super) struct World {
    pub(super) iommus: Arc<Iommus>,
    pub(super) owner: Owner,
    pub(super) outlet: GuestOutlet,
    /// Each with its number; a number comes back when its group is gone.
    pub(super) groups: Vec<(usize, Arc<Group>)>,
    pub(super) places: Vec<Place>,
}

impl World {
    /// The number of a group, which it gets if it has none.
    pub(super) fn number(&mut self, group: &Arc<Group>) -> usize {
        if let Some((number, _)) = self.groups.iter().find(|(_, one)| Arc::ptr_eq(one, group)) {
            return *number;
        }
        let taken = |number: &usize| self.groups.iter().any(|(one, _)| one == number);
        let number = (0..=self.groups.len()).find(|number| !taken(number)).unwrap_or(0);
        self.groups.push((number, group.clone()));
        number
    }

    fn group(&self, number: usize) -> Option<Arc<Group>> {
        self.groups.iter().find(|(one, _)| *one == number).map(|(_, group)| group.clone())
    }

    /// The n-th physical stream that a virtual one stands for: those of the whole group, which
    /// share one entry and so its descriptors.
    fn physical(&self, stream: u32, nth: usize) -> Option<StreamId> {
        let number = self.places.iter().find(|place| place.stream == stream)?.number;
        let along = self.places.iter().filter(|place| place.number == number);
        along.flat_map(|place| &place.physical).nth(nth).copied()
    }

    /// The virtual stream of a physical one.
    pub(super) fn virtual_stream(places: &[Place], physical: StreamId) -> Option<u32> {
        let place = places.iter().find(|place| place.physical.contains(&physical))?;
        Some(place.stream)
    }
}

impl Outlet for World {
    fn write(&mut self, at: Ipa, from: &[u8]) -> bool {
        self.outlet.write(at, from)
    }

    fn interrupt(&mut self, wire: Wire) {
        self.outlet.interrupt(wire);
    }
}

/// The guest is to blame, not the hardware.
const fn is_guests(error: &Error) -> bool {
    matches!(
        error,
        Error::Driver(
            DriverError::Refused { .. } | DriverError::Argument(_) | DriverError::Unsupported(_)
        )
    )
}

impl Backend for World {
    fn read(&mut self, at: Ipa, to: &mut [u8]) -> bool {
        self.outlet.ram.read(at, to).is_ok()
    }

    fn attach(&mut self, group: usize, entry: &Words) -> Result<bool, EntryRefused> {
        let Some(group) = self.group(group) else { return Ok(false) };
        match self.iommus.attach_guest_entry(&group, self.owner, entry) {
            Ok(state) => Ok(state == StreamState::Nested),
            Err(error) if is_guests(&error) => {
                // V = 0: nothing of the entry before stays in force.
                let abort = self.iommus.attach_guest_entry(&group, self.owner, &[0; 8]);
                if let Err(error) = abort {
                    log::warn!("virtual SMMU: a refused entry: {error}");
                }
                Err(EntryRefused)
            }
            // Contained, dead, or no more the VM's: it aborts, whatever the entry says.
            Err(_) => Ok(false),
        }
    }

    fn invalidate(&mut self, commands: &[[u64; 2]]) -> Result<(), (usize, CommandFailure)> {
        let streams = |stream: u32, nth: usize| self.physical(stream, nth);
        for (_, group) in &self.groups {
            match self.iommus.guest_invalidate(group, self.owner, &streams, commands) {
                // This one's entry is not the guest's: ask through another.
                Err((0, Error::Mode | Error::NotOwner)) => {}
                Ok(_) => return Ok(()),
                Err((done, error)) if is_guests(&error) => {
                    return Err((done, CommandFailure::Illegal));
                }
                Err((done, _)) => return Err((done, CommandFailure::Hardware)),
            }
        }
        // No entry is the guest's: nothing can be cached by one.
        Ok(())
    }

    fn resume(&mut self, _command: &[u64; 2]) {
        // A guest is told of no stall: the hypervisor answered them all.
    }
}
