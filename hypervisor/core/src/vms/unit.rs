//! A VM with everything that is its: memory, devices, images.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_board::Version as Controller;
use palisade_bundle::Vm as Manifest;
use palisade_gic::{FIRST_SPI, Gic};
use palisade_hal::cpu::Counter;
use palisade_hal::lock::{Mutex, MutexGuard};
use palisade_hal::{Ipa, PhysAddr, guest};
use palisade_iommu::{Owner, Waited};
use palisade_mem::FRAME_BYTES;
use palisade_vm::load::{self, Boot, Images, LoadError, Machine};
use palisade_vm::memory::{GuestMemory, MemoryError, Shape};
use palisade_vm::mmio::BusError;
use palisade_vm::passthrough::{Assigned, PlainRefusal, PlainSet, Refusal, Request};
use palisade_vm::pci::{ECAM_BASE, ECAM_BYTES, PciError, PciHost, open_windows};
use palisade_vm::pl011::Console;
use palisade_vm::{CAUSES, Life, Vm, VmConfig, VmError, Wires, layout};
use thiserror::Error;

use crate::machine::formats;
use crate::machine::interrupts;
use crate::machine::messages;
use crate::operator::faults;
use crate::vms::interface;
use crate::vms::plain;
use crate::vms::system::System;
use crate::wire::console;
use crate::wire::report::Record;

/// Maintenance interrupt where the device tree names none (BSA: PPI 9).
const MAINTENANCE: u32 = 25;

