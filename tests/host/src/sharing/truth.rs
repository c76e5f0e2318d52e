//! Who may reach what by virtual addresses, at this instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_smmu_model::{Access, Event, EventKind, Model, Outcome, Request, Rng};

use super::memory::{DATA, DATA_PAGES};
use crate::machine::Devices;

/// What a substream may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// The device is behind stage 2 alone.
    Plain,
    /// Its entry aborts, and nothing is recorded.
    Closed,
    /// Nothing was ever bound: the descriptor is invalid.
    Never,
    /// It translates by nothing.
    Parked,
    /// It translates by a process.
    Process(u32),
}

/// Where a page of a process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Nowhere: a fault of stage 1.
    Nowhere,
    /// A page of its VM's memory: the VM, and the number of the page.
    Page(u32, u32),
    /// An IPA that the VM does not have: a fault of stage 2.
    Outside,
}

/// The virtual addresses that devices know of: the last is never mapped.
pub const PAGES: [u64; 9] = [
    0x1000_0000,
    0x1000_1000,
    0x1000_2000,
    0x1000_3000,
    0x1001_0000,
    0x1001_f000,
    0x1010_0000,
    0x101f_f000,
    0x5000_0000,
];

/// A stream and a substream; substream 0 is what a transaction without one uses.
pub type Place = (u32, u32);

#[derive(Default)]
pub struct Facts {
    /// What each place may do now: one thing at rest, more while it changes.
    pub bound: BTreeMap<Place, BTreeSet<Bound>>,
    /// Where each page of each process may lead now; pages not listed lead nowhere.
    pub spaces: BTreeMap<u32, BTreeMap<u64, BTreeSet<Target>>>,
    /// Whether pages of VMs may be there now.
    pub present: BTreeMap<(u32, u32), BTreeSet<bool>>,
    /// The first violation.
    pub violation: Option<String>,
    /// Transactions that reached memory, that were refused, that stalled.
    pub counts: [u64; 3],
}

/// The facts, shared by the world and the devices.
#[derive(Clone, Default)]
pub struct Truth(Arc<Mutex<Facts>>);

/// Where page `page` of VM `vm` is: outside the arena.
pub fn pa_of(vm: u32, page: u32) -> u64 {
    0x1_0000_0000 + (u64::from(vm) << 24) + (u64::from(page) << 12)
}

/// The VM that a stream belongs to; each has sixteen.
pub fn vm_of(stream: u32) -> u32 {
    (stream - 1) / 16
}

/// The page of its VM's data that a device behind stage 2 alone names by `page`.
fn data_page((stream, substream): Place, page: u64) -> Option<(u32, u32)> {
    let number = u32::try_from(page.checked_sub(DATA)? >> 12).ok()?;
    (substream == 0 && number < DATA_PAGES).then_some((vm_of(stream), number))
}

impl Truth {
    pub fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Devices that try everything that is in these facts.
    pub fn devices(&self, seed: u64) -> Box<dyn Devices> {
        self.calm_devices(seed, 100)
    }

    /// The same; they try something at so many percent of the moments.
    pub fn calm_devices(&self, seed: u64, percent: u32) -> Box<dyn Devices> {
        let (truth, rng) = (self.clone(), Rng::new(seed));
        Box::new(Prober { truth, rng, percent, stalled: BTreeMap::new() })
    }
}

impl Facts {
    /// Everything that a transaction may meet: pages it may reach, and why it may be refused.
    fn meets(&self, place: Place, page: u64) -> (BTreeSet<u64>, Refusals) {
        let (mut pages, mut why) = (BTreeSet::new(), Refusals::default());
        let plain = BTreeSet::from([Bound::Plain]);
        let nowhere = BTreeSet::from([Target::Nowhere]);
        let there = BTreeSet::from([true]);
        for bound in self.bound.get(&place).unwrap_or(&plain) {
            match bound {
                // Without a substream the address is an IPA; with one it is an error.
                Bound::Plain => match data_page(place, page) {
                    Some(number) => {
                        let present = self.present.get(&number).unwrap_or(&there);
                        if present.contains(&true) {
                            pages.insert(pa_of(number.0, number.1));
                        }
                        why.plain |= present.contains(&false);
                    }
                    None => why.plain = true,
                },
                Bound::Closed => why.closed = true,
                Bound::Never => why.never = true,
                Bound::Parked => why.parked = true,
                Bound::Process(number) => {
                    let space = self.spaces.get(number);
                    let targets = space.and_then(|space| space.get(&page)).unwrap_or(&nowhere);
                    for target in targets {
                        match *target {
                            Target::Nowhere => why.stage1 = true,
                            Target::Outside => why.stage2 = true,
                            Target::Page(vm, number) => {
                                let present = self.present.get(&(vm, number)).unwrap_or(&there);
                                if present.contains(&true) {
                                    pages.insert(pa_of(vm, number));
                                }
                                why.stage2 |= present.contains(&false);
                            }
                        }
                    }
                }
            }
        }
        (pages, why)
    }

