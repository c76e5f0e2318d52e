//! A VM with everything that is its: memory, devices, images.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_bundle::Vm as Manifest;
use palisade_gic::Gic;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::{Mutex, MutexGuard, Rank};
use palisade_iommu::{Owner, Waited};
use palisade_vm::load::Boot;
use palisade_vm::passthrough::PlainSet;
use palisade_vm::pci::PciHost;
use palisade_vm::smmu::SmmuDevice;
use palisade_vm::{CAUSES, Life, RateLimit, Vm};

use crate::machine::instances::Machine;
use crate::operator::counts;
use crate::vms::fittings::VmFittings;
use crate::vms::images;
use crate::vms::standing::Standing;
use crate::wire::report::Record;

/// Resets of a guest by itself that are shown per second.
const RESETS_SHOWN: u32 = 4;

/// A VM that was built.
pub(crate) struct BuiltVm {
    pub(crate) vm: Vm,
    manifest: &'static Manifest<'static>,
    plain: PlainSet<'static>,
    boot: Boot,
    pub(crate) owner: Owner,
    pub(crate) pci: Arc<PciHost>,
    /// Everything was taken from it.
    gone: AtomicBool,
    /// Held while its devices change; true once nothing may change any more.
    closed: Mutex<bool>,
    /// Its own resets that are shown.
    resets: RateLimit,
}

impl BuiltVm {
    /// A VM whose devices are attached and whose images are loaded.
    pub(crate) const fn new(
        vm: Vm,
        manifest: &'static Manifest<'static>,
        plain: PlainSet<'static>,
        boot: Boot,
        owner: Owner,
        pci: Arc<PciHost>,
    ) -> Self {
        let (gone, closed) = (AtomicBool::new(false), Mutex::new(Rank::Devices, false));
        let resets = RateLimit::new(RESETS_SHOWN);
        Self { vm, manifest, plain, boot, owner, pci, gone, closed, resets }
    }

    /// What the bundle says of it.
    pub(crate) fn manifest(&self) -> &'static Manifest<'static> {
        self.manifest
    }

    /// Starts the first vCPU and says so.
    pub(crate) fn boot(&self, machine: &Machine) {
        self.report("started", None);
        self.start(machine);
    }

    fn start(&self, machine: &Machine) {
        self.vm.boot(self.boot.entry, self.boot.tree, &machine.gic);
    }

    /// Loads the images again and starts the first vCPU, as its guest asked; returns whether that
    /// went well. A guest that asks in a loop is reported a few times a second.
    pub(crate) fn restart(&self, machine: &Machine) -> bool {
        let shown = self.resets.admit(&Counter);
        if let Some(kept) = shown {
            if kept > 0 {
                log::warn!("vm {}: {kept} more resets were not shown", self.vm.name());
            }
            self.report("reset", None);
        }
        if !self.renew(machine) {
            return false;
        }
        if shown.is_some() {
            self.report("started", None);
        }
        self.start(machine);
        true
    }

    /// Its devices, memory and images as at its first start.
    fn renew(&self, machine: &Machine) -> bool {
        let _devices = self.closed.lock();
        // Its devices stay its own, but not what its last kernel made of them.
        self.pci.reset();
        if let Some(service) = self.vm.service() {
            service.reset();
        }
        if let Err(error) = machine.devices.reset(self.vm.index() as u16, &machine.iommus, &Counter)
        {
            log::error!("{error}");
            return false;
        }
        // An edge of its last life is not the next one's.
        for line in self.vm.vgic().linked_physical() {
            if let Err(error) = machine.gic.clear(line) {
                log::error!("interrupt {line}: {error}");
            }
        }
        self.vm.rebuild() && images::load(self.manifest, &self.vm, &self.plain).is_ok()
    }

    /// Ends it from outside, as if it had switched itself off; its own first core then takes
    /// everything from it. False if it had ended before, or is restarting just now.
    pub(crate) fn stop(&self, machine: &Machine) -> bool {
        if self.ended() {
            return false;
        }
        self.vm.stop(&machine.gic);
        true
    }

