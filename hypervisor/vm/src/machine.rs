//! The virtual machine itself.
use alloc::{string::String, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use palisade_gic::{Gic, KICK_SGI, Version};
use palisade_hal::{Ipa, PhysAddr, cpu::Counter};
use thiserror::Error;

use crate::{
    counters::Counters,
    flash::{Code, Flash},
    hypercall::Service,
    its::{CONTROL_BYTES, ItsDevice, Messages, Sender},
    layout,
    memory::{GuestMemory, MemoryError},
    mmio::{BusError, MmioBus, MmioDevice},
    pl011::{Console, Pl011},
    psci::{PowerTable, affinity, error},
    rate::RateLimit,
    smmu::SmmuDevice,
    vcpu::Outcome,
    vgic::{Distributor, MAX_VCPUS, REDISTRIBUTOR_BYTES, Redistributors, Vgic},
};

/// Where a VM stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Life {
    /// Ready to run.
    Built = 0,
    /// At least one vCPU was started.
    Running = 1,
    /// It went off.
    Off = 2,
    /// It wants to start anew.
    Reset = 3,
    /// It could not go on.
    Crashed = 4,
}

impl Life {
    /// The word that reports and logs use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Built => "built",
            Self::Running => "started",
            Self::Off => "off",
            Self::Reset => "reset",
            Self::Crashed => "crashed",
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Built,
            1 => Self::Running,
            2 => Self::Off,
            3 => Self::Reset,
            _ => Self::Crashed,
        }
    }
}

/// Private interrupts of the board that every guest's core uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wires {
    /// The EL1 virtual timer's INTID.
    pub virtual_timer: u32,
    /// The EL1 physical timer's INTID.
    pub physical_timer: u32,
    /// The virtual CPU interface's maintenance INTID.
    pub maintenance: u32,
}

/// What a VM is made of.
pub struct VmConfig {
    /// Its name.
    pub name: String,
    /// Its index in the manifest.
    pub index: usize,
    /// The core of each vCPU, as the interrupt controller numbers them.
    pub cores: Vec<usize>,
    /// Its memory, with RAM in it.
    pub memory: Arc<GuestMemory>,
    /// Generation of its interrupt controller: the board's.
    pub gic: Version,
    /// GICv2: the hardware's virtual CPU interface, shown to the guest.
    pub virtual_cpu_interface: Option<PhysAddr>,
    /// The board's private interrupts.
    pub wires: Wires,
    /// Where its serial line writes.
    pub console: Arc<dyn Console>,
}

/// A VM cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VmError {
    /// The number of vCPUs cannot be had.
    #[error("{0} vCPUs; 1 to {MAX_VCPUS} can be had")]
    Vcpus(usize),
    /// A GICv2 without a virtual CPU interface.
    #[error("the board's interrupt controller has no virtual CPU interface")]
    NoVirtualInterface,
    /// Two devices at one place.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// Its memory.
    #[error("{0}")]
    Memory(#[from] MemoryError),
}

/// A virtual machine.
pub struct Vm {
    name: String,
    index: usize,
    cores: Vec<usize>,
    memory: Arc<GuestMemory>,
    vgic: Arc<Vgic>,
    uart: Arc<Pl011>,
    bus: MmioBus,
    power: PowerTable,
    wires: Wires,
    life: AtomicU8,
    /// Cores that are inside [`run`](crate::vcpu::run) for this VM.
    inside: AtomicUsize,
    limit: RateLimit,
    counters: Counters,
    service: Option<Arc<Service>>,
    messages: Option<(Arc<Messages>, Arc<ItsDevice>)>,
    flash: Option<Arc<Flash>>,
}