    fn violate(&mut self, detail: String) {
        if self.violation.is_none() {
            self.violation = Some(detail);
        }
    }

    /// Holds the end of a transaction against the facts.
    pub fn check(&mut self, request: &Request, outcome: &Outcome) {
        let place = (request.stream, request.substream.unwrap_or(0));
        let (pages, why) = self.meets(place, request.address & !0xfff);
        let event = match outcome {
            Outcome::Done { pa, .. } => {
                self.counts[0] += 1;
                let offset = pa & 0xfff == request.address & 0xfff;
                if !offset || !pages.contains(&(pa & !0xfff)) {
                    self.violate(format!("{request:x?} reached {pa:#x}, allowed {pages:x?}"));
                }
                return;
            }
            Outcome::Aborted { event } | Outcome::Ignored { event } => *event,
            Outcome::Stalled { .. } => {
                self.counts[2] += 1;
                None
            }
            _ => return,
        };
        self.counts[1] += 1;
        if !why.any() {
            self.violate(format!("{request:x?} was refused: {outcome:x?}, it leads to {pages:x?}"));
        }
        if let Some(event) = event
            && !why.explains(&event)
        {
            self.violate(format!("{request:x?} gave {event:x?}, which {why:?} do not explain"));
        }
    }
}

/// Why a transaction may be refused now.
#[derive(Debug, Default)]
struct Refusals {
    plain: bool,
    closed: bool,
    never: bool,
    parked: bool,
    stage1: bool,
    stage2: bool,
}

impl Refusals {
    fn any(&self) -> bool {
        self.plain || self.closed || self.never || self.parked || self.stage1 || self.stage2
    }

    /// A recorded event is of the right kind, and so goes to the right party.
    fn explains(&self, event: &Event) -> bool {
        if self.plain {
            // Stage 2 alone: a substream is an error, an address is an IPA.
            return true;
        }
        match event.kind {
            EventKind::BadCd => self.never,
            EventKind::Translation if event.stage2 => self.stage2,
            EventKind::Translation => self.stage1 || self.parked,
            _ => false,
        }
    }
}

struct Prober {
    truth: Truth,
    rng: Rng,
    percent: u32,
    stalled: BTreeMap<u64, Request>,
}

impl Devices for Prober {
    fn pulse(&mut self, model: &mut Model) {
        let truth = self.truth.clone();
        let facts = &mut *truth.lock();
        for (id, request, outcome) in model.take_completed() {
            if self.stalled.remove(&id).is_some()
                && let Outcome::Done { .. } = outcome
            {
                facts.check(&request, &outcome);
            }
        }
        let places = facts.bound.len();
        if places == 0 || (self.percent < 100 && !self.rng.percent(self.percent)) {
            return;
        }
        for _ in 0..self.rng.below(3) {
            // Mostly places that were touched: there are 64 substreams per stream.
            let index = self.rng.index(places);
            let Some((&(stream, substream), _)) = facts.bound.iter().nth(index) else { continue };
            let substream = (substream != 0).then_some(substream);
            let address = PAGES[self.rng.index(PAGES.len())] + self.rng.below(512) * 8;
            let access = if self.rng.percent(50) { Access::Write(1) } else { Access::Read };
            let request = Request::new(stream, substream, address, access);
            let outcome = model.request(request);
            facts.check(&request, &outcome);
            if let Outcome::Stalled { id, .. } = outcome {
                self.stalled.insert(id, request);
            }
        }
    }
}