/// Why a VM is not built. The others run.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    /// The IOMMU core refused.
    #[error("{0}")]
    Iommu(#[from] palisade_iommu::Error),
    /// No memory, or not that much.
    #[error("memory: {0}")]
    Memory(#[from] MemoryError),
    /// The VM itself.
    #[error("{0}")]
    Vm(#[from] VmError),
    /// A device is refused.
    #[error("{0}")]
    Device(#[from] Refusal),
    /// A device by path is not there.
    #[error("{0}")]
    Path(#[from] palisade_fdt::Error<'static>),
    /// A device by path is refused.
    #[error("{0}")]
    Plain(#[from] PlainRefusal<'static>),
    /// A device does not fit the VM's bus.
    #[error("{0}")]
    Pci(#[from] PciError),
    /// Two emulated devices at one place.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// It wants more than there is.
    #[error("memory: {wanted} MiB wanted, {free} MiB are free")]
    TooLarge {
        /// MiB in the manifest.
        wanted: u64,
        /// MiB that nobody has.
        free: u64,
    },
    /// An image is none, or does not fit.
    #[error("{0}")]
    Load(#[from] LoadError),
}

/// A VM that was built.
pub(crate) struct Unit {
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
}

/// Guests' bytes go out as they come.
struct Line;

impl Console for Line {
    fn put(&self, vm: usize, byte: u8) {
        console::guest(vm, &[byte]);
    }
}

/// What the walkers of this machine can do.
fn shape(system: &System) -> Shape {
    // PARange, ID_AA64MMFR0_EL1 (D24.2.74).
    let range = guest::id_register(7, 0) & 0xf;
    let pa_bits = *[32, 36, 40, 42, 44, 48].get(range as usize).unwrap_or(&48);
    let instances = system.iommus.instances();
    let able = || instances.iter().map(|instance| instance.capabilities());
    Shape {
        pa_bits,
        // The IOMMU core was told the same.
        vmid16: false,
        dma_bits: able().map(|can| can.output_bits).min().unwrap_or(pa_bits),
        dma_coherent: able().all(|can| can.coherent),
    }
}

/// Builds VM `index` on the given cores: memory, devices, images. When it fails, what it had is
/// given back as from any VM.
///
/// # Errors
/// [`BuildError`].
pub(crate) fn build(
    system: &'static System,
    manifest: &'static Manifest<'static>,
    index: usize,
    cores: Vec<usize>,
) -> Result<Unit, BuildError> {
    let free = system.frames.footprint().free.saturating_mul(FRAME_BYTES);
    if manifest.memory > free {
        return Err(BuildError::TooLarge { wanted: manifest.memory >> 20, free: free >> 20 });
    }
    let owner = system.iommus.owners().open(index as u16)?;
    let memory = GuestMemory::new(
        system.frames.clone(),
        system.cpus.clone(),
        system.iommus.clone(),
        owner,
        shape(system),
        formats::registry(),
    );
    let memory = match memory {
        Ok(memory) => memory,
        Err(error) => {
            let _ = system.iommus.owners().close(owner);
            return Err(error.into());
        }
    };
    let built = furnish(system, manifest, index, cores, owner, &memory);
    if built.is_err() {
        // Devices first: while one is attached, nothing of the memory is released.
        system.book.take_back(index as u16, &system.iommus, &Counter);
        let _ = memory.tear_down();
        system.plain.take_back(index as u16);
        let _ = system.iommus.owners().close(owner);
    }
    built
}

fn furnish(
    system: &'static System,
    manifest: &'static Manifest<'static>,
    index: usize,
    cores: Vec<usize>,
    owner: Owner,
    memory: &Arc<GuestMemory>,
) -> Result<Unit, BuildError> {
    let readonly: Vec<(Ipa, u64)> =
        manifest.readonly.iter().map(|range| (Ipa::new(range.ipa), range.size)).collect();
    memory.add_ram(Ipa::new(layout::RAM), manifest.memory, &readonly)?;
    let board = system.board;
    let virtual_cpu_interface = match &board.gic.version {
        Controller::V2 { virtual_cpu, .. } => virtual_cpu.map(|range| range.base()),
        Controller::V3 { .. } => None::<PhysAddr>,
    };
    let mut vm = Vm::new(VmConfig {
        name: String::from(manifest.name),
        index,
        cores,
        memory: memory.clone(),
        gic: system.gic.version(),
        virtual_cpu_interface,
        wires: Wires {
            virtual_timer: board.timer.virtual_.intid,
            physical_timer: board.timer.physical.intid,
            maintenance: board.gic.maintenance.map_or(MAINTENANCE, |line| line.intid),
        },
        console: Arc::new(Line),
    })?;
    let pci = Arc::new(PciHost::new(memory.clone()));
    vm.add_device(Ipa::new(ECAM_BASE), ECAM_BYTES, pci.clone())?;
    open_windows(&mut vm)?;
    let request = Request {
        vm: index as u16,
        devices: &manifest.devices,
        no_isolation: manifest.no_dma_isolation,
    };
    let assigned = system.book.assign(&request, memory.domain(), &system.iommus, &Counter)?;
    for device in &assigned {
        pci.add(&device.topology, device.guest)?;
        wire(system, &vm, device);
    }
    let plain = plain::assign(system, manifest, &vm)?;
    let senders = messages::senders(&board.pcie, &assigned);
    if !senders.is_empty()
        && let Some(Some(messages)) = system.messages.get()
    {
        vm.add_its(messages, senders)?;
    }
    if let Some(service) = interface::service(system, owner, memory, &assigned)? {
        vm.set_service(service);
    }
    let boot = load(manifest, &vm, &plain)?;
    Ok(Unit {
        vm,
        manifest,
        plain,
        boot,
        owner,
        pci,
        gone: AtomicBool::new(false),
        closed: Mutex::new(false),
    })
}

/// Copies the images into the VM's memory.
fn load(manifest: &Manifest<'_>, vm: &Vm, plain: &PlainSet<'_>) -> Result<Boot, LoadError> {
    let machine = Machine {
        vcpus: vm.cores().len(),
        memory: manifest.memory,
        bootargs: manifest.bootargs,
        initrd: None,
        gic: vm.vgic().version(),
        its: vm.has_its(),
        pci: true,
        plain: Some(plain),
        no_dma_isolation: manifest.no_dma_isolation,
    };
    let images = Images {
        kernel: manifest.kernel.data,
        initrd: manifest.initrd.as_ref().map(|file| file.data),
    };
    load::load(vm.memory(), &machine, images)
}

/// Sends a device's wire to the VM's first core, and on to the guest.
pub(crate) fn wire(system: &System, vm: &Vm, device: &Assigned) {
    let Some((line, guest)) = device.wire else { return };
    vm.vgic().link(guest, line.intid);
    let core = vm.cores().first().copied().unwrap_or(0);
    interrupts::forward(&system.gic, line, core, vm.name());
}

impl Unit {
    /// What the bundle says of it.
    pub(crate) fn manifest(&self) -> &'static Manifest<'static> {
        self.manifest
    }

    /// Starts the first vCPU.
    pub(crate) fn boot(&self, system: &System) {
        let boot = self.boot;
        self.tell("started", None);
        self.vm.boot(boot.entry, boot.tree, &system.gic);
    }

    /// Loads the images anew and starts the first vCPU; answers whether that went well.
    pub(crate) fn restart(&self, system: &System) -> bool {
        let _devices = self.closed.lock();
        // Its devices stay its own, but not what its last kernel made of them.
        self.pci.reset();
        if let Some(service) = self.vm.service() {
            service.reset();
        }
        if let Err(error) = system.book.reset(self.vm.index() as u16, &Counter) {
            log::error!("device {error}");
            return false;
        }
        if !self.vm.rebuild() || load(self.manifest, &self.vm, &self.plain).is_err() {
            return false;
        }
        self.boot(system);
        true
    }

    /// Ends it from outside, as if it had switched itself off; its own first core then takes
    /// everything from it. False if it had ended before, or is starting anew just now.
    pub(crate) fn stop(&self, system: &System) -> bool {
        if self.ended() {
            return false;
        }
        self.vm.stop(&system.gic);
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

    /// Tells where the VM stands.
    pub(crate) fn tell(&self, state: &str, error: Option<&str>) {
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

    /// Tells how often its vCPUs came out, by cause, how many interrupts they took, how often its
    /// devices did what they may not, and what was invalidated for it.
    pub(crate) fn tell_counters(&self) {
        let record = Record::new("counters").text("vm", self.vm.name());
        let exits = CAUSES.iter().zip(self.vm.counters().read());
        let waited = self.waited();
        exits
            .fold(record, |record, (cause, count)| record.number(cause, u64::from(count)))
            .number("interrupts", self.vm.vgic().raised())
            .number("faults", faults::count_of(self.vm.index() as u16))
            .number("invalidations", waited.count.into())
            .number("sync_wait_us", waited.micros)
            .send();
    }

    /// Tells where its RAM is.
    pub(crate) fn tell_ram(&self) {
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

    /// Whether it has ended, perhaps to start anew.
    pub(crate) fn ended(&self) -> bool {
        !matches!(self.vm.life(), Life::Built | Life::Running)
    }

    /// Whether everything was taken from it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Everything was taken from it.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Switches its devices' wires off.
    pub(crate) fn unwire(&self, system: &System) {
        for line in self.vm.vgic().linked_physical() {
            if line >= FIRST_SPI
                && let Err(error) = system.gic.set_enabled(line, false)
            {
                log::error!("interrupt {line}: {error}");
            }
        }
    }
}