impl Vm {
    /// A VM with its standard devices, not yet started.
    ///
    /// # Errors
    /// [`VmError`].
    pub fn new(config: VmConfig) -> Result<Self, VmError> {
        let vcpus = config.cores.len();
        if !(1..=MAX_VCPUS).contains(&vcpus) {
            return Err(VmError::Vcpus(vcpus));
        }
        let vgic = Vgic::new(config.gic, vcpus);
        vgic.link(layout::VIRTUAL_TIMER, config.wires.virtual_timer);
        vgic.link(layout::PHYSICAL_TIMER, config.wires.physical_timer);
        let uart = Pl011::new(config.index, config.console, vgic.line(layout::UART_INTID));
        let mut bus = MmioBus::default();
        bus.add(
            Ipa::new(layout::DISTRIBUTOR),
            layout::DISTRIBUTOR_BYTES,
            Distributor::new(vgic.clone()),
        )?;
        match config.gic {
            Version::V3 => bus.add(
                Ipa::new(layout::REDISTRIBUTORS),
                REDISTRIBUTOR_BYTES * vcpus as u64,
                Redistributors::new(vgic.clone()),
            )?,
            Version::V2 => {
                let pa = config.virtual_cpu_interface.ok_or(VmError::NoVirtualInterface)?;
                let at = Ipa::new(layout::CPU_INTERFACE);
                config.memory.map_device(at, pa, layout::CPU_INTERFACE_BYTES)?;
            }
        }
        bus.add(Ipa::new(layout::UART), layout::UART_BYTES, uart.clone())?;
        Ok(Self {
            name: config.name,
            index: config.index,
            memory: config.memory,
            vgic,
            uart,
            bus,
            power: PowerTable::new(vcpus),
            wires: config.wires,
            life: AtomicU8::new(Life::Built as u8),
            inside: AtomicUsize::new(0),
            limit: RateLimit::default(),
            counters: Counters::default(),
            service: None,
            messages: None,
            flash: None,
            cores: config.cores,
        })
    }

    /// Adds an emulated device. Before the VM is shared.
    ///
    /// # Errors
    /// Something is there already.
    pub fn add_device(
        &mut self,
        start: Ipa,
        bytes: u64,
        device: Arc<dyn MmioDevice>,
    ) -> Result<(), BusError> {
        self.bus.add(start, bytes, device)
    }

    /// Gives it the flash bank of firmware's variables, whose contents lie in its memory. Before
    /// the VM is shared.
    ///
    /// # Errors
    /// Something is there already.
    pub fn add_flash(&mut self) -> Result<(), BusError> {
        self.bus.add(Ipa::new(layout::FLASH), layout::FLASH_BYTES, Arc::new(Code))?;
        let flash = Flash::new(self.memory.clone());
        self.bus.add(Ipa::new(layout::VARIABLES), layout::VARIABLES_BYTES, flash.clone())?;
        self.flash = Some(flash);
        Ok(())
    }

    /// Gives it a translation service: its devices may send messages. Before the VM is shared.
    ///
    /// # Errors
    /// Something is there already, or the doorbell cannot be shown to its devices.
    pub fn add_its(
        &mut self,
        messages: &Arc<Messages>,
        senders: Vec<Sender>,
    ) -> Result<(), VmError> {
        let page = messages.its().translater().align_down(4096);
        self.memory.map_doorbell(Ipa::new(layout::DOORBELL), page)?;
        let (vgic, memory) = (self.vgic.clone(), self.memory.clone());
        let its = ItsDevice::new(messages.clone(), vgic, memory, self.cores.clone(), senders);
        self.bus.add(Ipa::new(layout::ITS), CONTROL_BYTES, its.clone())?;
        self.vgic.offer_lpis();
        self.messages = Some((messages.clone(), its));
        Ok(())
    }

    /// The ITS that its devices' messages go to.
    pub fn its(&self) -> Option<&Arc<Messages>> {
        self.messages.as_ref().map(|(messages, _)| messages)
    }

    /// Whether it has a translation service.
    pub fn has_its(&self) -> bool {
        self.messages.is_some()
    }

    /// Takes its devices' messages away, after its vCPUs left.
    pub fn silence(&self) {
        if let Some((_, its)) = &self.messages {
            its.reset();
        }
    }

    /// Goes on with what its guest's queues of commands, for messages and of its SMMUs, still ask
    /// for, one exit's share of each. Whether the calling vCPU has to come again soon.
    #[inline]
    pub(crate) fn go_on(&self) -> bool {
        self.is_behind() && self.catch_up()
    }

