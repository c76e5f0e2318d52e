//! A small machine at work: devices and domains, changed at random, watched at every instant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::{DeviceId, DeviceInfo, Domain, Error, Iommus, Owner, Registration};
use palisade_mem::{Agent, Arena, Frames, PhysRange, Scope};
use palisade_pgtable::PageTable;
use palisade_smmu_model::{Injection, Rng, Temper};
use palisade_smmuv3::{Options, Smmu};

use crate::clock::ModelClock;
use crate::extent::{EXTENT_RAM, EXTENT_STRIDE, EXTENTS};
use crate::firmware;
use crate::ledger::Page;
use crate::machine::Machine;
use crate::setup::{Injections, Setup};
use crate::tables::{self, Refusal, Shape, Users};
use crate::traffic::Violation;

const PHANDLE: u32 = 1;
const ARENA: u64 = 0x8000_0000;
const FRAMES: u64 = 256;
/// Guests' RAM: nothing of the hypervisor's is there.
const RAM: u64 = 0x1_0000_0000;
const RAM_PAGES: u64 = 20;
/// Devices by number, with their streams.
pub(crate) const DEVICES: [(u32, &[u32]); 4] = [(1, &[1]), (2, &[2, 3]), (3, &[5]), (4, &[8, 13])];
/// The device that the manifest would trust with ATS.
pub(crate) const TRUSTED: u32 = 3;
/// Streams that no device has: one in the table, one beyond small tables.
const STRANGERS: [u32; 3] = [33, 70, 0x1234];
const PAGE_COUNT: usize = 8;
/// The pages that devices know of.
const PAGES: [u64; PAGE_COUNT] = [
    0x4000_0000,
    0x4000_1000,
    0x4000_2000,
    0x4000_3000,
    0x4001_f000,
    0x4020_0000,
    0x4020_1000,
    0x7000_0000,
];

pub(crate) struct Space {
    pub(crate) domain: Arc<Domain>,
    pub(crate) table: Box<dyn PageTable>,
    pub(crate) users: Users,
    pub(crate) owner: Owner,
    /// Number in the ledger.
    pub(crate) number: u32,
    pub(crate) pages: BTreeMap<u64, Page>,
    /// Extents by index, with the memory behind them.
    pub(crate) extents: BTreeMap<usize, Page>,
}

/// The world.
pub struct World {
    pub(crate) machine: Arc<Machine>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) iommus: Iommus,
    /// The voice of all users of a domain's tables.
    agent: Arc<Agent>,
    pub(crate) spaces: Vec<Space>,
    pub(crate) behind: BTreeMap<u32, u32>,
    pub(crate) free: Vec<u64>,
    pub(crate) rng: Rng,
    pub(crate) shape: Shape,
    pub(crate) extent_ram: Vec<u64>,
    next_number: u32,
    injections: Injections,
    splits: bool,
    /// Some events were recorded for firmware.
    firmware: bool,
    pages: [u64; PAGE_COUNT],
    /// A fault was injected that operations need not survive.
    may_fail: bool,
    /// Events that reached the operator.
    told: u64,
    over: bool,
    _arena: Arc<Arena>,
}

/// Fills the arena with what memory may hold when the power comes on, or what an earlier owner
/// left: words that a walker would take for entries that open everything.
fn litter(arena: &Arena, seed: u64) {
    let mut rng = Rng::new(seed ^ 0x1177e5);
    for word in arena.words() {
        let value = match rng.below(4) {
            // A bypassing STE; a page that may be written, as stage 2 reads it.
            0 => 0b1001,
            1 => 0x1_7000_0000 | 0b11 | 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10,
            2 => 0x1_7020_0000 | 0b01 | 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10,
            _ => rng.next_u64(),
        };
        word.store(value, Ordering::Relaxed);
    }
}

fn failed(assertion: &'static str, detail: impl core::fmt::Debug) -> Violation {
    Violation { assertion, detail: format!("{detail:?}") }
}

