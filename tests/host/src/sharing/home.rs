//! One SMMU and the VMs before it: their memory, their DMA views and their devices.

use std::sync::Arc;

use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::{
    DeviceId, DeviceInfo, Domain, Group, Idle, Iommus, Owner, Registration, StreamPolicy,
};
use palisade_mem::{Agent, Arena, Frames, Owner as FrameOwner, Scope};
use palisade_smmu_model::Features;
use palisade_smmuv3::{Options, Smmu};
use palisade_vm::hypercall::ServiceDevice;

use super::memory::{DATA, DATA_PAGES, Ram, View};
use super::truth::pa_of;
use crate::clock::ModelClock;
use crate::machine::Machine;
use crate::sabotage::Sabotage;
use crate::tables::{self, Shape, Users};

/// VMs before one SMMU.
pub const VMS: u32 = 3;
/// Devices of each.
pub const DEVICES: u32 = 4;
/// What went wrong.
pub type Wrong = String;

/// Puts an error into words.
pub fn said<E: core::fmt::Debug>(what: &'static str) -> impl Fn(E) -> Wrong {
    move |error| format!("{what}: {error:?}")
}

fn streams_of(vm: u32, device: u32) -> Vec<u32> {
    let first = 1 + vm * 16 + device * 2;
    // The last device of each VM has an alias.
    if device + 1 == DEVICES { vec![first, first + 1] } else { vec![first] }
}

/// A model SMMU under the driver, and the core above it.
pub struct Base {
    pub machine: Arc<Machine>,
    pub frames: Arc<Frames>,
    pub iommus: Arc<Iommus>,
    users: Arc<Agent>,
    shape: Shape,
    _arena: Arc<Arena>,
}

impl Base {
    /// With this many frames; everything of the machine comes from `seed`. A device with more than
    /// `storm` faults a second is contained.
    pub fn new(
        features: &Features,
        seed: u64,
        sabotage: Option<Sabotage>,
        frames: u64,
        storm: u32,
    ) -> Result<Self, Wrong> {
        let arena = Arc::new(Arena::new(PhysAddr::new(0x8000_0000), frames));
        let shape = Shape {
            oas: features.oas,
            coherent: features.coherent,
            in_place: features.bbml >= 2,
            contiguous: false,
        };
        let machine = Machine::new(features.clone(), arena.clone(), seed, sabotage);
        machine.set_quiet(true);
        let frames = Frames::new(arena.map(), &[arena.range()]).map_err(said("frames"))?;
        let options = Options {
            sync_micros: 3000,
            register_micros: 3000,
            cmdq_log2: 5,
            evtq_log2: 7,
            storm_events: storm,
            ..Options::default()
        };
        let clock = ModelClock::new(machine.clone());
        let mmio = machine.mmio();
        let smmu = machine.run(|| Smmu::bring_up(mmio, &frames, clock, options));
        let driver = Arc::new(smmu.map_err(said("bring-up"))?);
        let iommus = Arc::new(Iommus::new(VMS as u16, 16));
        let agent = frames.register_agent("smmu").map_err(said("agent"))?;
        let users = Arc::new(frames.register_agent("users").map_err(said("agent"))?);
        let registration = Registration { phandle: 1, driver, agent };
        let registered = machine.run(|| iommus.register(registration));
        registered.map_err(|rejected| format!("register: {}", rejected.error))?;
        Ok(Self { machine, frames, iommus, users, shape, _arena: arena })
    }

    /// A VM with `ram_pages` pages of RAM and all its devices, behind stage 2 alone.
    pub fn home(&self, vm: u32, ram_pages: usize, policy: StreamPolicy) -> Result<Home, Wrong> {
        let (frames, iommus) = (&self.frames, &self.iommus);
        let owner = iommus.owners().open(vm as u16).map_err(said("owner"))?;
        let memory_owner = FrameOwner::vm(vm as u16);
        let scope = Scope::new(vm + 1);
        let table = tables::dma_tables(frames, memory_owner, scope, &self.users, self.shape);
        let table = table.ok_or("out of frames")?;
        let regs = *table.registers().stage2().ok_or("no stage 2")?;
        let domain =
            iommus.paging_domain(owner, regs.vttbr_baddr, regs.packed()).map_err(said("domain"))?;
        let ram = Arc::new(Ram::new(frames, memory_owner, ram_pages).ok_or("out of frames")?);
        let view = View::new(frames, table, Users::new(self.users.clone(), domain.clone(), scope));
        for (ipa, pa) in ram.pages() {
            view.map(ipa, pa.get())?;
        }
        for number in 0..DATA_PAGES {
            view.map(DATA + u64::from(number) * 0x1000, pa_of(vm, number))?;
        }
        let view = Arc::new(view);
        let mut devices = Vec::new();
        for device in 0..DEVICES {
            let streams = streams_of(vm, device);
            let id = DeviceId::new(streams[0]);
            let streams: Vec<StreamId> = streams.iter().copied().map(StreamId::new).collect();
            let info = DeviceInfo {
                id,
                name: format!("device-{vm}-{device}"),
                iommu: Some(1),
                streams: streams.clone(),
                isolation: None,
            };
            iommus.add_device(info).map_err(said("device"))?;
            let group = iommus.group_of(id).map_err(said("group"))?;
            iommus.assign(&group, &domain, policy).map_err(said("assign"))?;
            devices.push(ServiceDevice { number: device + 1, group, streams, policy });
        }
        Ok(Home { owner, domain, ram, view, devices })
    }

    /// Takes a VM apart; `forget` lets go of whatever still knows its RAM and its view.
    pub fn end(&self, home: Home, forget: impl FnOnce(&[Arc<Group>])) -> Result<(), Wrong> {
        let Home { domain, ram, view, devices, .. } = home;
        let groups: Vec<_> = devices.into_iter().map(|device| device.group).collect();
        for group in &groups {
            self.iommus.detach(group).map_err(said("detach"))?;
        }
        forget(&groups);
        for group in &groups {
            self.iommus.release(group, Idle::Reset).map_err(said("release"))?;
        }
        if view.shown() != 0 {
            return Err("context tables are still shown".into());
        }
        self.iommus.retire(&domain, |_| true).map_err(said("retire"))?;
        let view = Arc::try_unwrap(view).map_err(|_| "the view is still used")?;
        view.destroy()?;
        let ram = Arc::try_unwrap(ram).map_err(|_| "the RAM is still used")?;
        for page in ram.into_pages() {
            self.frames.free(page).map_err(said("free"))?;
        }
        Ok(())
    }

    /// Nothing of any VM is missing; the driver holds `dma_before` frames, as before.
    pub fn is_whole(&self, dma_before: u64) -> Result<(), Wrong> {
        let footprint = self.frames.footprint();
        let core = self.iommus.footprint();
        let lost = footprint.detached + footprint.leaked + footprint.quarantined;
        if lost + footprint.guest + footprint.table != 0 || footprint.dma != dma_before {
            return Err(format!("frames were lost: {footprint:?}, DMA before {dma_before}"));
        }
        if core.vmids + core.vmids_lost != 0 {
            return Err(format!("VMIDs were lost: {core:?}"));
        }
        Ok(())
    }
}

/// A VM: what it owns, and its devices.
pub struct Home {
    pub owner: Owner,
    pub domain: Arc<Domain>,
    pub ram: Arc<Ram>,
    pub view: Arc<View>,
    pub devices: Vec<ServiceDevice>,
}
