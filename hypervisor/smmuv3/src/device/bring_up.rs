//! Bring-up, take-over and shutdown (§3.11, §6.3.9, §6.3.14).
//!
//! The order is the safety argument: GBPA aborts before anything else is written, so whatever
//! firmware left, there is no instant at which a stream bypasses.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arrayvec::ArrayVec;
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::mmio::{Mmio, Reg};
use palisade_hal::{Deadline, Env};
use palisade_iommu::{Argument, DriverError};
use palisade_mem::{Agent, Frames};

use crate::command;
use crate::device::smmu::{Inputs, Name, Options, Smmu, Streams};
use crate::errata::{Erratum, Identity, errata};
use crate::error::BringUpError;
use crate::event::storm::Storm;
use crate::features::{Features, IdRegisters};
use crate::queue::CommandQueue;
use crate::queue::input::{InputQueue, Kind};
use crate::queue::limits::Limits;
use crate::regs::{self, CR0, CR1, CR2, GBPA, IRQ_CTRL};
use crate::spec::Cmd;
use crate::table::sparse::Small;
use crate::table::stream::StreamTable;

/// Makes every stream abort while SMMUEN = 0 (§6.3.14.1): the first thing done to an SMMU.
///
/// Harmless on an SMMU that is enabled: the entries of its tables stay in force until CR0 changes.
///
/// # Errors
/// [`BringUpError::Register`] when the update is not accepted in time.
pub fn abort_by_default(mmio: &Mmio, env: &impl Env, micros: u64) -> Result<(), BringUpError> {
    let settled = || !mmio.read(regs::GBPA).is_set(GBPA::UPDATE);
    let wait = || Deadline::after(env, micros).wait(env, settled);
    if !wait() {
        return Err(BringUpError::Register("GBPA"));
    }
    // Without Update in the same store the write is ignored.
    mmio.write(regs::GBPA, GBPA::ABORT::SET + GBPA::UPDATE::SET);
    if !wait() || !mmio.read(regs::GBPA).is_set(GBPA::ABORT) {
        return Err(BringUpError::Register("GBPA"));
    }
    Ok(())
}

/// Writes a control register and waits for the twin that acknowledges it.
fn acknowledge<R: tock_registers::RegisterLongName>(
    mmio: &Mmio,
    env: &impl Env,
    limits: Limits,
    register: Reg<u32, R>,
    twin: Reg<u32, R>,
    value: u32,
) -> bool {
    mmio.set(register, value);
    limits.wait(env, || mmio.get(twin) == value)
}

impl<E: Env> Smmu<E> {
    /// Takes over the SMMU behind `mmio`, whatever state firmware left it in, and enables it with
    /// every stream aborting.
    ///
    /// # Errors
    /// [`BringUpError`]; every stream aborts then, unless not even GBPA answered.
    pub fn bring_up(
        mmio: Mmio,
        frames: &Arc<Frames>,
        env: E,
        options: Options,
    ) -> Result<Self, BringUpError> {
        if mmio.bytes() < palisade_spec::register::REGISTER_BYTES {
            return Err(BringUpError::Registers);
        }
        abort_by_default(&mmio, &env, options.register_micros)?;
        disable(&mmio, &env, options.register_limits())?;
        let mut features = Features::new(&IdRegisters::read(&mmio))?;
        for erratum in errata(Identity::new(mmio.get(regs::IIDR))) {
            let Erratum { part, number, effect, .. } = erratum;
            log::warn!("{}: {part}, erratum {number}: {effect}", Name(options.phandle));
            features.restrict(erratum)?;
        }
        features.coherent &= options.coherent;
        let agent = frames.register_agent("smmu").map_err(|_| BringUpError::Agents)?;
        let parts = Parts::new(frames, &features, &options)?;
        let smmu = parts.join(mmio, frames, env, features, options, agent);
        match smmu.enable() {
            Ok(()) => Ok(smmu),
            Err(error) => {
                // Back to where GBPA rules; the memory stays lost, the SMMU may still hold it.
                smmu.die();
                Err(error)
            }
        }
    }

