//! The SMMU itself: its state, its clock, and what a test may ask of it.

use std::collections::VecDeque;

use crate::atc::Atc;
use crate::cmdq::{CommandFilter, SyncWait};
use crate::command::Command;
use crate::config_cache::ConfigCache;
use crate::driver_fault::DriverFault;
use crate::event::Event;
use crate::features::Features;
use crate::inject::Injected;
use crate::memory::Memory;
use crate::poison;
use crate::regs::{GBPA_ABORT, Registers, SMMUEN};
use crate::rng::Rng;
use crate::stall::Stall;
use crate::tlb::Tlb;
use crate::transaction::{Outcome, Request};

/// A signal that leaves the SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The event queue became non-empty.
    EventQueue,
    /// The PRI queue became non-empty.
    PriQueue,
    /// A CMD_SYNC with SIG_IRQ completed.
    Sync,
    /// A CMD_SYNC with SIG_SEV completed.
    SyncEvent,
    /// A bit of GERROR was toggled.
    GlobalError,
}

/// What the model has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands consumed, CMD_SYNC apart.
    pub commands: u64,
    /// CMD_SYNCs consumed.
    pub syncs: u64,
    /// TLB invalidations among the commands.
    pub tlb_invalidations: u64,
    /// Configuration invalidations among the commands.
    pub config_invalidations: u64,
    /// ATC invalidations among the commands.
    pub atc_invalidations: u64,
    /// Writes of CMDQ_PROD.
    pub command_publications: u64,
    /// Register reads.
    pub reads: u64,
    /// Register writes.
    pub writes: u64,
    /// Event records written.
    pub events: u64,
}

/// How eager the caches and the speculation are, in percent of opportunities.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// A fetched word is cached.
    pub cache: u32,
    /// A cached word is dropped, each step.
    pub evict: u32,
    /// Something is fetched that nobody asked for, each step.
    pub speculate: u32,
    /// A contiguous run of descriptors is cached as one entry.
    pub contiguous: u32,
}

impl Default for Temper {
    fn default() -> Self {
        Temper { cache: 90, evict: 2, speculate: 15, contiguous: 70 }
    }
}

/// A transaction that has been translated but not yet performed.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub id: u64,
    pub pa: u64,
    pub request: Request,
}

/// One SMMUv3.
pub struct Model {
    pub(crate) features: Features,
    pub(crate) memory: Box<dyn Memory>,
    pub(crate) rng: Rng,
    pub(crate) temper: Temper,
    pub(crate) regs: Registers,
    pub(crate) register_delay: u32,
    pub(crate) configs: ConfigCache,
    pub(crate) tlb: Tlb,
    pub(crate) atc: Atc,
    /// Invalidations consumed but not yet effective (4.3.8).
    pub(crate) pending: Vec<Command>,
    pub(crate) sync: Option<SyncWait>,
    pub(crate) posted: Vec<Posted>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stalls: Vec<Stall>,
    pub(crate) next_tag: u16,
    pub(crate) next_id: u64,
    pub(crate) recent: VecDeque<(u32, Option<u32>, u64)>,
    pub(crate) injected: Injected,
    pub(crate) filter: Option<Box<CommandFilter>>,
    pub(crate) after: Option<[u64; 2]>,
    pub(crate) interrupts: Vec<Interrupt>,
    pub(crate) completed: Vec<(u64, Request, Outcome)>,
    pub(crate) pri_responses: Vec<crate::pri::Response>,
    pub(crate) counters: Counters,
    faults: Vec<DriverFault>,
    steps: u64,
}