    /// Keeps its devices as they are, but for what the caller does; none if it does not run.
    /// Lock order: before the book of devices.
    pub(crate) fn hold(&self) -> Option<MutexGuard<'_, bool>> {
        let closed = self.closed.lock();
        (!*closed && self.vm.life() == Life::Running).then_some(closed)
    }

    /// Nothing comes to it or leaves it from now on but by the core that ends it.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
    }

    /// Reports where the VM stands.
    pub(crate) fn report(&self, state: &str, error: Option<&str>) {
        log::info!("vm {}: {state}", self.vm.name());
        Record::new("vm")
            .text("name", self.vm.name())
            .number("index", self.vm.index() as u64)
            .text("state", state)
            .maybe_text("error", error)
            .send();
    }

    /// Invalidations for it, by the hypervisor and by itself, and how long they took.
    pub(crate) fn waited(&self) -> Waited {
        let own = self.vm.service().map(|service| service.waits().read()).unwrap_or_default();
        self.vm.memory().domain().waits().read() + own
    }

    /// Reports how often its vCPUs came out, by cause, how many interrupts they took, how often its
    /// devices did what they may not, and what was invalidated for it.
    pub(crate) fn report_counters(&self) {
        let record = Record::new("counters").text("vm", self.vm.name());
        let exits = CAUSES.iter().zip(self.vm.counters().read());
        let waited = self.waited();
        exits
            .fold(record, |record, (cause, count)| record.number(cause, u64::from(count)))
            .number("interrupts", self.vm.vgic().raised())
            .number("quiet", self.vm.counters().quiet().into())
            .number("its_refused", self.vm.refused_messages().0)
            .number("its_failed", self.vm.refused_messages().1)
            .number("faults", counts::count_of(self.vm.index() as u16))
            .number("invalidations", waited.count.into())
            .number("sync_wait_us", waited.micros)
            .number("input_lost", self.vm.lost_input())
            .send();
        for smmu in self.vm.smmus() {
            self.report_smmu(smmu);
        }
    }

    /// Reports what its guest made of one of its SMMUs.
    fn report_smmu(&self, smmu: &SmmuDevice) {
        let counts = smmu.counts();
        Record::new("virtual_smmu")
            .text("vm", self.vm.name())
            .number("smmu", smmu.phandle().into())
            .number("loads", counts.loads.into())
            .number("doorbells", counts.doorbells.into())
            .number("stores", counts.stores.into())
            .number("commands", counts.commands.commands)
            .number("syncs", counts.commands.syncs)
            .number("batches", counts.commands.batches)
            .number("entries", counts.commands.entries)
            .number("refused", counts.commands.refused)
            .number("illegal", counts.commands.illegal)
            .number("continued", counts.commands.continued)
            .number("events", counts.events)
            .number("events_lost", counts.events_lost)
            .send();
    }

    /// Reports where its RAM is.
    pub(crate) fn report_ram(&self) {
        for region in self.vm.memory().regions() {
            if region.kind.is_ram() {
                Record::new("ram")
                    .text("vm", self.vm.name())
                    .address("ipa", region.ipa.get())
                    .address("pa", region.pa.get())
                    .number("size", region.bytes)
                    .send();
            }
        }
    }

    /// Whether it has ended, perhaps to start again.
    pub(crate) fn ended(&self) -> bool {
        !matches!(self.vm.life(), Life::Built | Life::Running)
    }

    /// Where it stands.
    pub(crate) fn standing(&self) -> Standing {
        Standing::new(self.vm.life(), self.is_gone())
    }

    /// Whether everything was taken from it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Everything was taken from it.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// What its devices are plugged into.
    pub(crate) fn fittings<'s>(&'s self, machine: &'s Machine) -> VmFittings<'s> {
        VmFittings { machine, vm: &self.vm, pci: &self.pci }
    }
}
