//! One guest: its processes, and what it says through the interface.

use std::collections::{BTreeMap, BTreeSet};

use palisade_abi::{
    BindFlags, FAULT_BYTES, FaultFlags, FaultRecord, RING_HEADER_BYTES, RingHeader, Status, call,
};
use palisade_hal::{Ipa, barrier};
use palisade_smmu_model::Rng;
use palisade_vm::hypercall::{GuestRam, Service};

use super::home::{Home, Wrong};
use super::memory::{DATA, OUTSIDE, TABLES};
use super::truth::{Bound, PAGES, Place, Target, Truth};

/// Slots for processes; each has three pages of tables.
pub const SLOTS: usize = 8;
/// Pages of RAM: the tables, and the ring.
pub const RAM_PAGES: usize = SLOTS * 3 + 1;
const RING: u64 = TABLES + SLOTS as u64 * 0x3000;
/// 39 bits of virtual addresses in 4 KiB pages, cacheable walks, 40 bits out.
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32;

/// A process of the guest.
pub struct Process {
    pub number: u32,
    pub slot: usize,
    pub asid: u64,
    pub gone: bool,
}

impl Process {
    fn table(&self, level: u64) -> u64 {
        TABLES + (self.slot as u64 * 3 + level - 1) * 0x1000
    }
}

/// A device of the guest, with its streams.
pub struct Device {
    pub number: u64,
    pub streams: Vec<u32>,
    pub enabled: bool,
}

pub struct Guest {
    pub index: u32,
    pub home: Home,
    pub service: Service,
    pub devices: Vec<Device>,
    pub processes: Vec<Process>,
    /// By device and substream, the process.
    pub bonds: BTreeMap<(usize, u32), u32>,
    pub truth: Truth,
    pub read: u64,
}

impl Guest {
    fn call(&self, function: u32, arguments: &[u64]) -> (Status, [u64; 3]) {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let [status, x1, x2, x3] = self.service.handle(function, all);
        (Status::from_register(status).unwrap_or(Status::Hardware), [x1, x2, x3])
    }

    fn expect(&self, what: &str, function: u32, arguments: &[u64]) -> Result<(), Wrong> {
        match self.call(function, arguments) {
            (Status::Success, _) => Ok(()),
            (status, results) => {
                Err(format!("{what} {arguments:x?} answered {status:?} {results:x?}"))
            }
        }
    }

    /// Asks for a ring and for context tables.
    pub fn start(&mut self) -> Result<(), Wrong> {
        self.expect("ring", call::FAULT_RING, &[RING, 0x1000])?;
        (0..self.devices.len()).try_for_each(|device| self.enable(device))
    }

    fn places(&self, device: usize, substream: u32) -> Vec<Place> {
        self.devices[device].streams.iter().map(|&stream| (stream, substream)).collect()
    }

    /// Adds what a place may do from now on.
    fn widen(&self, device: usize, substream: u32, to: &[Bound]) {
        let facts = &mut *self.truth.lock();
        for place in self.places(device, substream) {
            facts.bound.entry(place).or_insert_with(|| [Bound::Never].into()).extend(to);
        }
    }

    /// Says what a place does, and nothing else.
    fn settle(&self, device: usize, substream: u32, to: Bound) {
        let facts = &mut *self.truth.lock();
        for place in self.places(device, substream) {
            facts.bound.insert(place, [to].into());
        }
    }

    fn state(&self, device: usize, substream: u32) -> BTreeSet<Bound> {
        let facts = self.truth.lock();
        let place = self.places(device, substream)[0];
        facts.bound.get(&place).cloned().unwrap_or_else(|| [Bound::Never].into())
    }

    fn enable(&mut self, device: usize) -> Result<(), Wrong> {
        let number = self.devices[device].number;
        for substream in 0..64 {
            self.widen(device, substream, &[Bound::Plain, Bound::Never]);
        }
        self.expect("enable", call::CONTEXTS_ENABLE, &[number, 6, 2])?;
        for substream in 0..64 {
            self.settle(device, substream, Bound::Never);
        }
        self.devices[device].enabled = true;
        Ok(())
    }

    fn disable(&mut self, device: usize) -> Result<(), Wrong> {
        let number = self.devices[device].number;
        for substream in 0..64 {
            self.widen(device, substream, &[Bound::Plain]);
        }
        self.expect("disable", call::STAGE1_DISABLE, &[number])?;
        for substream in 0..64 {
            self.settle(device, substream, Bound::Plain);
        }
        self.bonds.retain(|&(of, _), _| of != device);
        self.devices[device].enabled = false;
        Ok(())
    }

    /// A few of the 64 substreams are used most.
    fn some_substream(rng: &mut Rng) -> u32 {
        if rng.percent(80) { rng.below(4) as u32 } else { rng.below(64) as u32 }
    }

    /// One random action.
    pub fn act(&mut self, rng: &mut Rng, next: &mut u32) -> Result<(), Wrong> {
        match rng.below(100) {
            0..=14 => self.spawn(rng, next),
            15..=44 => self.bind(rng),
            45..=59 => self.unbind(rng),
            60..=76 => self.change(rng),
            77..=81 => self.exit(rng),
            82..=87 => self.page(rng),
            88..=89 => {
                let device = rng.index(self.devices.len());
                if self.devices[device].enabled {
                    self.disable(device)
                } else {
                    self.enable(device)
                }
            }
            _ => self.poll(rng),
        }
    }

