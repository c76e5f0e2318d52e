//! VMs with SMMUs of their own before one physical SMMU.

use palisade_gic::Version;
use palisade_iommu::{Fault, StreamPolicy};
use palisade_smmu_model::{Features, Request, Rng, StallModel};
use palisade_vm::hypercall::{Service, ServiceDevice};
use palisade_vm::smmu::{Identity, Lines, SmmuConfig, SmmuDevice};
use palisade_vm::vgic::Vgic;

use super::kernel::{Kernel, RAM_PAGES};
use crate::sharing::home::{Base, Home, Wrong};
use crate::sharing::truth::{Bound, Place, Truth};

const FRAMES: u64 = 512;
const LINE: u32 = 64;
/// Devices try something at so many percent of the moments: the SMMU writes records as fast as
/// that, so that each reaches its guest soon.
const PACE: u32 = 10;
const IPA_BITS: u8 = 39;
/// Below the first virtual StreamID.
const FIRST: u32 = 0x80;

/// A device of the guest: what the guest calls it, and its physical streams.
pub struct Behind {
    pub number: u32,
    pub streams: Vec<u32>,
}

/// A VM with its SMMU.
pub struct Tenant {
    pub home: Home,
    pub service: Service,
    pub kernel: Kernel,
    pub devices: Vec<Behind>,
}

/// Everything.
pub struct House {
    pub base: Base,
    pub tenants: Vec<Tenant>,
    pub truth: Truth,
}

/// A coherent SMMU with nesting, chosen by the seed like everything else.
pub fn features(seed: u64) -> Features {
    let mut rng = Rng::new(seed ^ 0x7511);
    Features {
        ril: rng.percent(70),
        asid16: rng.percent(50),
        two_level_contexts: rng.percent(60),
        stall: if rng.percent(50) { StallModel::TerminateOnly } else { StallModel::Both },
        ats: false,
        split_ats: false,
        pri: false,
        bbml: 1 + rng.below(2) as u8,
        ..Features::default()
    }
}

impl House {
    /// With `vms` VMs, each of whose SMMUs is off; a device with more than `storm` faults a second
    /// is contained.
    pub fn new(features: &Features, seed: u64, vms: u32, storm: u32) -> Result<Self, Wrong> {
        let mut rng = Rng::new(seed);
        let base = Base::new(features, rng.next_u64(), None, FRAMES, storm)?;
        let truth = Truth::default();
        let mut tenants = Vec::new();
        let machine = base.machine.clone();
        for vm in 0..vms {
            tenants.push(machine.run(|| Self::tenant(vm, &base, &truth))?);
        }
        machine.set_devices(Some(truth.calm_devices(rng.next_u64(), PACE)));
        Ok(Self { base, tenants, truth })
    }

    fn tenant(vm: u32, base: &Base, truth: &Truth) -> Result<Tenant, Wrong> {
        let policy = StreamPolicy { ats: false, stalls: false };
        let home = base.home(vm, RAM_PAGES, policy)?;
        let (ram, view) = (home.ram.clone(), home.view.clone());
        let first = home.devices.first().ok_or("no device")?;
        let shown = first.group.instance().driver().guest_identity(IPA_BITS);
        let shown = shown.ok_or("the driver shows no identity")?;
        let vgic = Vgic::new(Version::V3, 1);
        let line = |nth| vgic.line(LINE + nth);
        let device = SmmuDevice::new(SmmuConfig {
            identity: Identity { idr: shown.features, aidr: shown.version },
            phandle: 1,
            iommus: base.iommus.clone(),
            owner: home.owner,
            ram: ram.clone(),
            lines: Lines { event: line(0), sync: line(1), error: line(2) },
        });
        let service =
            Service::new(base.iommus.clone(), home.owner, ram.clone(), view, IPA_BITS, 16);
        let service = service.with_smmus(vec![device.clone()]);
        let mut devices = Vec::new();
        for one in &home.devices {
            // No virtual StreamID is a physical one.
            let number = FIRST + one.number;
            service.add_device(ServiceDevice { number, ..one.clone() });
            let streams: Vec<u32> = one.streams.iter().map(|stream| stream.get()).collect();
            for &stream in &streams {
                truth.lock().bound.insert((stream, 0), [Bound::Plain].into());
            }
            devices.push(Behind { number, streams });
        }
        Ok(Tenant { home, service, kernel: Kernel::new(device, ram), devices })
    }

    /// Lets devices and the SMMU go on for a while.
    pub fn live(&self) {
        for _ in 0..4 {
            self.base.machine.live();
        }
    }

    /// One transaction of one stream, held against the truth like every other.
    pub fn touch(&self, request: Request) -> palisade_smmu_model::Outcome {
        let outcome = self.base.machine.with_model(|model| model.request(request));
        self.truth.lock().check(&request, &outcome);
        outcome
    }

    /// Events reach their VMs; what each VM is charged with goes to `sink`.
    pub fn take_events(&self, sink: &mut dyn FnMut(usize, &Fault)) -> Result<(), Wrong> {
        for instance in self.base.iommus.instances() {
            for _ in 0..4 {
                if !self.base.iommus.drain(&instance, 64).more {
                    break;
                }
            }
        }
        let mut wrong = Ok(());
        self.base.iommus.take_operator_faults(&mut |fault| {
            if fault.owner.is_none() {
                wrong = Err(format!("nobody was charged with {fault:x?}"));
            }
        });
        for (vm, tenant) in self.tenants.iter().enumerate() {
            tenant.service.pump(&mut |fault| sink(vm, fault));
        }
        wrong
    }

    /// The first violation, if there was one.
    pub fn verdict(&self) -> Result<(), Wrong> {
        if let Some(violation) = self.base.machine.violation() {
            return Err(format!("{}: {}", violation.assertion, violation.detail));
        }
        self.truth.lock().violation.take().map_or(Ok(()), Err)
    }

    /// Takes everything apart; nothing may be missing.
    pub fn end(self, dma_before: u64) -> Result<(), Wrong> {
        let Self { base, tenants, truth } = self;
        let machine = base.machine.clone();
        machine.set_devices(None);
        for Tenant { home, service, kernel, .. } in tenants {
            machine.run(|| {
                base.end(home, move |groups| {
                    groups.iter().for_each(|group| service.remove_group(group, true));
                    drop(kernel);
                })
            })?;
        }
        truth.lock().violation.take().map_or(Ok(()), Err)?;
        base.is_whole(dma_before)
    }
}

impl Truth {
    /// Adds what a device's places may do from now on.
    pub fn widen(&self, streams: &[u32], substream: u32, to: &[Bound]) {
        let facts = &mut *self.lock();
        for place in places(streams, substream) {
            facts.bound.entry(place).or_insert_with(|| [Bound::Plain].into()).extend(to);
        }
    }

    /// Says what they do, and nothing else.
    pub fn settle(&self, streams: &[u32], substream: u32, to: Bound) {
        let facts = &mut *self.lock();
        for place in places(streams, substream) {
            facts.bound.insert(place, [to].into());
        }
    }
}

fn places(streams: &[u32], substream: u32) -> impl Iterator<Item = Place> {
    streams.iter().map(move |&stream| (stream, substream))
}
