//! Three VMs on one SMMU.

use std::sync::Arc;

use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::{DeviceId, DeviceInfo, Idle, Iommus, Registration, StreamPolicy};
use palisade_mem::{Agent, Arena, Frames, Owner, Scope};
use palisade_smmu_model::{Features, Rng, StallModel};
use palisade_smmuv3::{Options, Smmu};
use palisade_vm::hypercall::{Service, ServiceDevice};

use super::guest::{Device, Guest, RAM_PAGES, Wrong};
use super::memory::{DATA, DATA_PAGES, Ram, View};
use super::truth::{Bound, Truth, pa_of};
use crate::clock::ModelClock;
use crate::machine::Machine;
use crate::sabotage::Sabotage;
use crate::tables::{self, Shape, Users};

const VMS: u32 = 3;
const DEVICES: u32 = 4;
const FRAMES: u64 = 512;

/// What was done, and seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct SharingTally {
    /// Transactions that reached memory.
    pub reached: u64,
    /// Transactions that were refused.
    pub refused: u64,
    /// Transactions that stalled.
    pub stalled: u64,
}

/// What a world is made from.
#[derive(Clone, Debug)]
pub struct Sharing {
    /// The SMMU.
    pub features: Features,
    /// Of everything.
    pub seed: u64,
    /// Devices may stall.
    pub stalls: bool,
    /// What is planted.
    pub sabotage: Option<Sabotage>,
}

impl Sharing {
    /// An SMMU with substreams, chosen by the seed like everything else.
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5a5a);
        let features = Features {
            coherent: rng.percent(60),
            ril: rng.percent(70),
            asid16: rng.percent(50),
            two_level_contexts: rng.percent(60),
            stall: match rng.below(3) {
                0 => StallModel::TerminateOnly,
                _ => StallModel::Both,
            },
            ats: false,
            split_ats: false,
            pri: false,
            bbml: 1 + rng.below(2) as u8,
            ..Features::default()
        };
        let stalls = features.stall == StallModel::Both && rng.percent(60);
        Sharing { features, seed, stalls, sabotage: None }
    }
}

fn streams_of(vm: u32, device: u32) -> Vec<u32> {
    let first = 1 + vm * 16 + device * 2;
    // The last device of each VM has an alias.
    if device + 1 == DEVICES { vec![first, first + 1] } else { vec![first] }
}

struct World {
    machine: Arc<Machine>,
    frames: Arc<Frames>,
    iommus: Arc<Iommus>,
    guests: Vec<Guest>,
    truth: Truth,
    rng: Rng,
    _arena: Arc<Arena>,
}

fn said<E: core::fmt::Debug>(what: &'static str) -> impl Fn(E) -> Wrong {
    move |error| format!("{what}: {error:?}")
}