    /// The rest of the bring-up, from tables in memory to SMMUEN.
    fn enable(&self) -> Result<(), BringUpError> {
        let mmio = &self.mmio;
        // §6.3.11: tables and queues are Inner Shareable, Write-Back. A non-coherent SMMU reads
        // what was cleaned.
        mmio.write(
            regs::CR1,
            CR1::TABLE_SH::Inner
                + CR1::TABLE_OC::WriteBack
                + CR1::TABLE_IC::WriteBack
                + CR1::QUEUE_SH::Inner
                + CR1::QUEUE_OC::WriteBack
                + CR1::QUEUE_IC::WriteBack,
        );
        // §6.3.12: broadcast TLB maintenance is not relied on; StreamIDs out of range are told.
        mmio.write(regs::CR2, CR2::PTM::SET + CR2::RECINVSID::SET);
        self.streams.lock().table.install(mmio);
        self.queue.install(mmio);
        self.control(CR0::CMDQEN::SET.value)?;

        // Nothing that firmware left may survive. Configuration first: a TLB entry could be made
        // from a stale STE otherwise (§4.3.6).
        let mut commands: ArrayVec<Cmd, 8> = ArrayVec::new();
        commands.push(command::cfgi_all());
        commands.push(command::sync());
        if self.features.hyp {
            commands.push(command::tlbi_el2_all());
            commands.push(command::sync());
        }
        commands.push(command::tlbi_nsnh_all());
        self.run(&commands).map_err(BringUpError::Invalidation)?;

        {
            let inputs = self.inputs.lock();
            inputs.events.install(mmio);
            let mut enables = CR0::CMDQEN::SET + CR0::EVENTQEN::SET;
            self.control(enables.value)?;
            if let Some(requests) = &inputs.requests {
                requests.install(mmio);
                enables += CR0::PRIQEN::SET;
                self.control(enables.value)?;
            }
            // Without ATSCHK traffic marked Translated passes whatever its STE says (§3.9.1.2).
            if self.features.ats {
                enables += CR0::ATSCHK::SET;
                self.control(enables.value)?;
            }
        }
        if self.options.interrupts {
            self.interrupts()?;
        }
        self.control(self.enabled())
    }

    /// CR0 when everything runs.
    fn enabled(&self) -> u32 {
        let mut value = CR0::SMMUEN::SET + CR0::CMDQEN::SET + CR0::EVENTQEN::SET;
        if self.features.pri {
            value += CR0::PRIQEN::SET;
        }
        if self.features.ats {
            value += CR0::ATSCHK::SET;
        }
        value.value
    }

    fn control(&self, value: u32) -> Result<(), BringUpError> {
        let limits = self.options.register_limits();
        if acknowledge(&self.mmio, &self.env, limits, regs::CR0, regs::CR0ACK, value) {
            Ok(())
        } else {
            Err(BringUpError::Register("CR0"))
        }
    }

    fn interrupts(&self) -> Result<(), BringUpError> {
        if self.features.msi {
            // Address 0 means no message, so the wired interrupts speak (§3.18).
            mmio_clear(&self.mmio, &[regs::GERROR_IRQ_CFG0, regs::EVENTQ_IRQ_CFG0]);
            if self.features.pri {
                mmio_clear(&self.mmio, &[regs::PRIQ_IRQ_CFG0]);
            }
        }
        let mut value = IRQ_CTRL::GERROR_IRQEN::SET + IRQ_CTRL::EVENTQ_IRQEN::SET;
        if self.features.pri {
            value += IRQ_CTRL::PRIQ_IRQEN::SET;
        }
        let limits = self.options.register_limits();
        let (register, twin) = (regs::IRQ_CTRL, regs::IRQ_CTRLACK);
        if acknowledge(&self.mmio, &self.env, limits, register, twin, value.value) {
            Ok(())
        } else {
            Err(BringUpError::Register("IRQ_CTRL"))
        }
    }

    /// Gives the instance up: SMMUEN = 0, so that GBPA aborts every stream, and every later call
    /// returns that it is dead. Logged once.
    pub(crate) fn die(&self) {
        self.queue.kill();
        if !self.dead.swap(true, Ordering::AcqRel) {
            log::error!("{}: it is dead, every stream aborts", self.name());
            if disable(&self.mmio, &self.env, self.options.register_limits()).is_err() {
                log::error!("{}: it did not even acknowledge being disabled", self.name());
            }
        }
    }

    /// Leaves every stream aborting through GBPA and the SMMU disabled.
    pub(crate) fn power_down(&self) {
        self.queue.kill();
        self.dead.store(true, Ordering::Release);
        let micros = self.options.register_micros;
        let blocked = abort_by_default(&self.mmio, &self.env, micros)
            .and_then(|()| disable(&self.mmio, &self.env, self.options.register_limits()));
        if let Err(error) = blocked {
            log::error!("{}: shutdown: {error}", self.name());
        }
    }
}

