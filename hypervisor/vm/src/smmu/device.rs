//! A VM's virtual SMMU in its memory map.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use palisade_hal::lock::{FairMutex, Mutex, Rank};
use palisade_iommu::{Fault, FaultKind, Group, Iommus, Owner};
use palisade_spec::{EventRecord, register};

use super::control::{Counts, NoRoom, VirtualSmmu, notify};
use super::events::{EventSide, Events};
use super::identity::Identity;
use super::registers::Progress;
use super::world::{GuestOutlet, Lines, Place, World};
use crate::hypercall::{GuestRam, ServiceDevice};
use crate::mmio::{Access, MmioDevice};

/// Kinds of access that are counted.
const LOAD: usize = 0;
const DOORBELL: usize = 1;
const STORE: usize = 2;

/// What a virtual SMMU is made of.
pub struct SmmuConfig {
    /// What the guest is told.
    pub identity: Identity,
    /// The physical SMMU that it stands for.
    pub phandle: u32,
    /// The IOMMU core.
    pub iommus: Arc<Iommus>,
    /// The VM.
    pub owner: Owner,
    /// Its RAM.
    pub ram: Arc<dyn GuestRam>,
    /// Its interrupts.
    pub lines: Lines,
}

/// A VM's virtual SMMU.
///
/// Commands have a lock that is held over waits for the physical SMMU, by one exit for as long as
/// its budget lasts. Events have another, which is not: the pump never waits for a command.
pub struct SmmuDevice {
    phandle: u32,
    inner: FairMutex<(VirtualSmmu, World)>,
    events: Events,
    /// For the pump: the devices, and how the guest is told.
    told: Mutex<(Vec<Place>, GuestOutlet)>,
    /// Commands wait that no exit has had room for.
    behind: AtomicBool,
    /// Accesses to its registers: loads, stores to CMDQ_PROD, other stores.
    accesses: [AtomicU32; 3],
}

/// What a guest made of one of its SMMUs, counted since its VM was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmmuCounts {
    /// Loads of registers.
    pub loads: u32,
    /// Stores to CMDQ_PROD: each offers the guest's commands of one batch.
    pub doorbells: u32,
    /// Other stores to registers.
    pub stores: u32,
    /// Commands and entries.
    pub commands: Counts,
    /// Events in the guest's queue.
    pub events: u64,
    /// Events that found the queue full, off or out of memory.
    pub events_lost: u64,
}

impl fmt::Debug for SmmuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        (&inner.0, &*self.events.lock(), self.is_behind()).fmt(f)
    }
}

impl SmmuDevice {
    /// One with no devices behind it.
    pub fn new(config: SmmuConfig) -> Arc<Self> {
        let SmmuConfig { identity, phandle, iommus, owner, ram, lines } = config;
        let outlet = GuestOutlet { ram, lines };
        let world =
            World { iommus, owner, outlet: outlet.clone(), groups: Vec::new(), places: Vec::new() };
        Arc::new(Self {
            phandle,
            inner: FairMutex::new(Rank::VirtualSmmu, (VirtualSmmu::new(identity), world)),
            events: EventSide::locked(identity),
            told: Mutex::new(Rank::VirtualSmmuPlaces, (Vec::new(), outlet)),
            behind: AtomicBool::new(false),
            accesses: [const { AtomicU32::new(0) }; 3],
        })
    }

    /// The physical SMMU that it stands for.
    pub fn phandle(&self) -> u32 {
        self.phandle
    }

    /// Puts a device of the VM behind it. While the guest has it on, the device does what the
    /// guest's table says.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing changed.
    pub fn add(&self, device: &ServiceDevice) -> Result<(), NoRoom> {
        let mut inner = self.inner.lock();
        let (smmu, world) = &mut *inner;
        let number = world.number(&device.group);
        let (stream, physical) = (device.number, device.streams.clone());
        world.places.push(Place { stream, physical, number });
        let added = smmu.add(number, stream, world, &self.events);
        if added.is_err() {
            world.places.pop();
        }
        self.told.lock().0.clone_from(&world.places);
        added
    }