impl World {
    /// Brings the SMMU up, devices trying from the first instant on.
    ///
    /// # Errors
    /// The first violation; `bring-up` when the driver gave up.
    pub fn new(setup: &Setup) -> Result<Self, Violation> {
        let arena = Arc::new(Arena::new(PhysAddr::new(ARENA), FRAMES));
        litter(&arena, setup.seed);
        let features = setup.features.clone();
        let features_ats = features.ats;
        let shape = Shape {
            oas: features.oas,
            coherent: features.coherent,
            in_place: features.bbml >= 2,
            contiguous: setup.contiguous,
        };
        let open = !features.gbpa_abort;
        let machine = Machine::new(features, arena.clone(), setup.seed, setup.sabotage.clone());
        let streams = DEVICES.iter().flat_map(|(_, streams)| streams.iter().copied());
        if features_ats {
            let streams = World::streams_of(TRUSTED).iter().copied();
            machine.with_ledger(|ledger| ledger.trusted = streams.collect());
        }
        if setup.firmware {
            let open = firmware::leave_enabled(&machine, &arena, ARENA);
            machine.with_ledger(|ledger| (ledger.open, ledger.firmware) = (open, true));
        } else if open {
            machine.with_ledger(|ledger| ledger.open = streams.clone().chain(STRANGERS).collect());
        }
        let probes = EXTENTS.iter().flat_map(|extent| extent.probes);
        let known = if setup.instants {
            core::array::from_fn(|i| 0x4000_0000 + 0x4020_1000 * i as u64)
        } else {
            PAGES
        };
        if setup.instants {
            machine.set_eager(true);
            machine.with_model(|model| {
                model.set_temper(Temper { cache: 0, ..Temper::default() });
            });
        }
        let pages: Vec<u64> = if setup.splits {
            machine.with_model(|model| {
                model.set_temper(Temper { cache: 40, evict: 20, ..Temper::default() });
            });
            probes.collect()
        } else {
            known.into_iter().chain(probes).collect()
        };
        machine.set_traffic(streams.chain(STRANGERS).collect(), pages);
        let range = arena.range();
        let ours = PhysRange { bytes: range.bytes - firmware::BYTES, ..range };
        let frames =
            Frames::new(arena.map(), &[ours]).map_err(|error| failed("bring-up", error))?;
        let options = Options {
            sync_micros: 3000,
            register_micros: 3000,
            cmdq_log2: 4,
            evtq_log2: 5,
            messages: setup.messages,
            // Containment has tests of its own; here every event is counted.
            storm_events: u32::MAX,
            ..Options::default()
        };
        let clock = ModelClock::new(machine.clone());
        let mmio = machine.mmio();
        machine.set_during("bring-up");
        let smmu = machine.run(|| Smmu::bring_up(mmio, &frames, clock, options));
        let smmu = smmu.map_err(|error| failed("bring-up", error))?;
        let iommus = Iommus::new(8, 16);
        for (id, streams) in DEVICES {
            let info = DeviceInfo {
                id: DeviceId::new(id),
                name: format!("device-{id}"),
                iommu: Some(PHANDLE),
                streams: streams.iter().copied().map(StreamId::new).collect(),
                isolation: None,
            };
            iommus.add_device(info).map_err(|error| failed("bring-up", error))?;
        }
        let agent = frames.register_agent("iommu").map_err(|error| failed("bring-up", error))?;
        let users = frames.register_agent("users").map_err(|error| failed("bring-up", error))?;
        let registration = Registration { phandle: PHANDLE, driver: Arc::new(smmu), agent };
        let registered = machine.run(|| iommus.register(registration));
        registered.map_err(|rejected| failed("bring-up", rejected.error))?;
        let world = World {
            machine,
            frames,
            iommus,
            agent: Arc::new(users),
            spaces: Vec::new(),
            behind: BTreeMap::new(),
            free: (0..RAM_PAGES).map(|page| RAM + page * 0x1000).collect(),
            rng: Rng::new(setup.seed ^ 0xac7),
            shape,
            extent_ram: (0..6).map(|i| EXTENT_RAM + i * EXTENT_STRIDE).collect(),
            next_number: 0,
            injections: setup.injections,
            splits: setup.splits,
            firmware: setup.firmware,
            pages: known,
            may_fail: false,
            told: 0,
            over: false,
            _arena: arena,
        };
        world.settle()?;
        if world.machine.with_ledger(|ledger| !ledger.open.is_empty()) {
            return Err(failed("reach", "the SMMU is up and still open"));
        }
        Ok(world)
    }

