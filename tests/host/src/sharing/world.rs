//! Three VMs on one SMMU.

use palisade_iommu::StreamPolicy;
use palisade_smmu_model::{Features, Rng, StallModel};
use palisade_vm::hypercall::Service;

use super::guest::{Device, Guest, RAM_PAGES};
use super::home::{Base, VMS, Wrong};
use super::truth::{Bound, Truth};
use crate::sabotage::Sabotage;

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

struct World {
    base: Base,
    guests: Vec<Guest>,
    truth: Truth,
    rng: Rng,
}

impl World {
    fn new(sharing: &Sharing) -> Result<Self, Wrong> {
        let mut rng = Rng::new(sharing.seed);
        let (seed, sabotage) = (rng.next_u64(), sharing.sabotage.clone());
        let base = Base::new(&sharing.features, seed, sabotage, FRAMES, u32::MAX)?;
        let machine = base.machine.clone();
        let truth = Truth::default();
        let mut guests = Vec::new();
        for vm in 0..VMS {
            guests.push(machine.run(|| new_guest(vm, sharing, &base, &truth))?);
        }
        machine.set_devices(Some(truth.devices(rng.next_u64())));
        for guest in &mut guests {
            machine.run(|| guest.start())?;
        }
        Ok(World { base, guests, truth, rng })
    }

    fn step(&mut self, next: &mut u32) -> Result<(), Wrong> {
        let machine = self.base.machine.clone();
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
        for instance in self.base.iommus.instances() {
            // Devices go on while the queue is read: what is left waits for the next turn.
            for _ in 0..4 {
                if !self.base.iommus.drain(&instance, 64).more {
                    break;
                }
            }
        }
        let mut wrong = None;
        self.base.iommus.take_operator_faults(&mut |fault| {
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
        if let Some(violation) = self.base.machine.violation() {
            return Err(format!("{}: {}", violation.assertion, violation.detail));
        }
        self.truth.lock().violation.take().map_or(Ok(()), Err)
    }

    /// Everything is given back, and nothing is missing.
    fn end(mut self, dma_before: u64) -> Result<SharingTally, Wrong> {
        let machine = self.base.machine.clone();
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
            machine.run(|| end_guest(guest, &self.base))?;
        }
        self.verdict()?;
        self.base.is_whole(dma_before)?;
        Ok(SharingTally { reached, refused, stalled })
    }
}

fn new_guest(vm: u32, sharing: &Sharing, base: &Base, truth: &Truth) -> Result<Guest, Wrong> {
    let policy = StreamPolicy { ats: false, stalls: sharing.stalls };
    let home = base.home(vm, RAM_PAGES, policy)?;
    let (ram, view) = (home.ram.clone(), home.view.clone());
    let asid_bits = if sharing.features.asid16 { 16 } else { 8 };
    let service = Service::new(base.iommus.clone(), home.owner, ram, view, 39, asid_bits);
    let mut devices = Vec::new();
    for device in &home.devices {
        service.add_device(device.clone());
        let streams: Vec<u32> = device.streams.iter().map(|stream| stream.get()).collect();
        for &stream in &streams {
            truth.lock().bound.insert((stream, 0), [Bound::Plain].into());
        }
        devices.push(Device { number: u64::from(device.number), streams, enabled: false });
    }
    Ok(Guest {
        index: vm,
        home,
        service,
        devices,
        processes: Vec::new(),
        bonds: Default::default(),
        truth: truth.clone(),
        read: 0,
    })
}

fn end_guest(guest: Guest, base: &Base) -> Result<(), Wrong> {
    let Guest { home, service, .. } = guest;
    base.end(home, move |groups| {
        groups.iter().for_each(|group| service.remove_group(group, true));
    })
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
    let shown: usize = world.guests.iter().map(|guest| guest.home.view.shown()).sum();
    // 64 descriptors of 64 bytes: one frame each.
    world.base.frames.footprint().dma - shown as u64
}
