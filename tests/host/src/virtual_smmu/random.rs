//! Random guests before their SMMUs.
//!
//! Three VMs with four devices of 64 substreams each write entries, contexts and tables, send
//! commands in batches, switch their SMMUs off and on, are reset, lose devices and memory, and
//! send what makes no sense; devices try every address from every substream inside every command.

mod wrong;

use std::collections::{BTreeMap, BTreeSet};

use palisade_hal::barrier;
use palisade_iommu::{Idle, StreamPolicy};
use palisade_smmu_model::Rng;

use super::house::{House, Tenant, features};
use super::kernel::{self, Command, Kernel, SPACES};
use crate::sharing::home::{VMS, Wrong};
use crate::sharing::memory::{DATA, DATA_PAGES};
use crate::sharing::truth::{Bound, PAGES, Target, Truth, pa_of};

/// log2 of the substreams of a device.
const BITS: u64 = 6;
const SUBSTREAMS: u32 = 1 << BITS;
/// Most changes that one synchronisation makes so.
const TOGETHER: usize = 6;

/// What was done, and seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldTally {
    /// Transactions that reached memory.
    pub reached: u64,
    /// Transactions that were refused.
    pub refused: u64,
    /// Events that guests found in their queues.
    pub told: u64,
    /// Faults of stage 2 that VMs were charged with.
    pub charged: u64,
    /// Hostile acts.
    pub hostile: u64,
}

/// What the guest's entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Abort,
    Bypass,
    Nested,
    /// It makes no sense.
    Bad,
}

#[derive(Clone, Copy)]
struct Process {
    number: u32,
    space: usize,
    asid: u64,
}

struct Mine {
    entry: Entry,
    away: bool,
    /// By substream.
    contexts: BTreeMap<u32, u32>,
}

/// What one guest did, beside what it is.
struct Actor {
    vm: usize,
    on: bool,
    abort: bool,
    devices: Vec<Mine>,
    processes: Vec<Process>,
    commands: Vec<Command>,
    places: Vec<(usize, u32)>,
    pages: Vec<(u32, u64, Target)>,
}

struct World {
    house: House,
    actors: Vec<Actor>,
    rng: Rng,
    next: u32,
    tally: WorldTally,
}

/// Plays one world for so many steps and takes it apart.
///
/// # Errors
/// The first thing that went wrong, in words.
pub fn random(seed: u64, steps: u64) -> Result<WorldTally, String> {
    let mut rng = Rng::new(seed ^ 0xa11);
    let house = House::new(&features(seed), rng.next_u64(), VMS, u32::MAX)?;
    let dma = house.base.frames.footprint().dma;
    let mine = |_| Mine { entry: Entry::Abort, away: false, contexts: BTreeMap::new() };
    let actor = |vm: u32| Actor {
        vm: vm as usize,
        on: false,
        abort: false,
        devices: (0..house.tenants[vm as usize].devices.len()).map(mine).collect(),
        processes: Vec::new(),
        commands: Vec::new(),
        places: Vec::new(),
        pages: Vec::new(),
    };
    let actors = (0..VMS).map(actor).collect();
    let mut world = World { house, actors, rng, next: 0, tally: WorldTally::default() };
    let machine = world.house.base.machine.clone();
    for vm in 0..world.actors.len() {
        machine.run(|| world.turn(vm, |actor, world| actor.start(world)))?;
    }
    for step in 0..steps {
        let vm = world.rng.index(world.actors.len());
        let done = machine.run(|| world.step(vm)).and_then(|()| world.house.verdict());
        done.map_err(|wrong| format!("step {step}, VM {vm}: {wrong}"))?;
    }
    machine.run(|| {
        (0..world.actors.len()).try_for_each(|vm| {
            world.turn(vm, |actor, world| {
                actor.flush(world)?;
                (0..actor.devices.len()).try_for_each(|device| actor.comes(world, device))
            })
        })
    })?;
    let [reached, refused, _] = world.house.truth.lock().counts;
    let tally = WorldTally { reached, refused, ..world.tally };
    world.house.verdict()?;
    world.house.end(dma)?;
    Ok(tally)
}