fn mmio_clear(mmio: &Mmio, registers: &[Reg<u64>]) {
    for &register in registers {
        mmio.set(register, 0);
    }
}

/// Stops everything; GBPA aborts already. Interrupts first, so that none is raised by the rest;
/// stale errors are acknowledged, so that a new one is seen. A register that does not answer
/// keeps none of the others from being written.
fn disable(mmio: &Mmio, env: &impl Env, limits: Limits) -> Result<(), BringUpError> {
    let quiet = acknowledge(mmio, env, limits, regs::IRQ_CTRL, regs::IRQ_CTRLACK, 0);
    // SMMUEN alone first: the fields of CR0 change independently, and with ATSCHK gone before
    // SMMUEN there would be an instant at which Translated traffic passes.
    let enabled = mmio.get(regs::CR0);
    let off =
        acknowledge(mmio, env, limits, regs::CR0, regs::CR0ACK, enabled & !CR0::SMMUEN::SET.mask());
    let stopped = acknowledge(mmio, env, limits, regs::CR0, regs::CR0ACK, 0);
    mmio.set(regs::GERRORN, mmio.get(regs::GERROR));
    if !(off && stopped) {
        return Err(BringUpError::Register("CR0"));
    }
    if !quiet {
        return Err(BringUpError::Register("IRQ_CTRL"));
    }
    Ok(())
}

/// The memory of an SMMU before the SMMU knows of it.
struct Parts {
    table: StreamTable,
    queue: CommandQueue,
    events: InputQueue,
    requests: Option<InputQueue>,
}

impl Parts {
    /// All of it or none.
    fn new(
        frames: &Arc<Frames>,
        features: &Features,
        options: &Options,
    ) -> Result<Self, BringUpError> {
        // What there is no memory for, or none that the SMMU can address, by name.
        let lacks = |what| {
            move |error| match error {
                DriverError::Argument(Argument::OutputSize) => BringUpError::OutputSize(what),
                _ => BringUpError::NoMemory,
            }
        };
        let reach = features.reach();
        let table = StreamTable::new(frames, features).map_err(lacks("stream table"))?;
        let log2 = options.cmdq_log2.max(3).min(features.cmdq_log2);
        let messages = options.messages && features.msi;
        let queue = CommandQueue::new(frames, log2, features, messages, options.queue_limits());
        let queue = match queue {
            Ok(queue) => queue,
            Err(error) => {
                table.free();
                return Err(lacks("command queue")(error));
            }
        };
        let log2 = options.evtq_log2.min(features.evtq_log2);
        let events = match InputQueue::new(Kind::Event, frames, log2, reach) {
            Ok(events) => events,
            Err(error) => {
                table.free();
                queue.free();
                return Err(lacks("event queue")(error));
            }
        };
        let mut requests = None;
        if features.pri {
            let log2 = options.evtq_log2.min(features.priq_log2);
            match InputQueue::new(Kind::PageRequest, frames, log2, reach) {
                Ok(made) => requests = Some(made),
                Err(error) => {
                    table.free();
                    queue.free();
                    events.free();
                    return Err(lacks("PRI queue")(error));
                }
            }
        }
        Ok(Self { table, queue, events, requests })
    }

    fn join<E: Env>(
        self,
        mmio: Mmio,
        frames: &Arc<Frames>,
        env: E,
        features: Features,
        options: Options,
        agent: Agent,
    ) -> Smmu<E> {
        let ticks = |micros: u64| micros.saturating_mul(env.frequency()) / 1_000_000;
        let storm = Storm::new(options.storm_events, ticks(options.storm_micros));
        let stream_bits = self.table.bits();
        Smmu {
            mmio,
            features,
            options,
            frames: frames.clone(),
            agent,
            queue: self.queue,
            streams: Mutex::new(
                Rank::SmmuStreams,
                Streams {
                    table: self.table,
                    contexts: Small::new(),
                    device_tlbs: Small::new(),
                    dead: Small::new(),
                },
            ),
            inputs: Mutex::new(
                Rank::SmmuEvents,
                Inputs { events: self.events, requests: self.requests, storm, overflowed: false },
            ),
            dead: AtomicBool::new(false),
            logged: AtomicU32::new(0),
            stream_bits,
            env,
        }
    }
}