    #[cold]
    #[inline(never)]
    fn catch_up(&self) -> bool {
        let messages = self.messages.as_ref();
        let mut again = messages.is_some_and(|(_, its)| its.is_behind() && its.go_on());
        for smmu in self.smmus().iter().filter(|smmu| smmu.is_behind()) {
            again |= smmu.go_on();
        }
        again
    }

    /// Whether its guest's queues of commands ask for more.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.messages.as_ref().is_some_and(|(_, its)| its.is_behind())
            || self.smmus().iter().any(|smmu| smmu.is_behind())
    }

    /// Its own SMMUs.
    pub fn smmus(&self) -> &[Arc<SmmuDevice>] {
        self.service.as_ref().map_or(&[], |service| service.smmus())
    }

    /// Commands of its translation service that were refused, and requests that the physical one
    /// did not carry out.
    pub fn refused_messages(&self) -> (u64, u64) {
        self.messages.as_ref().map_or((0, 0), |(_, its)| its.refused())
    }

    /// One more of its devices may send messages, if it has a translation service at all.
    pub fn add_sender(&self, sender: Sender) {
        if let Some((_, its)) = &self.messages {
            its.add_sender(sender);
        }
    }

    /// Takes the messages of the device that it knows as `guest` away, while it runs.
    pub fn remove_sender(&self, guest: u32) {
        if let Some((_, its)) = &self.messages {
            its.remove_sender(guest);
        }
    }

    /// A physical LPI was taken on one of its cores.
    pub(crate) fn raise(&self, lpi: u32) {
        if let Some((messages, _)) = &self.messages {
            messages.raise(lpi);
        }
    }

    /// Gives it the guest interface. Before the VM is shared.
    pub fn set_service(&mut self, service: Arc<Service>) {
        self.service = Some(service);
    }

    /// Its guest interface, if it has one.
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.service.as_ref()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in the manifest.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The core of each vCPU.
    pub fn cores(&self) -> &[usize] {
        &self.cores
    }

    /// Its memory.
    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Its interrupt controller.
    pub fn vgic(&self) -> &Arc<Vgic> {
        &self.vgic
    }

    /// Its emulated devices.
    pub fn bus(&self) -> &MmioBus {
        &self.bus
    }

    /// The power of its vCPUs.
    pub fn power(&self) -> &PowerTable {
        &self.power
    }

    /// The board's private interrupts.
    pub fn wires(&self) -> Wires {
        self.wires
    }

    /// How often its vCPUs came out, by cause.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where it stands.
    pub fn life(&self) -> Life {
        Life::from_byte(self.life.load(Ordering::Acquire))
    }

    /// Starts the first vCPU at `entry` with the device tree in X0: it runs as soon as its core
    /// is in [`run`](crate::vcpu::run). False if the VM is not [`Life::Built`].
    pub fn boot(&self, entry: Ipa, tree: Ipa, gic: &impl Gic) -> bool {
        let (built, running) = (Life::Built as u8, Life::Running as u8);
        let order = Ordering::AcqRel;
        if self.life.compare_exchange(built, running, order, Ordering::Acquire).is_err() {
            return false;
        }
        let started = self.power.start(affinity(0), entry.get(), tree.get()).is_ok();
        self.kick(0, gic);
        started
    }

    /// Ends the VM from outside; its vCPUs leave their guests. An end that came before stays.
    pub fn stop(&self, gic: &impl Gic) {
        self.end(Outcome::Off);
        self.kick_all(gic);
    }

    /// Whether no core is inside its vCPUs any more.
    pub fn is_parked(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }

    /// Back to [`Life::Built`] with zeroed RAM, after every vCPU left. False if one has not, or
    /// its memory cannot be made whole again. Images are loaded anew by the caller.
    pub fn rebuild(&self) -> bool {
        if !self.is_parked() {
            return false;
        }
        if let Err(error) = self.memory.wipe() {
            log::error!("[{}] {error}", self.name);
            return false;
        }
        self.silence();
        self.vgic.reset();
        self.uart.reset();
        if let Some(flash) = &self.flash {
            flash.reset();
        }
        self.power.reset();
        self.life.store(Life::Built as u8, Ordering::Release);
        true
    }

    /// Everything that a guest can change about it but its RAM, field by field.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> String {
        let Self { vgic, uart, power, life, inside, messages, flash, .. } = self;
        let its = messages.as_ref().map(|(_, its)| its);
        alloc::format!(
            "{life:#?}\n{inside:#?}\n{power:#?}\n{uart:#?}\n{vgic:#?}\n{its:#?}\n{flash:#?}"
        )
    }

    /// Bytes come in on its serial line, on any core. What it does not take in time is lost, as
    /// on a real line: its UART says so to the guest, and [`Self::lost_input`] counts.
    pub fn input(&self, bytes: &[u8], gic: &impl Gic) {
        self.uart.input(bytes);
        self.send_kicks(self.vgic.take_kicks(), gic);
    }

    /// Bytes of input that it did not take in time.
    pub fn lost_input(&self) -> u64 {
        self.uart.lost()
    }

    /// Sends every vCPU that has something new to look at out of its guest; for lines that were
    /// changed from outside its vCPUs.
    pub fn kick_pending(&self, gic: &impl Gic) {
        self.send_kicks(self.vgic.take_kicks(), gic);
    }

    /// CPU_ON. Answers what the guest is told.
    pub(crate) fn start_vcpu(&self, target: u64, entry: u64, argument: u64) -> i64 {
        if !self.memory.is_ram(Ipa::new(entry), 4) || !entry.is_multiple_of(4) {
            return error::INVALID_ADDRESS;
        }
        match self.power.start(target, entry, argument) {
            Ok(vcpu) => {
                self.vgic.wake(vcpu);
                0
            }
            Err(answer) => answer,
        }
    }

    /// How the VM has ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.life() {
            Life::Built | Life::Running => None,
            Life::Off => Some(Outcome::Off),
            Life::Reset => Some(Outcome::Reset),
            Life::Crashed => Some(Outcome::Crashed),
        }
    }

    /// Whether it has ended.
    pub(crate) fn stopping(&self) -> bool {
        self.outcome().is_some()
    }

    /// Notes how the VM ends; the first one counts, and is answered.
    pub(crate) fn end(&self, outcome: Outcome) -> Outcome {
        let life = match outcome {
            Outcome::Off => Life::Off,
            Outcome::Reset => Life::Reset,
            Outcome::Crashed => Life::Crashed,
        };
        let _ = self.life.try_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now <= Life::Running as u8).then_some(life as u8)
        });
        self.outcome().unwrap_or(outcome)
    }

    pub(crate) fn enter_run(&self) {
        self.inside.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn leave_run(&self) {
        self.inside.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sends the kicks that are due, but for the calling vCPU's own.
    pub(crate) fn kick_others(&self, vcpu: usize, gic: &impl Gic) {
        self.send_kicks(self.vgic.take_kicks() & !1u32.wrapping_shl(vcpu as u32), gic);
    }

    pub(crate) fn kick_all(&self, gic: &impl Gic) {
        self.send_kicks(!0, gic);
    }

    fn send_kicks(&self, vcpus: u32, gic: &impl Gic) {
        if vcpus != 0 {
            for vcpu in (0..self.cores.len()).filter(|vcpu| vcpus >> vcpu & 1 != 0) {
                self.kick(vcpu, gic);
            }
        }
    }

    /// Sends a vCPU out of its guest.
    pub(crate) fn kick(&self, vcpu: usize, gic: &impl Gic) {
        if let Some(&core) = self.cores.get(vcpu) {
            gic.send_sgi(core, KICK_SGI);
        }
    }

    /// Says something about the guest, at a bounded rate.
    pub(crate) fn complain(&self, say: impl FnOnce()) {
        if let Some(suppressed) = self.limit.admit(&Counter) {
            if suppressed > 0 {
                log::warn!("[{}] {suppressed} messages suppressed", self.name);
            }
            say();
        }
    }
}
