//! The service of one VM: its devices, address spaces and bindings.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_abi::{DeviceFlags, FaultFlags, FaultRecord, NO_SUBSTREAM, Status};
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{StreamId, SubstreamId};
use palisade_iommu::pasid::{Space, SpaceFootprint, TableId};
use palisade_iommu::sva::Bond;
use palisade_iommu::{
    Capabilities, Condition, ContextView, Fault, FaultClass, Group, Iommus, Owner, StallModel,
    Waits,
};
use palisade_mem::SortedMap;

use super::check::Outcome;
use super::device::ServiceDevice;
use super::process::GuestProcess;
use super::ram::GuestRam;
use super::ring::Ring;
use crate::smmu::SmmuDevice;

/// Address spaces that one VM may share at once.
const PROCESSES: usize = 128;
/// Bindings that one VM may have at once.
pub(super) const BINDINGS: usize = 1024;
/// Stalled transactions that one VM may leave unanswered.
const STALLS: usize = 256;
/// Substreams of a context table: 2^10 fit one 64 KiB table.
pub(super) const MAX_BITS: u8 = 10;

/// A group with the table that the guest asked for.
pub(super) struct Shared {
    pub(super) group: Arc<Group>,
    pub(super) table: Option<TableId>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) devices: Vec<ServiceDevice>,
    pub(super) groups: Vec<Shared>,
    pub(super) processes: SortedMap<u16, Arc<GuestProcess>>,
    /// By index of the group and substream.
    pub(super) bonds: SortedMap<(usize, u32), Bond>,
    pub(super) ring: Option<Ring>,
    /// Stalled transactions that the guest was told of and has not answered.
    pub(super) stalls: Vec<(StreamId, u16)>,
    pub(super) next_key: u64,
}

/// What a service holds; equal before and after every call that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFootprint {
    /// Address spaces.
    pub processes: usize,
    /// Bindings.
    pub bonds: usize,
    /// Context tables.
    pub tables: usize,
    /// The PASID space.
    pub space: SpaceFootprint,
}

/// The guest interface of one VM.
pub struct Service {
    pub(super) iommus: Arc<Iommus>,
    pub(super) owner: Owner,
    pub(super) ram: Arc<dyn GuestRam>,
    pub(super) view: Arc<dyn ContextView + Send + Sync>,
    pub(super) ipa_bits: u8,
    pub(super) space: Arc<Space>,
    pub(super) waits: Waits,
    /// The VM's own SMMUs, if it has any: its guest shares its address spaces through them alone.
    pub(super) smmus: Vec<Arc<SmmuDevice>>,
    pub(super) state: Mutex<State>,
}

impl Service {
    /// The service of the VM `owner`, whose RAM is `ram`, whose IPAs have `ipa_bits`, and whose
    /// DMA view shows context tables through `view`. `asid_bits` is the least of all IOMMUs
    /// before its devices.
    pub fn new(
        iommus: Arc<Iommus>,
        owner: Owner,
        ram: Arc<dyn GuestRam>,
        view: Arc<dyn ContextView + Send + Sync>,
        ipa_bits: u8,
        asid_bits: u8,
    ) -> Self {
        let space = Space::new(asid_bits, PROCESSES);
        let (waits, state) = (Waits::default(), Mutex::new(Rank::Service, State::default()));
        let smmus = Vec::new();
        Self { iommus, owner, ram, view, ipa_bits, space, waits, smmus, state }
    }

    /// The same, for a VM with SMMUs of its own: what they do, no call does besides.
    #[must_use]
    pub fn with_smmus(mut self, smmus: Vec<Arc<SmmuDevice>>) -> Self {
        self.smmus = smmus;
        self
    }

    /// The VM's own SMMUs.
    pub fn smmus(&self) -> &[Arc<SmmuDevice>] {
        &self.smmus
    }