    fn write(&self, ipa: u64, word: u64) -> Result<(), Wrong> {
        self.home
            .ram
            .write(Ipa::new(ipa), &word.to_le_bytes())
            .map_err(|error| error.to_string())?;
        barrier::dsb_sy();
        Ok(())
    }

    fn target(&self, rng: &mut Rng) -> Target {
        match rng.below(10) {
            0..=2 => Target::Nowhere,
            3 => Target::Outside,
            _ => Target::Page(self.index, rng.below(u64::from(super::memory::DATA_PAGES)) as u32),
        }
    }

    /// Descriptor of a page: EL0 may read and write, accessed, not global (DDI 0487, D8.3).
    pub fn descriptor(target: Target) -> u64 {
        let page = 0b11 | 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
        match target {
            Target::Nowhere => 0,
            Target::Page(_, number) => (DATA + u64::from(number) * 0x1000) | page,
            Target::Outside => OUTSIDE | page,
        }
    }

    fn leaf(process: &Process, page: u64) -> u64 {
        process.table(3) + (page >> 12 & 511) * 8
    }

    /// A new process with tables of its own, in a slot that nobody is bound to any more.
    fn spawn(&mut self, rng: &mut Rng, next: &mut u32) -> Result<(), Wrong> {
        let taken = |slot| self.processes.iter().any(|process| process.slot == slot);
        let Some(slot) = (0..SLOTS).find(|&slot| !taken(slot)) else { return Ok(()) };
        *next += 1;
        let process = Process { number: *next, slot, asid: 1 + rng.below(12), gone: false };
        for level in 1..=3 {
            let zeroes = [0; 0x1000];
            let table = Ipa::new(process.table(level));
            self.home.ram.write(table, &zeroes).map_err(|error| error.to_string())?;
        }
        // All pages but the last share their upper tables; the last has none.
        let table = |level| process.table(level) | 0b11;
        self.write(process.table(1) + (PAGES[0] >> 30 & 511) * 8, table(2))?;
        self.write(process.table(2) + (PAGES[0] >> 21 & 511) * 8, table(3))?;
        let mut space = BTreeMap::new();
        for &page in PAGES.iter().take(PAGES.len() - 1) {
            let target = self.target(rng);
            self.write(Self::leaf(&process, page), Self::descriptor(target))?;
            space.insert(page, BTreeSet::from([target]));
        }
        self.truth.lock().spaces.insert(process.number, space);
        self.processes.push(process);
        Ok(())
    }

    fn bind(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let device = rng.index(self.devices.len());
        let substream = Self::some_substream(rng);
        let process = &self.processes[rng.index(self.processes.len())];
        let rebind = rng.percent(40);
        let flags = if rebind { BindFlags::REBIND } else { 0 };
        let stall = if rng.percent(20) { BindFlags::STALL } else { 0 };
        let number = self.devices[device].number;
        let before = self.state(device, substream);
        if self.devices[device].enabled {
            self.widen(device, substream, &[Bound::Parked, Bound::Process(process.number)]);
        }
        let root = process.table(1);
        let asid = process.asid | flags | stall;
        let arguments = [number, u64::from(substream), root, TCR, 0xff, asid];
        let (status, _) = self.call(call::BIND, &arguments);
        let bond = (device, substream);
        let sharers = |number| self.bonds.values().filter(|&&other| other == number).count();
        let rival = self.processes.iter().any(|other| {
            other.number != process.number
                && other.asid == process.asid
                && sharers(other.number) > 0
        });
        let free = rebind || !self.bonds.contains_key(&bond);
        match status {
            Status::Success => {
                if process.gone && sharers(process.number) > 0 {
                    return Err(format!("{arguments:x?} bound a process that has gone"));
                }
                if rival || !free || !self.devices[device].enabled {
                    return Err(format!("{arguments:x?} was bound against the rules"));
                }
                self.settle(device, substream, Bound::Process(process.number));
                self.bonds.insert(bond, process.number);
            }
            // An ASID taken, tables that differ (a stall flag is part of them), a place taken,
            // no stalls here, no context table.
            Status::Busy | Status::Invalid | Status::NotFound => {
                let facts = &mut *self.truth.lock();
                for place in self.places(device, substream) {
                    if self.devices[device].enabled {
                        facts.bound.insert(place, before.clone());
                    }
                }
            }
            _ => return Err(format!("bind {arguments:x?} answered {status:?}")),
        }
        self.reap();
        Ok(())
    }

    fn unbind(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        if self.bonds.is_empty() {
            return Ok(());
        }
        let index = rng.index(self.bonds.len());
        let Some(&(device, substream)) = self.bonds.keys().nth(index) else { return Ok(()) };
        self.widen(device, substream, &[Bound::Parked]);
        let number = self.devices[device].number;
        self.expect("unbind", call::UNBIND, &[number, u64::from(substream)])?;
        self.settle(device, substream, Bound::Parked);
        self.bonds.remove(&(device, substream));
        self.reap();
        Ok(())
    }