impl World {
    fn turn<R>(&mut self, vm: usize, act: impl FnOnce(&mut Actor, &mut Self) -> R) -> R {
        let placeholder = Actor {
            vm,
            on: false,
            abort: false,
            devices: Vec::new(),
            processes: Vec::new(),
            commands: Vec::new(),
            places: Vec::new(),
            pages: Vec::new(),
        };
        let mut actor = std::mem::replace(&mut self.actors[vm], placeholder);
        let result = act(&mut actor, self);
        self.actors[vm] = actor;
        result
    }

    fn step(&mut self, vm: usize) -> Result<(), Wrong> {
        self.turn(vm, |actor, world| {
            actor.act(world)?;
            if actor.places.len() + actor.pages.len() >= TOGETHER || world.rng.percent(50) {
                actor.flush(world)?;
            }
            Ok::<(), Wrong>(())
        })?;
        self.house.live();
        self.take_events(vm)
    }

    /// Every fault is its own VM's; what a guest is told is about its own devices and stage 1.
    fn take_events(&mut self, vm: usize) -> Result<(), Wrong> {
        let mut wrong = None;
        let mut charged = 0;
        let House { tenants, .. } = &self.house;
        let of = |vm: usize, stream: u32| {
            tenants[vm].devices.iter().any(|device| device.streams.contains(&stream))
        };
        let nobodys = self.house.take_events(&mut |vm, fault| {
            charged += u64::from(fault.record.stage2);
            if fault.owner != Some(tenants[vm].home.owner) || !of(vm, fault.record.stream.get()) {
                wrong = Some(format!("VM {vm} was charged with {fault:x?}"));
            }
        });
        // A record of a device may arrive when it has gone.
        let moved = self.actors.iter().any(|actor| actor.devices.iter().any(|one| one.away));
        nobodys.or_else(|wrong| if moved { Ok(()) } else { Err(wrong) })?;
        wrong.map_or(Ok(()), Err)?;
        self.tally.charged += charged;
        let tenant = &self.house.tenants[vm];
        for seen in tenant.kernel.events()? {
            self.tally.told += 1;
            let own = tenant.devices.iter().any(|device| device.number == seen.stream);
            // C_BAD_STE, C_BAD_SUBSTREAMID, C_BAD_CD, F_TRANSLATION.
            if !own || seen.stage2 || !matches!(seen.number, 0x04 | 0x08 | 0x0a | 0x10) {
                return Err(format!("VM {vm} was told of {seen:x?}"));
            }
        }
        Ok(())
    }
}