    /// The machine beneath.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Whether an injected fault has ended this world.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Devices go on trying for a while after the last action.
    ///
    /// # Errors
    /// The first violation.
    pub fn linger(&self, rounds: u32) -> Result<(), Violation> {
        (0..rounds).try_for_each(|_| self.settle())
    }

    /// Lets devices try for a while and answers the first violation.
    fn settle(&self) -> Result<(), Violation> {
        for _ in 0..4 {
            self.machine.live();
        }
        self.machine.violation().map_or(Ok(()), Err)
    }

    /// What the model holds against the driver explains a failure best.
    fn blame(&self, detail: String) -> Violation {
        self.machine.violation().unwrap_or(Violation { assertion: "error", detail })
    }

    /// One random action.
    ///
    /// # Errors
    /// The first violation.
    pub fn step(&mut self) -> Result<(), Violation> {
        let machine = self.machine.clone();
        if self.injections != Injections::None && self.rng.percent(4) {
            self.may_fail |= self.inject();
        }
        let mut choice = self.rng.below(100);
        if self.splits && self.rng.percent(60) {
            choice = 51 + choice % 9;
        }
        let outcome = machine.run(|| match choice {
            0..=7 => self.create(),
            8..=30 => self.map(),
            31..=50 => self.unmap(),
            51..=55 => self.map_extent(),
            56..=57 => self.unmap_extent(),
            58..=59 => self.punch(),
            60..=74 => self.assign(),
            75..=86 => self.take_back(),
            87..=93 => self.replace(),
            94..=96 => self.drain(),
            _ => self.retire(),
        });
        machine.set_during("");
        match outcome {
            Ok(()) => {}
            Err(Trouble::Driver(_) | Trouble::Tlb) if self.may_fail => self.over = true,
            Err(Trouble::Tlb) => return Err(self.blame("an invalidation failed".into())),
            Err(Trouble::Driver(error)) => return Err(self.blame(error.to_string())),
            Err(Trouble::Violation(violation)) => return Err(violation),
        }
        self.settle()
    }

    /// Plants a fault of the SMMU. Answers whether operations may now fail because of it.
    fn inject(&mut self) -> bool {
        let (injection, fatal) =
            match self.rng.below(if self.injections == Injections::All { 6 } else { 2 }) {
                0 => (Injection::DelaySync(200), false),
                1 => (Injection::AbortCommandFetch, false),
                2 => (Injection::LoseSync, true),
                3 => (Injection::RefuseCommand, true),
                4 => (Injection::FreezeCommands(true), true),
                _ => (Injection::ServiceFailure, true),
            };
        self.machine.with_ledger(|ledger| ledger.broken |= fatal);
        self.machine.with_model(|model| model.inject(injection));
        fatal
    }

    fn create(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("create");
        if self.spaces.len() >= 3 {
            return Ok(());
        }
        let number = self.next_number;
        // Two domains in a row have one owner, so that a group can move between them.
        let slot = (number / 2 % 8) as u16;
        let owner = match self.spaces.iter().find(|space| space.number / 2 == number / 2) {
            Some(space) => space.owner,
            None => match self.iommus.owners().open(slot) {
                Ok(owner) => owner,
                Err(_) => return Ok(()),
            },
        };
        let memory_owner = palisade_mem::Owner::vm(slot);
        let scope = Scope::new(number + 1);
        let made = tables::dma_tables(&self.frames, memory_owner, scope, &self.agent, self.shape);
        let Some(table) = made else { return Ok(()) };
        let Some(regs) = table.registers().stage2().copied() else { return Ok(()) };
        let domain = self.iommus.paging_domain(owner, regs.vttbr_baddr, regs.packed())?;
        let users = Users::new(self.agent.clone(), domain.clone(), scope);
        self.next_number += 1;
        self.spaces.push(Space {
            domain,
            table,
            users,
            owner,
            number,
            pages: BTreeMap::new(),
            extents: BTreeMap::new(),
        });
        Ok(())
    }