    /// Invalidations of its processes' address spaces.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Adds a device that was assigned to the VM.
    pub fn add_device(&self, device: ServiceDevice) {
        let mut state = self.state.lock();
        if !state.groups.iter().any(|shared| Arc::ptr_eq(&shared.group, &device.group)) {
            state.groups.push(Shared { group: device.group.clone(), table: None });
        }
        let phandle = device.group.instance().phandle();
        if let Some(smmu) = self.smmus.iter().find(|smmu| smmu.phandle() == phandle)
            && let Err(error) = smmu.add(&device)
        {
            // Behind stage 2 alone; its guest's table says nothing of it.
            log::warn!("device {:#x}: {error}", device.number);
        }
        state.devices.push(device);
    }

    /// Forgets a group that was detached from the VM, with everything bound to it. `clean`: the
    /// detach succeeded, so nothing of the VM is cached.
    pub fn remove_group(&self, group: &Arc<Group>, clean: bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // The detach has terminated its stalls.
        let gone = |stream: &StreamId| {
            let of = |device: &&ServiceDevice| device.streams.contains(stream);
            state.devices.iter().find(of).is_some_and(|one| Arc::ptr_eq(&one.group, group))
        };
        state.stalls.retain(|(stream, _)| !gone(stream));
        state.devices.retain(|device| !Arc::ptr_eq(&device.group, group));
        self.smmus.iter().for_each(|smmu| smmu.remove(group));
        let index = state.groups.iter().position(|shared| Arc::ptr_eq(&shared.group, group));
        if let Some(index) = index {
            self.drop_table(state, index, clean);
        }
    }

    /// Everything that the last kernel of the VM made of its devices ends: they are behind
    /// stage 2 alone again. A device that does not come back aborts, for good.
    pub fn reset(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.ring = None;
        self.smmus.iter().for_each(|smmu| smmu.reset());
        for index in 0..state.groups.len() {
            let Some(group) = state.groups.get(index).map(|shared| shared.group.clone()) else {
                continue;
            };
            let back = self.iommus.disable_nesting(&group, self.owner);
            self.drop_table(state, index, back.is_ok());
        }
    }

    /// Ends the service after its devices were detached from the VM.
    pub fn shutdown(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        (state.ring, state.stalls, state.devices) = (None, Vec::new(), Vec::new());
        for index in 0..state.groups.len() {
            let dead = |shared: &Shared| shared.group.condition() == Condition::Dead;
            let clean = !state.groups.get(index).is_some_and(dead);
            self.drop_table(state, index, clean);
        }
    }

    /// What it holds now.
    pub fn footprint(&self) -> ServiceFootprint {
        let state = self.state.lock();
        ServiceFootprint {
            processes: state.processes.len(),
            bonds: state.bonds.len(),
            tables: state.groups.iter().filter(|shared| shared.table.is_some()).count(),
            space: self.space.footprint(),
        }
    }

    /// Moves the VM's pending faults into its ring, or its SMMUs' queues, and hands each to `sink`; answers how many
    /// went into the ring. At most as many as a log holds. A fault of stage 2 is the
    /// hypervisor's to know: the guest cannot have caused it but by an address that is not its
    /// own, and is not told. A stalled transaction that the guest is not told of is aborted.
    pub fn pump(&self, sink: &mut dyn FnMut(&Fault)) -> u64 {
        let mut state = self.state.lock();
        let State { devices, ring, stalls, .. } = &mut *state;
        let mut written = 0;
        let lost = self.iommus.owners().take(self.owner, &mut |fault| {
            sink(fault);
            self.smmus.iter().for_each(|smmu| smmu.tell(fault));
            let raw = &fault.record;
            let told = !raw.stage2
                && (raw.stall.is_none() || stalls.len() < STALLS)
                && record(devices, fault).is_some_and(|record| {
                    match ring.as_mut().map(|ring| ring.push(&record, &*self.ram)) {
                        Some(Ok(written)) => written,
                        // The guest gave its ring's memory away: no ring any more.
                        Some(Err(_)) => {
                            *ring = None;
                            false
                        }
                        None => false,
                    }
                });
            written += u64::from(told);
            match raw.stall {
                Some(tag) if told => stalls.push((raw.stream, tag)),
                Some(tag) => self.abort_stall(devices, raw.stream, tag),
                None => {}
            }
        });
        if lost > 0 && ring.as_mut().is_some_and(|ring| ring.lose(lost, &*self.ram).is_err()) {
            *ring = None;
        }
        written
    }

