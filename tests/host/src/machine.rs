//! A model SMMU where the driver expects a real one.

use core::panic::Location;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_hal::fake::{Barrier, Device, Observer, Op, Width, observe};
use palisade_hal::mmio::Mmio;
use palisade_mem::Arena;
use palisade_smmu_model::{Features, Filtered, Model, Rng};

use crate::ledger::Ledger;
use crate::sabotage::{Sabotage, Site, StoreFault};
use crate::traffic::{Traffic, Violation};
use crate::view::{View, ViewMemory};

/// Offsets the machine itself has to know (IHI 0070, 6.2).
const CR0ACK: u64 = 0x24;
const GBPA: u64 = 0x44;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
const CR0: u64 = 0x20;

/// Devices of another kind than `Traffic`'s: they try their luck whenever time passes.
pub trait Devices: Send {
    /// A few transactions, and the ends of earlier ones.
    fn pulse(&mut self, model: &mut Model);
}

struct Inner {
    model: Model,
    traffic: Traffic,
    devices: Option<Box<dyn Devices>>,
    rng: Rng,
    sabotage: Option<Sabotage>,
    during: Arc<Mutex<&'static str>>,
    sites: BTreeMap<Site, u64>,
}

/// The SMMU, its devices, and what is planted between it and the driver.
pub struct Machine {
    inner: Mutex<Inner>,
    view: ViewMemory,
}

impl Machine {
    /// A machine whose SMMU looks at `arena`. `sabotage` is in force from the first moment.
    pub fn new(
        features: Features,
        arena: Arc<Arena>,
        seed: u64,
        sabotage: Option<Sabotage>,
    ) -> Arc<Self> {
        let mut rng = Rng::new(seed);
        let view = View::new(arena, features.coherent, 20, rng.next_u64());
        let view = ViewMemory::new(view);
        let mut model = Model::new(features, Box::new(view.clone()), rng.next_u64());
        let during = Arc::new(Mutex::new(""));
        if let Some(Sabotage::Command { opcode, during: when, fault }) = sabotage.clone() {
            let now = during.clone();
            let mut held = None;
            model.set_command_filter(Some(Box::new(move |command: [u64; 2]| {
                let now = *now.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(late) = held.take() {
                    return Filtered::Then(late);
                }
                if command[0] & 0xff != u64::from(opcode) || !when.is_empty() && now != when {
                    return Filtered::Pass;
                }
                fault.apply(command, &mut held)
            })));
        }
        let traffic = Traffic::new(rng.next_u64());
        let sites = BTreeMap::new();
        let inner = Inner { model, traffic, devices: None, rng, sabotage, during, sites };
        Arc::new(Machine { inner: Mutex::new(inner), view })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The register pages.
    pub fn mmio(self: &Arc<Self>) -> Mmio {
        Mmio::fake(self.clone(), 0x2_0000)
    }

    /// Runs `body` with this machine as the listener of the fake CPU.
    pub fn run<R>(self: &Arc<Self>, body: impl FnOnce() -> R) -> R {
        observe(Rc::new(Listener(self.clone())), body)
    }

    /// Some time passes: the model steps, devices try their luck.
    pub fn live(&self) {
        let inner = &mut *self.lock();
        let steps = inner.rng.below(3);
        for _ in 0..steps {
            inner.model.step();
        }
        if let Some(devices) = &mut inner.devices {
            devices.pulse(&mut inner.model);
        }
        inner.traffic.pulse(&mut inner.model);
        let mut view = self.view.lock();
        inner.traffic.intruded(&mut view.intrusions);
    }

    /// Lets `body` work on the model.
    pub fn with_model<R>(&self, body: impl FnOnce(&mut Model) -> R) -> R {
        body(&mut self.lock().model)
    }

    /// Lets `body` change what may be reached.
    pub fn with_ledger<R>(&self, body: impl FnOnce(&mut Ledger) -> R) -> R {
        body(&mut self.lock().traffic.ledger)
    }

    /// Everything that the CPU has stored becomes visible.
    pub fn publish_all(&self) {
        self.view.lock().observe(&Op::Barrier(Barrier::DsbSy));
    }

    /// Says what the world does now.
    pub fn set_during(&self, what: &'static str) {
        let during = self.lock().during.clone();
        *during.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// The streams and pages that devices try.
    pub fn set_traffic(&self, streams: Vec<u32>, pages: Vec<u64>) {
        let traffic = &mut self.lock().traffic;
        traffic.streams = streams;
        traffic.pages = pages;
    }

    /// Devices try more often, and memory shows more of what is not published.
    pub fn set_eager(&self, eager: bool) {
        self.lock().traffic.eager = eager;
        self.view.lock().set_whim(if eager { 50 } else { 20 });
    }

    /// Adds devices of another kind.
    pub fn set_devices(&self, devices: Option<Box<dyn Devices>>) {
        self.lock().devices = devices;
    }

    /// Devices keep still, or no longer do.
    pub fn set_quiet(&self, quiet: bool) {
        self.lock().traffic.quiet = quiet;
    }

    /// The first violation so far; forgets it.
    pub fn violation(&self) -> Option<Violation> {
        let inner = &mut *self.lock();
        let fault = inner.model.take_driver_faults().into_iter().next();
        let fault = fault
            .map(|fault| Violation { assertion: "driver-fault", detail: format!("{fault:x?}") });
        inner.traffic.violation.take().or(fault)
    }

    /// Transactions tried, and how many reached memory.
    pub fn tried(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.traffic.tried, inner.traffic.reached)
    }

    /// Every place that asked the CPU for something, and how often.
    pub fn sites(&self) -> BTreeMap<Site, u64> {
        self.lock().sites.clone()
    }
}

impl Device for Machine {
    fn read(&self, offset: u64, width: Width) -> u64 {
        self.live();
        let inner = &mut *self.lock();
        let bytes = if width == Width::Bits64 { 8 } else { 4 };
        let value = inner.model.mmio_read(offset, bytes);
        match (&inner.sabotage, offset) {
            (Some(Sabotage::ConsFollowsProd), CMDQ_CONS) => inner.model.mmio_read(CMDQ_PROD, 4),
            (Some(Sabotage::AcknowledgedAtOnce), CR0ACK) => inner.model.mmio_read(CR0, 4),
            (Some(Sabotage::AcknowledgedAtOnce), GBPA) => value & !(1 << 31),
            _ => value,
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        {
            let inner = &mut *self.lock();
            let bytes = if width == Width::Bits64 { 8 } else { 4 };
            let value = match inner.sabotage {
                Some(Sabotage::Store { offset: at, fault }) if at == offset => match fault {
                    StoreFault::Drop => None,
                    StoreFault::Clear(bits) => Some(value & !bits),
                    StoreFault::Set(bits) => Some(value | bits),
                },
                _ => Some(value),
            };
            if let Some(value) = value {
                inner.model.mmio_write(offset, bytes, value);
            }
        }
        self.live();
    }
}

struct Listener(Arc<Machine>);

impl Observer for Listener {
    fn observe(&self, op: Op, location: &'static Location<'static>) {
        let site = Site::of(&op, location);
        let skipped = {
            let inner = &mut *self.0.lock();
            *inner.sites.entry(site).or_insert(0) += 1;
            matches!(&inner.sabotage, Some(Sabotage::Skip(skipped)) if *skipped == site)
        };
        self.0.live();
        if !skipped {
            self.0.view.lock().observe(&op);
        }
        self.0.live();
    }
}