impl World {
    fn new(sharing: &Sharing) -> Result<Self, Wrong> {
        let mut rng = Rng::new(sharing.seed);
        let arena = Arc::new(Arena::new(PhysAddr::new(0x8000_0000), FRAMES));
        let features = sharing.features.clone();
        let shape = Shape {
            oas: features.oas,
            coherent: features.coherent,
            in_place: features.bbml >= 2,
            contiguous: false,
        };
        let sabotage = sharing.sabotage.clone();
        let machine = Machine::new(features, arena.clone(), rng.next_u64(), sabotage);
        machine.set_quiet(true);
        let frames = Frames::new(arena.map(), &[arena.range()]).map_err(said("frames"))?;
        let options = Options {
            sync_micros: 3000,
            register_micros: 3000,
            cmdq_log2: 5,
            evtq_log2: 7,
            storm_events: u32::MAX,
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
        let truth = Truth::default();
        let mut guests = Vec::new();
        for vm in 0..VMS {
            let guest =
                machine.run(|| new_guest(vm, sharing, &frames, &iommus, &users, shape, &truth))?;
            guests.push(guest);
        }
        machine.set_devices(Some(truth.devices(rng.next_u64())));
        for guest in &mut guests {
            machine.run(|| guest.start())?;
        }
        Ok(World { machine, frames, iommus, guests, truth, rng, _arena: arena })
    }

    fn step(&mut self, next: &mut u32) -> Result<(), Wrong> {
        let machine = self.machine.clone();
        machine.run(|| {
            let guest = self.rng.index(self.guests.len());
            self.guests[guest].act(&mut self.rng, next)?;
            for _ in 0..4 {
                machine.live();
            }
            self.take_events()
        })?;
        self.verdict()
    }

    /// The event interrupt, and what each VM finds then.
    fn take_events(&mut self) -> Result<(), Wrong> {
        for instance in self.iommus.instances() {
            // Devices go on while the queue is read: what is left waits for the next turn.
            for _ in 0..4 {
                if !self.iommus.drain(&instance, 64).more {
                    break;
                }
            }
        }
        let mut wrong = None;
        self.iommus.take_operator_faults(&mut |fault| {
            if fault.owner.is_none() {
                wrong = Some(format!("nobody was charged with {fault:x?}"));
            }
        });
        for guest in &mut self.guests {
            guest.poll(&mut self.rng)?;
        }
        wrong.map_or(Ok(()), Err)
    }

    fn verdict(&self) -> Result<(), Wrong> {
        if let Some(violation) = self.machine.violation() {
            return Err(format!("{}: {}", violation.assertion, violation.detail));
        }
        self.truth.lock().violation.take().map_or(Ok(()), Err)
    }

    /// Everything is given back, and nothing is missing.
    fn end(mut self, dma_before: u64) -> Result<SharingTally, Wrong> {
        let machine = self.machine.clone();
        machine.run(|| {
            for guest in &mut self.guests {
                guest.stop(&mut self.rng)?;
            }
            for _ in 0..8 {
                machine.live();
            }
            self.take_events()
        })?;
        self.verdict()?;
        machine.set_devices(None);
        let [reached, refused, stalled] = self.truth.lock().counts;
        for guest in std::mem::take(&mut self.guests) {
            machine.run(|| end_guest(guest, &self.iommus, &self.frames))?;
        }
        self.verdict()?;
        let footprint = self.frames.footprint();
        let core = self.iommus.footprint();
        let lost = footprint.detached + footprint.leaked + footprint.quarantined;
        if lost + footprint.guest + footprint.table != 0 || footprint.dma != dma_before {
            return Err(format!("frames were lost: {footprint:?}, DMA before {dma_before}"));
        }
        if core.vmids + core.vmids_lost != 0 {
            return Err(format!("VMIDs were lost: {core:?}"));
        }
        Ok(SharingTally { reached, refused, stalled })
    }
}

fn new_guest(
    vm: u32,
    sharing: &Sharing,
    frames: &Arc<Frames>,
    iommus: &Arc<Iommus>,
    users: &Arc<Agent>,
    shape: Shape,
    truth: &Truth,
) -> Result<Guest, Wrong> {
    let owner = iommus.owners().open(vm as u16).map_err(said("owner"))?;
    let memory_owner = Owner::vm(vm as u16);
    let scope = Scope::new(vm + 1);
    let table = tables::dma_tables(frames, memory_owner, scope, users, shape);
    let table = table.ok_or("out of frames")?;
    let regs = *table.registers().stage2().ok_or("no stage 2")?;
    let domain =
        iommus.paging_domain(owner, regs.vttbr_baddr, regs.packed()).map_err(said("domain"))?;
    let ram = Arc::new(Ram::new(frames, memory_owner, RAM_PAGES).ok_or("out of frames")?);
    let view = View::new(frames, table, Users::new(users.clone(), domain.clone(), scope));
    for (ipa, pa) in ram.pages() {
        view.map(ipa, pa.get())?;
    }
    for number in 0..DATA_PAGES {
        view.map(DATA + u64::from(number) * 0x1000, pa_of(vm, number))?;
    }
    let view = Arc::new(view);
    let asid_bits = if sharing.features.asid16 { 16 } else { 8 };
    let service = Service::new(iommus.clone(), owner, ram.clone(), view.clone(), 39, asid_bits);
    let policy = StreamPolicy { ats: false, stalls: sharing.stalls };
    let mut devices = Vec::new();
    for device in 0..DEVICES {
        let streams = streams_of(vm, device);
        let id = DeviceId::new(streams[0]);
        let ids: Vec<StreamId> = streams.iter().copied().map(StreamId::new).collect();
        let info = DeviceInfo {
            id,
            name: format!("device-{vm}-{device}"),
            iommu: Some(1),
            streams: ids.clone(),
            isolation: None,
        };
        iommus.add_device(info).map_err(said("device"))?;
        let group = iommus.group_of(id).map_err(said("group"))?;
        iommus.assign(&group, &domain, policy).map_err(said("assign"))?;
        let number = device + 1;
        service.add_device(ServiceDevice { number, group: group.clone(), streams: ids, policy });
        for &stream in &streams {
            truth.lock().bound.insert((stream, 0), [Bound::Plain].into());
        }
        devices.push(Device { number: u64::from(number), streams, group, enabled: false });
    }
    Ok(Guest {
        index: vm,
        owner,
        domain,
        ram,
        view,
        service,
        devices,
        processes: Vec::new(),
        bonds: Default::default(),
        truth: truth.clone(),
        read: 0,
    })
}

fn end_guest(guest: Guest, iommus: &Iommus, frames: &Frames) -> Result<(), Wrong> {
    let Guest { domain, ram, view, service, devices, .. } = guest;
    for device in devices {
        iommus.detach(&device.group).map_err(said("detach"))?;
        service.remove_group(&device.group, true);
        iommus.release(&device.group, Idle::Reset).map_err(said("release"))?;
    }
    if view.shown() != 0 {
        return Err("context tables are still shown".into());
    }
    drop(service);
    iommus.retire(&domain, |_| true).map_err(said("retire"))?;
    let view = Arc::try_unwrap(view).map_err(|_| "the view is still used")?;
    view.destroy()?;
    let ram = Arc::try_unwrap(ram).map_err(|_| "the RAM is still used")?;
    for page in ram.into_pages() {
        frames.free(page).map_err(said("free"))?;
    }
    Ok(())
}

/// Runs one world for `steps` actions and takes it apart.
///
/// # Errors
/// The first thing that went wrong, in words.
pub fn share(sharing: &Sharing, steps: u64) -> Result<SharingTally, String> {
    let mut world = World::new(sharing)?;
    let dma = dma_without_contexts(&world);
    let mut next = 0;
    for step in 0..steps {
        world.step(&mut next).map_err(|wrong| format!("step {step}: {wrong}"))?;
    }
    world.end(dma)
}

/// Frames that the driver holds for itself: all but the context tables of this moment.
fn dma_without_contexts(world: &World) -> u64 {
    let shown: usize = world.guests.iter().map(|guest| guest.view.shown()).sum();
    // 64 descriptors of 64 bytes: one frame each.
    world.frames.footprint().dma - shown as u64
}