    /// A group goes, which the caller took from the VM: commands that name its devices do nothing
    /// from now on.
    pub fn remove(&self, group: &Arc<Group>) {
        let mut inner = self.inner.lock();
        let (smmu, world) = &mut *inner;
        let found = world.groups.iter().find(|(_, one)| Arc::ptr_eq(one, group));
        let Some(&(number, _)) = found else { return };
        smmu.remove(number);
        world.groups.retain(|(one, _)| *one != number);
        world.places.retain(|place| place.number != number);
        self.told.lock().0.clone_from(&world.places);
    }

    /// The virtual StreamIDs of the devices behind it.
    pub fn streams(&self) -> Vec<u32> {
        self.told.lock().0.iter().map(|place| place.stream).collect()
    }

    /// A reset of the VM: off, with no event waiting. The caller puts the devices behind stage 2
    /// alone.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        inner.0.reset(&self.events);
        self.behind.store(false, Ordering::Release);
    }

    /// What the guest made of it.
    pub fn counts(&self) -> SmmuCounts {
        let commands = self.inner.lock().0.counts();
        let (events, events_lost) = self.events.lock().counts();
        let [loads, doorbells, stores] =
            self.accesses.each_ref().map(|count| count.load(Ordering::Relaxed));
        SmmuCounts { loads, doorbells, stores, commands, events, events_lost }
    }

    fn count(&self, kind: usize) {
        if let Some(count) = self.accesses.get(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a fault into the guest's event queue, if it is one of a device behind it and one that
    /// a guest may know of.
    pub fn tell(&self, fault: &Fault) {
        let raw = &fault.record;
        if fault.phandle != self.phandle || raw.stage2 || !is_guests(raw.kind) {
            return;
        }
        let mut told = self.told.lock();
        let (places, outlet) = &mut *told;
        let Some(stream) = World::virtual_stream(places, raw.stream) else { return };
        let record = shown(&raw.raw, stream);
        let outlet: &mut dyn super::Outlet = outlet;
        let signal = self.events.lock().push(&record, |at, bytes| outlet.write(at, bytes));
        notify(signal, outlet, &self.events);
    }

    /// Whether commands wait that no exit has had room for.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Goes on with the guest's queue for one exit's share, unless another vCPU does so just now.
    /// Whether this one has to come again soon.
    pub fn go_on(&self) -> bool {
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let (smmu, world) = &mut *inner;
        let behind = smmu.advance(world, &self.events) == Progress::Again;
        self.behind.store(behind, Ordering::Release);
        behind
    }
}

impl MmioDevice for SmmuDevice {
    fn read(&self, access: Access) -> u64 {
        self.count(LOAD);
        self.inner.lock().0.read(access.offset, access.width.bytes(), &self.events)
    }

    fn write(&self, access: Access, value: u64) {
        self.count(if access.offset == register::CMDQ_PROD { DOORBELL } else { STORE });
        let mut inner = self.inner.lock();
        let (smmu, world) = &mut *inner;
        let bytes = access.width.bytes();
        let progress = smmu.write(access.offset, bytes, value, world, &self.events);
        if progress == Progress::Again {
            self.behind.store(true, Ordering::Release);
        }
    }
}

/// Whether an event of this kind can come from the guest's own entries and tables. The others
/// would be about the hypervisor's.
const fn is_guests(kind: FaultKind) -> bool {
    kind.is_access()
        || matches!(
            kind,
            FaultKind::UnsupportedUpstream
                | FaultKind::BadAtsTreq
                | FaultKind::StreamDisabled
                | FaultKind::TranslForbidden
                | FaultKind::BadSubstreamId
                | FaultKind::CdFetch
                | FaultKind::BadCd
        )
}

/// A record as the guest sees it: its own StreamID, no stall that it would have to answer, and
/// none of the physical addresses that a fetch was made from (FetchAddr, §7.3).
fn shown(raw: &[u64; 4], stream: u32) -> [u64; 4] {
    let mut record = *raw;
    EventRecord::STREAM_ID.set(&mut record, u64::from(stream));
    EventRecord::STALL.set(&mut record, 0);
    EventRecord::STAG.set(&mut record, 0);
    if let Some(word) = record.last_mut() {
        *word = 0;
    }
    record
}