    /// Answers for the guest.
    fn abort_stall(&self, devices: &[ServiceDevice], stream: StreamId, tag: u16) {
        if let Some(device) = devices.iter().find(|device| device.streams.contains(&stream)) {
            let answer = palisade_iommu::Response::Abort;
            let _ = self.iommus.resume(&device.group, self.owner, stream, tag, answer);
        }
    }

    /// Unbinds everything of one group's table without touching the hardware.
    pub(super) fn drop_table(&self, state: &mut State, index: usize, clean: bool) {
        let Some(shared) = state.groups.get_mut(index) else { return };
        if let Some(table) = shared.table.take() {
            let _ = self.space.abandon_table(table, clean);
        }
        state.bonds.retain(|&(group, _), _| group != index);
        state.reap();
    }
}

impl State {
    /// The device with this number, and the index of its group.
    pub(super) fn device(&self, number: u64) -> Result<(&ServiceDevice, usize), Outcome> {
        let device = self
            .devices
            .iter()
            .find(|device| u64::from(device.number) == number)
            .ok_or(Status::NotFound)?;
        let index = self
            .groups
            .iter()
            .position(|shared| Arc::ptr_eq(&shared.group, &device.group))
            .ok_or(Status::NotFound)?;
        Ok((device, index))
    }

    /// The context table of a device's group, and the group's index.
    pub(super) fn table(&self, number: u64) -> Result<(usize, TableId), Outcome> {
        let (_, index) = self.device(number)?;
        let table = self.groups.get(index).and_then(|shared| shared.table);
        Ok((index, table.ok_or(Status::NotFound)?))
    }

    /// The address space with this ASID.
    pub(super) fn process(&self, asid: u64) -> Result<Arc<GuestProcess>, Outcome> {
        let asid = u16::try_from(asid).map_err(|_| Status::NotFound)?;
        Ok(self.processes.get(&asid).cloned().ok_or(Status::NotFound)?)
    }

    /// Forgets address spaces that nothing is bound to.
    pub(super) fn reap(&mut self) {
        self.processes.retain(|_, process| process.is_shared());
    }
}

/// What a device may do, as the guest is told.
pub(super) fn flags(device: &ServiceDevice, capabilities: &Capabilities, on: bool) -> DeviceFlags {
    let mut flags = 0;
    if capabilities.nested {
        flags |= DeviceFlags::CONTEXTS | DeviceFlags::STREAM_ENTRY;
    }
    if device.policy.stalls && capabilities.stall != StallModel::Never {
        flags |= DeviceFlags::STALLS;
    }
    if device.policy.ats && capabilities.ats {
        flags |= DeviceFlags::ATS;
    }
    if on {
        flags |= DeviceFlags::CONTEXTS_ON;
    }
    DeviceFlags(flags)
}

/// The guest's view of a fault, if its stream is one of the guest's.
fn record(devices: &[ServiceDevice], fault: &Fault) -> Option<FaultRecord> {
    let raw = &fault.record;
    let device = devices.iter().find(|device| device.streams.contains(&raw.stream))?;
    let mut flags = 0;
    for (set, flag) in [
        (raw.access.write, FaultFlags::WRITE),
        (raw.access.execute, FaultFlags::EXECUTE),
        (raw.access.privileged, FaultFlags::PRIVILEGED),
        (raw.stall.is_some(), FaultFlags::STALL),
        (raw.class == FaultClass::Context, FaultFlags::CONTEXT),
        (raw.class == FaultClass::Table, FaultFlags::TABLE),
    ] {
        if set {
            flags |= flag;
        }
    }
    Some(FaultRecord {
        kind: raw.kind as u32,
        flags: FaultFlags(flags),
        device: device.number,
        substream: raw.substream.map_or(NO_SUBSTREAM, SubstreamId::get),
        address: raw.address,
        stall_tag: raw.stall.map_or(0, u32::from),
    })
}