    /// A process whose end came and that nobody is bound to leaves its slot.
    fn reap(&mut self) {
        let bonds = &self.bonds;
        let truth = &self.truth;
        self.processes.retain(|process| {
            let stays = !process.gone || bonds.values().any(|&number| number == process.number);
            if !stays {
                truth.lock().spaces.remove(&process.number);
            }
            stays
        });
    }

    /// Another target for one page, and the invalidation that makes it so.
    fn change(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let process = &self.processes[rng.index(self.processes.len())];
        let page = PAGES[rng.index(PAGES.len() - 1)];
        let target = self.target(rng);
        let set = |to: &mut dyn FnMut(&mut BTreeSet<Target>)| {
            if let Some(space) = self.truth.lock().spaces.get_mut(&process.number) {
                to(space.entry(page).or_default());
            }
        };
        set(&mut |targets| {
            targets.insert(target);
        });
        self.write(Self::leaf(process, page), Self::descriptor(target))?;
        let shared = !process.gone && self.bonds.values().any(|&number| number == process.number);
        if shared {
            let range = match rng.below(3) {
                0 => [process.asid, 0, u64::MAX, 0],
                1 => [process.asid, page, page + 0x1000, 0x1000],
                _ => [process.asid, page & !0x1f_ffff, (page & !0x1f_ffff) + 0x20_0000, 0],
            };
            self.expect("invalidate", call::INVALIDATE, &range)?;
        }
        set(&mut |targets| *targets = [target].into());
        Ok(())
    }

    fn exit(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let index = rng.index(self.processes.len());
        let (number, asid) = (self.processes[index].number, self.processes[index].asid);
        let bound: Vec<_> =
            self.bonds.iter().filter(|(_, of)| **of == number).map(|(&at, _)| at).collect();
        if self.processes[index].gone {
            return Ok(());
        }
        self.processes[index].gone = true;
        if !bound.is_empty() {
            for &(device, substream) in &bound {
                self.widen(device, substream, &[Bound::Parked]);
            }
            self.expect("exit", call::EXIT, &[asid])?;
            for (device, substream) in bound {
                self.settle(device, substream, Bound::Parked);
            }
        }
        self.reap();
        Ok(())
    }

    /// A page of the VM's memory goes, or comes back.
    fn page(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        let number = rng.below(u64::from(super::memory::DATA_PAGES)) as u32;
        let ipa = DATA + u64::from(number) * 0x1000;
        let key = (self.index, number);
        let there = self.truth.lock().present.get(&key).is_none_or(|set| set.contains(&true));
        self.truth.lock().present.insert(key, [true, false].into());
        if there {
            self.home.view.unmap(ipa)?;
        } else {
            self.home.view.map(ipa, super::truth::pa_of(self.index, number))?;
        }
        self.truth.lock().present.insert(key, [!there].into());
        Ok(())
    }

    /// Takes faults, checks whose they are, and answers stalls.
    pub fn poll(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        let mut wrong = None;
        self.service.pump(&mut |fault| {
            let stream = fault.record.stream.get();
            let mine = self.devices.iter().any(|device| device.streams.contains(&stream));
            if !mine || fault.owner != Some(self.home.owner) {
                wrong = Some(format!("a fault of stream {stream:#x} came to VM {}", self.index));
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let word = |offset| {
            let mut bytes = [0; 8];
            self.home
                .ram
                .read(Ipa::new(RING + offset), &mut bytes)
                .map(|()| u64::from_le_bytes(bytes))
                .map_err(|error| error.to_string())
        };
        let (capacity, producer) = (word(RingHeader::CAPACITY)?, word(RingHeader::PRODUCER)?);
        while self.read < producer {
            let offset = RING_HEADER_BYTES as u64 + self.read % capacity * FAULT_BYTES as u64;
            let mut bytes = [0; FAULT_BYTES];
            let at = Ipa::new(RING + offset);
            self.home.ram.read(at, &mut bytes).map_err(|error| error.to_string())?;
            self.read += 1;
            let record = FaultRecord::from_bytes(&bytes);
            if record.flags.0 & FaultFlags::STALL != 0 {
                let answer = rng.below(3);
                let arguments = [u64::from(record.device), u64::from(record.stall_tag), answer];
                self.expect("resume", call::RESUME, &arguments)?;
            }
        }
        self.write(RING + RingHeader::CONSUMER, self.read)
    }

    /// Everything is undone, in an order of chance.
    pub fn stop(&mut self, rng: &mut Rng) -> Result<(), Wrong> {
        while !self.bonds.is_empty() {
            self.unbind(rng)?;
        }
        let footprint = self.service.footprint();
        if footprint.processes + footprint.bonds + footprint.space.asids as usize != 0 {
            return Err(format!("VM {} is left with {footprint:?}", self.index));
        }
        for device in 0..self.devices.len() {
            if self.devices[device].enabled && rng.percent(50) {
                self.disable(device)?;
            }
        }
        Ok(())
    }
}