    fn map(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("map");
        if self.spaces.is_empty() || self.free.is_empty() {
            return Ok(());
        }
        let index = self.rng.index(self.spaces.len());
        let page = self.pages[self.rng.index(PAGE_COUNT)];
        let space = &mut self.spaces[index];
        if space.pages.contains_key(&page) {
            return Ok(());
        }
        let pa = self.free.swap_remove(self.rng.index(self.free.len()));
        let to = Page { pa, writable: self.rng.percent(70) };
        let number = space.number;
        self.machine.with_ledger(|ledger| ledger.begin_page(number, page, Some(to)));
        if let Err(error) = tables::map(&mut *space.table, page, 0x1000, to) {
            self.machine.with_ledger(|ledger| ledger.end_page(number, page, None));
            self.free.push(pa);
            return Self::refused(Refusal::Table(error));
        }
        self.machine.with_ledger(|ledger| ledger.end_page(number, page, Some(to)));
        space.pages.insert(page, to);
        Ok(())
    }

    /// Out of memory is no fault; a failed invalidation is the driver's answer.
    pub(crate) fn refused(refusal: Refusal) -> Result<(), Trouble> {
        match refusal {
            Refusal::NoMemory | Refusal::Table(palisade_pgtable::Error::NoMemory(_)) => Ok(()),
            Refusal::Tlb => Err(Trouble::Tlb),
            Refusal::Proof(text) => Err(Trouble::Violation(failed("proof", text))),
            Refusal::Table(error) => Err(Trouble::Violation(failed("table", error))),
        }
    }

    fn unmap(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("unmap");
        if self.spaces.is_empty() {
            return Ok(());
        }
        let index = self.rng.index(self.spaces.len());
        let space = &mut self.spaces[index];
        let mapped: Vec<u64> = space.pages.keys().copied().collect();
        if mapped.is_empty() {
            return Ok(());
        }
        let first = self.rng.index(mapped.len());
        // One page, or a run of neighbours.
        let count = if self.rng.percent(30) { 4 } else { 1 };
        let run: Vec<u64> = mapped[first..]
            .iter()
            .copied()
            .enumerate()
            .take_while(|(i, page)| *i < count && *page == mapped[first] + 0x1000 * *i as u64)
            .map(|(_, page)| page)
            .collect();
        let number = space.number;
        for page in &run {
            self.machine.with_ledger(|ledger| ledger.begin_page(number, *page, None));
        }
        let bytes = 0x1000 * run.len() as u64;
        let table = &mut *space.table;
        let done = tables::unmap(table, &self.frames, &space.users, run[0], bytes);
        if let Err(refusal) = done {
            // Nothing is proven: the pages are gone for good.
            space.pages.retain(|page, _| !run.contains(page));
            return Self::refused(refusal);
        }
        for page in &run {
            self.machine.with_ledger(|ledger| ledger.end_page(number, *page, None));
            self.free.extend(space.pages.remove(page).map(|page| page.pa));
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("drain");
        if let Some(instance) = self.iommus.instance(PHANDLE) {
            for _ in 0..16 {
                if !self.iommus.drain(&instance, 64).more {
                    break;
                }
            }
        }
        self.listen()
    }

    /// Takes what the operator was told.
    fn listen(&mut self) -> Result<(), Trouble> {
        let mut strange = None;
        let mut count = 0;
        let lost = self.iommus.take_operator_faults(&mut |fault| {
            count += 1;
            let stream = fault.record.stream.get();
            let known = DEVICES.iter().any(|(_, streams)| streams.contains(&stream));
            if !known && !STRANGERS.contains(&stream) {
                strange = Some(failed("event", fault.record));
            }
        });
        self.told += count + lost;
        strange.map_or(Ok(()), |violation| Err(Trouble::Violation(violation)))
    }

    /// The end: devices are still, and every event that was recorded has been told.
    ///
    /// # Errors
    /// The first violation.
    pub fn finish(&mut self) -> Result<(), Violation> {
        self.linger(50)?;
        let machine = self.machine.clone();
        machine.set_quiet(true);
        self.settle()?;
        machine.with_model(|model| model.run(200));
        match machine.run(|| self.drain()) {
            Err(Trouble::Violation(violation)) => return Err(violation),
            _ => self.settle()?,
        }
        let written = machine.with_model(|model| model.counters().events);
        if !self.may_fail && !self.firmware && written != self.told {
            let detail = format!("{written} events were recorded, {} were told", self.told);
            return Err(Violation { assertion: "event", detail });
        }
        Ok(())
    }
}

/// Why an action did not succeed.
pub(crate) enum Trouble {
    Driver(Error),
    Tlb,
    Violation(Violation),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Driver(error)
    }
}