impl Actor {
    fn tenant<'a>(&self, world: &'a mut World) -> &'a mut Tenant {
        &mut world.house.tenants[self.vm]
    }

    fn kernel<'a>(&self, world: &'a mut World) -> &'a mut Kernel {
        &mut self.tenant(world).kernel
    }

    fn streams(&self, world: &World, device: usize) -> Vec<u32> {
        world.house.tenants[self.vm].devices[device].streams.clone()
    }

    fn number(&self, world: &World, device: usize) -> u32 {
        world.house.tenants[self.vm].devices[device].number
    }

    fn target(&self, rng: &mut Rng) -> Target {
        match rng.below(10) {
            0..=2 => Target::Nowhere,
            3 => Target::Outside,
            _ => Target::Page(self.vm as u32, rng.below(u64::from(DATA_PAGES)) as u32),
        }
    }

    /// What a place does by the guest's tables.
    fn says(&self, device: usize, substream: u32) -> Bound {
        let one = &self.devices[device];
        let off = if self.abort { Bound::Closed } else { Bound::Plain };
        match one.entry {
            _ if one.away => Bound::Closed,
            _ if !self.on => off,
            Entry::Abort | Entry::Bad => Bound::Closed,
            Entry::Bypass => Bound::Plain,
            Entry::Nested => {
                one.contexts.get(&substream).map_or(Bound::Never, |&number| Bound::Process(number))
            }
        }
    }

    /// From now on a place may do what the tables say, too.
    fn widen(&mut self, truth: &Truth, streams: &[u32], device: usize, substream: u32) {
        truth.widen(streams, substream, &[self.says(device, substream)]);
        self.places.push((device, substream));
    }

    fn widen_all(&mut self, world: &World, device: usize) {
        let streams = self.streams(world, device);
        for substream in 0..SUBSTREAMS {
            truth_widen(&world.house.truth, &streams, substream, self.says(device, substream));
        }
        // One mark for all of them.
        self.places.push((device, SUBSTREAMS));
    }

    /// What was told is in force.
    fn settle(&mut self, world: &World) {
        for (device, substream) in std::mem::take(&mut self.places) {
            let streams = self.streams(world, device);
            let which =
                if substream == SUBSTREAMS { 0..SUBSTREAMS } else { substream..substream + 1 };
            for substream in which {
                world.house.truth.settle(&streams, substream, self.says(device, substream));
            }
        }
        let facts = &mut *world.house.truth.lock();
        for (number, page, target) in std::mem::take(&mut self.pages) {
            if let Some(space) = facts.spaces.get_mut(&number) {
                space.insert(page, BTreeSet::from([target]));
            }
        }
    }

    /// Everything queued is sent with one synchronisation.
    fn flush(&mut self, world: &mut World) -> Result<(), Wrong> {
        let commands = std::mem::take(&mut self.commands);
        self.kernel(world).send(&commands)?;
        self.settle(world);
        Ok(())
    }

    fn contexts_at(device: usize, substream: u32) -> u64 {
        kernel::MANY_CONTEXTS + device as u64 * 0x1000 + u64::from(substream) * 64
    }

    /// The SMMU comes up with every entry an abort.
    fn start(&mut self, world: &mut World) -> Result<(), Wrong> {
        self.kernel(world).clear_table()?;
        // Every slot holds a command: the queue may be run through at any time.
        let prod = self.kernel(world).prod;
        self.kernel(world).queue(&vec![kernel::sync(None); 256])?;
        self.kernel(world).prod = prod;
        self.kernel(world).bring_up()?;
        for device in 0..self.devices.len() {
            let one = &mut self.devices[device];
            (one.entry, one.contexts) = (Entry::Abort, BTreeMap::new());
            let zeroes = [0; 512];
            self.kernel(world).put(Self::contexts_at(device, 0), &zeroes)?;
        }
        self.switch(world, true)
    }

    fn switch(&mut self, world: &mut World, on: bool) -> Result<(), Wrong> {
        self.on = on;
        (0..self.devices.len()).for_each(|device| self.widen_all(world, device));
        self.kernel(world).write(kernel::CR0, if on { 0xd } else { 0xc });
        self.settle(world);
        Ok(())
    }

    fn act(&mut self, world: &mut World) -> Result<(), Wrong> {
        match world.rng.below(100) {
            0..=11 => self.spawn(world),
            12..=36 => self.bind(world),
            37..=46 => self.unbind(world),
            47..=66 => self.change(world),
            67..=70 => self.exit(world),
            71..=82 => self.entry(world),
            83..=86 => self.page(world),
            87..=88 => {
                self.flush(world)?;
                self.abort = world.rng.percent(50);
                let value = 1 << 31 | u32::from(self.abort) << 20;
                if !self.on {
                    (0..self.devices.len()).for_each(|device| self.widen_all(world, device));
                }
                self.kernel(world).write(kernel::GBPA, value);
                self.settle(world);
                let on = !self.on;
                self.switch(world, on)
            }
            89 => self.reset(world),
            90..=92 => self.moves(world),
            _ => self.hostile(world),
        }
    }

    /// A new process with tables of its own.
    fn spawn(&mut self, world: &mut World) -> Result<(), Wrong> {
        let free = |space: &usize| self.processes.iter().all(|one| one.space != *space);
        let Some(space) = (0..SPACES).find(free) else { return Ok(()) };
        let taken = |asid: &u64| self.processes.iter().any(|one| one.asid == *asid);
        let Some(asid) = (1..200).find(|asid| !taken(asid)) else { return Ok(()) };
        world.next += 1;
        let number = world.next;
        self.kernel(world).clear_space(space)?;
        let mut pages = BTreeMap::new();
        for &page in PAGES.iter().take(PAGES.len() - 1) {
            let target = self.target(&mut world.rng);
            self.kernel(world).map(space, page, target)?;
            pages.insert(page, BTreeSet::from([target]));
        }
        world.house.truth.lock().spaces.insert(number, pages);
        self.processes.push(Process { number, space, asid });
        Ok(())
    }

    fn context(
        &mut self,
        world: &mut World,
        device: usize,
        substream: u32,
        to: Option<Process>,
    ) -> Result<(), Wrong> {
        let streams = self.streams(world, device);
        let truth = world.house.truth.clone();
        if self.devices[device].entry == Entry::Nested && self.on && !self.devices[device].away {
            truth_widen(&truth, &streams, substream, Bound::Never);
        }
        match to {
            Some(process) => self.devices[device].contexts.insert(substream, process.number),
            None => self.devices[device].contexts.remove(&substream),
        };
        self.widen(&truth, &streams, device, substream);
        let at = Self::contexts_at(device, substream);
        let number = self.number(world, device);
        self.kernel(world).put(at, &[0])?;
        if let Some(process) = to {
            let words = Kernel::context(process.space, process.asid);
            self.kernel(world).put(at + 8, &words[1..])?;
            barrier::dsb_sy();
            self.kernel(world).put(at, &words[..1])?;
        }
        let all = world.rng.percent(20);
        self.commands.push(match all {
            true => kernel::cfgi_cd_all(number),
            false => kernel::cfgi_cd(number, substream),
        });
        Ok(())
    }

    fn bind(&mut self, world: &mut World) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let process = self.processes[world.rng.index(self.processes.len())];
        let device = world.rng.index(self.devices.len());
        let few = world.rng.percent(80);
        let substream = world.rng.below(if few { 4 } else { u64::from(SUBSTREAMS) }) as u32;
        // A live context is taken away before another comes.
        if self.devices[device].contexts.contains_key(&substream) {
            self.context(world, device, substream, None)?;
            self.flush(world)?;
        }
        self.context(world, device, substream, Some(process))
    }

    fn unbind(&mut self, world: &mut World) -> Result<(), Wrong> {
        let device = world.rng.index(self.devices.len());
        let bound: Vec<u32> = self.devices[device].contexts.keys().copied().collect();
        if bound.is_empty() {
            return Ok(());
        }
        let substream = bound[world.rng.index(bound.len())];
        self.context(world, device, substream, None)
    }

    fn change(&mut self, world: &mut World) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let process = self.processes[world.rng.index(self.processes.len())];
        let page = PAGES[world.rng.index(PAGES.len() - 1)];
        let target = self.target(&mut world.rng);
        if let Some(space) = world.house.truth.lock().spaces.get_mut(&process.number) {
            space.entry(page).or_insert_with(|| [Target::Nowhere].into()).insert(target);
        }
        self.kernel(world).map(process.space, page, target)?;
        self.pages.push((process.number, page, target));
        let ranges = self.kernel(world).ranges;
        self.commands.push(match world.rng.below(10) {
            0 => kernel::tlbi_all(true),
            1 => kernel::tlbi_all(false),
            2 => kernel::tlbi_asid(process.asid),
            3 => kernel::tlbi_page(None, page, ranges),
            _ => kernel::tlbi_page(Some(process.asid), page, ranges),
        });
        Ok(())
    }

    /// A process ends: nothing is bound to it, and its ASID is free.
    fn exit(&mut self, world: &mut World) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let process = self.processes.remove(world.rng.index(self.processes.len()));
        for device in 0..self.devices.len() {
            let of = self.devices[device].contexts.iter();
            let bound: Vec<u32> =
                of.filter(|(_, number)| **number == process.number).map(|(one, _)| *one).collect();
            for substream in bound {
                self.context(world, device, substream, None)?;
            }
        }
        self.flush(world)?;
        self.commands.push(kernel::tlbi_asid(process.asid));
        self.flush(world)?;
        world.house.truth.lock().spaces.remove(&process.number);
        Ok(())
    }

    /// Another entry for a device.
    fn entry(&mut self, world: &mut World) -> Result<(), Wrong> {
        let device = world.rng.index(self.devices.len());
        let right = Kernel::stage1(Self::contexts_at(device, 0), BITS);
        let (entry, words) = match world.rng.below(12) {
            0..=6 => (Entry::Nested, right),
            7 => (Entry::Bypass, [1 | 0b100 << 1, 0]),
            8 => (Entry::Abort, [1, 0]),
            9 => (Entry::Abort, [right[0] & !1, right[1]]),
            10 => (Entry::Bad, [right[0] & !0xe | 7 << 1, right[1]]),
            _ => (Entry::Bad, [right[0] | 31 << 59, right[1]]),
        };
        self.devices[device].entry = entry;
        self.widen_all(world, device);
        let number = self.number(world, device);
        // The word with V last.
        self.kernel(world).put(Kernel::entry(number), &[0])?;
        self.kernel(world).put(Kernel::entry(number) + 8, &words[1..])?;
        self.kernel(world).put(Kernel::entry(number), &words[..1])?;
        self.commands.push(match world.rng.below(4) {
            0 => kernel::cfgi_range(0, 31),
            1 => kernel::cfgi_range(number, 2),
            _ => kernel::cfgi_ste(number),
        });
        Ok(())
    }

    /// A page of the VM's memory goes, or comes back.
    fn page(&mut self, world: &mut World) -> Result<(), Wrong> {
        let number = world.rng.below(u64::from(DATA_PAGES)) as u32;
        let (ipa, key) = (DATA + u64::from(number) * 0x1000, (self.vm as u32, number));
        let truth = world.house.truth.clone();
        let there = truth.lock().present.get(&key).is_none_or(|set| set.contains(&true));
        truth.lock().present.insert(key, [true, false].into());
        let view = &self.tenant(world).home.view;
        if there {
            view.unmap(ipa)?;
        } else {
            view.map(ipa, pa_of(key.0, number))?;
        }
        truth.lock().present.insert(key, [!there].into());
        Ok(())
    }

    /// The VM is reset, and starts anew.
    fn reset(&mut self, world: &mut World) -> Result<(), Wrong> {
        self.flush(world)?;
        (self.on, self.abort) = (false, false);
        (0..self.devices.len()).for_each(|device| self.widen_all(world, device));
        self.tenant(world).service.reset();
        self.settle(world);
        for process in std::mem::take(&mut self.processes) {
            world.house.truth.lock().spaces.remove(&process.number);
        }
        self.start(world)
    }

    /// A device goes, or comes back.
    fn moves(&mut self, world: &mut World) -> Result<(), Wrong> {
        self.flush(world)?;
        let device = world.rng.index(self.devices.len());
        if self.devices[device].away {
            return self.comes(world, device);
        }
        self.devices[device].away = true;
        self.widen_all(world, device);
        let group = self.tenant(world).home.devices[device].group.clone();
        world.house.base.iommus.detach(&group).map_err(|error| error.to_string())?;
        self.tenant(world).service.remove_group(&group, true);
        self.settle(world);
        let released = world.house.base.iommus.release(&group, Idle::Reset);
        released.map_err(|error| error.to_string())
    }

    fn comes(&mut self, world: &mut World, device: usize) -> Result<(), Wrong> {
        if !self.devices[device].away {
            return Ok(());
        }
        self.devices[device].away = false;
        // Behind stage 2 alone at first, and then what the table says.
        let streams = self.streams(world, device);
        for substream in 0..SUBSTREAMS {
            truth_widen(&world.house.truth, &streams, substream, Bound::Plain);
        }
        self.widen_all(world, device);
        let number = self.number(world, device);
        let iommus = world.house.base.iommus.clone();
        let home = &self.tenant(world).home;
        let mut one = home.devices[device].clone();
        one.number = number;
        let policy = StreamPolicy { ats: false, stalls: false };
        iommus.assign(&one.group, &home.domain, policy).map_err(|error| error.to_string())?;
        self.tenant(world).service.add_device(one);
        self.settle(world);
        Ok(())
    }
}

fn truth_widen(truth: &Truth, streams: &[u32], substream: u32, to: Bound) {
    truth.widen(streams, substream, &[to]);
}