impl Model {
    /// An SMMU just out of reset. Its caches hold what an earlier life left in them, since
    /// reset promises nothing about them (6.3.9.6), and its choices all come from `seed`.
    pub fn new(features: Features, memory: Box<dyn Memory>, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let gbpa = if features.gbpa_abort { GBPA_ABORT } else { 0 };
        let regs = poison::registers(gbpa, &mut rng);
        let mut configs = ConfigCache::default();
        let mut tlb = Tlb::default();
        poison::fill(&features, &mut configs, &mut tlb, &mut rng);
        Model {
            features,
            memory,
            rng,
            temper: Temper::default(),
            regs,
            register_delay: 0,
            configs,
            tlb,
            atc: Atc::default(),
            pending: Vec::new(),
            sync: None,
            posted: Vec::new(),
            events: VecDeque::new(),
            stalls: Vec::new(),
            next_tag: 0,
            next_id: 0,
            recent: VecDeque::new(),
            injected: Injected::default(),
            filter: None,
            after: None,
            interrupts: Vec::new(),
            completed: Vec::new(),
            pri_responses: Vec::new(),
            counters: Counters::default(),
            faults: Vec::new(),
            steps: 0,
        }
    }

    /// What this SMMU offers.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Sets how eager caches and speculation are.
    pub fn set_temper(&mut self, temper: Temper) {
        self.temper = temper;
    }

    /// Looks at every command before it is consumed, and may drop or alter it.
    pub fn set_command_filter(&mut self, filter: Option<Box<CommandFilter>>) {
        self.filter = filter;
    }

    /// Time passes: each engine may, or may not, do one thing.
    pub fn step(&mut self) {
        self.steps += 1;
        self.finish_registers();
        if self.rng.percent(75) {
            self.consume_command();
        }
        if self.rng.percent(4) {
            self.apply_one_pending();
        }
        if self.rng.percent(25) {
            self.finish_one_posted();
        }
        if self.rng.percent(50) {
            self.write_one_event();
        }
        if self.rng.percent(10) {
            self.settle_one_stall();
        }
        if self.rng.percent(self.temper.speculate) {
            self.speculate();
        }
        self.advance_fetches();
        if self.rng.percent(self.temper.evict) {
            if self.rng.percent(50) {
                self.tlb.evict(&mut self.rng);
            } else {
                self.configs.evict(&mut self.rng);
            }
        }
    }

    /// `count` steps.
    pub fn run(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn blame(&mut self, fault: DriverFault) {
        // A poll loop may repeat one mistake for ever; one record of it is enough.
        if self.faults.last() != Some(&fault) && self.faults.len() < 1000 {
            self.faults.push(fault);
        }
    }

    pub(crate) fn blame_all(&mut self, faults: Vec<DriverFault>) {
        for fault in faults {
            if !self.faults.contains(&fault) {
                self.blame(fault);
            }
        }
    }

    /// What the driver has done wrong so far.
    pub fn driver_faults(&self) -> &[DriverFault] {
        &self.faults
    }

    /// The same, and forgets it.
    pub fn take_driver_faults(&mut self) -> Vec<DriverFault> {
        std::mem::take(&mut self.faults)
    }

    /// The interrupts raised since the last call (MSIs are memory writes, and not here).
    pub fn take_interrupts(&mut self) -> Vec<Interrupt> {
        std::mem::take(&mut self.interrupts)
    }

    /// Posted and stalled transactions that have ended since the last call, by their id.
    pub fn take_completed(&mut self) -> Vec<(u64, Request, Outcome)> {
        std::mem::take(&mut self.completed)
    }

    /// Counts of commands and register accesses.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether transactions pass untranslated because neither SMMUEN nor GBPA.ABORT is set.
    pub fn is_open(&self) -> bool {
        self.regs.cr0ack & SMMUEN == 0 && self.regs.gbpa_effective & GBPA_ABORT == 0
    }

    /// CR0ACK.SMMUEN.
    pub fn is_enabled(&self) -> bool {
        self.regs.cr0ack & SMMUEN != 0
    }

    /// How many words the TLBs hold.
    pub fn tlb_entries(&self) -> usize {
        self.tlb.len()
    }

    /// Power-on reset: registers as at first, caches as they were.
    pub fn reset(&mut self) {
        let gbpa = if self.features.gbpa_abort { GBPA_ABORT } else { 0 };
        self.regs = poison::registers(gbpa, &mut self.rng);
        self.register_delay = 0;
        self.pending.clear();
        self.sync = None;
        self.posted.clear();
        self.events.clear();
        self.stalls.clear();
        self.injected = Injected::default();
    }
}
