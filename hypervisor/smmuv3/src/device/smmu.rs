//! One SMMU: its parts and their locks.

use alloc::sync::Arc;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use palisade_hal::lock::Mutex;
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, StreamId};
use palisade_iommu::{DriverError, StallModel, StreamState};
use palisade_mem::{Agent, Frames};

use crate::error::QueueError;
use crate::event::storm::Storm;
use crate::features::Features;
use crate::queue::input::InputQueue;
use crate::queue::limits::Limits;
use crate::queue::{CommandQueue, QueueCounts, QueueLimits};
use crate::regs::{self, GBPA};
use crate::spec::Cmd;
use crate::table::context::ContextTable;
use crate::table::sparse::Small;
use crate::table::stream::StreamTable;

/// What the operator of the SMMU chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which SMMU it is, for messages: its phandle.
    pub phandle: u32,
    /// Deadline of one CMD_SYNC in microseconds.
    pub sync_micros: u64,
    /// Longest time in microseconds that a CMD_SYNC stands behind another's CMD_ATC_INV. Until the
    /// device completes it, or the root complex gives up, no other command is taken: this has to
    /// be what PCIe allows (ATS Invalidate Completion: one minute and a half).
    pub device_micros: u64,
    /// Most turns of the loop that waits for it, each of which reads at most three registers:
    /// the bound that holds whatever the clock does.
    pub sync_turns: u32,
    /// Deadline of one register acknowledgement in microseconds.
    pub register_micros: u64,
    /// Most turns of the loop that waits for it, each of which reads one register.
    pub register_turns: u32,
    /// log2 of the command queue's entries, cut to what the SMMU offers.
    pub cmdq_log2: u32,
    /// log2 of the event queue's and the PRI queue's entries, cut likewise.
    pub evtq_log2: u32,
    /// Events of one stream per `storm_micros` before it is contained; `u32::MAX`: it never is.
    pub storm_events: u32,
    /// Window of the event budget in microseconds.
    pub storm_micros: u64,
    /// Whether completion by message is used where the SMMU offers it.
    pub messages: bool,
    /// Whether the system says that the SMMU sees the CPU's caches. Where either this or
    /// IDR0.COHACC says no, everything the SMMU reads is cleaned.
    pub coherent: bool,
    /// Whether the SMMU's wired interrupts are routed to someone.
    pub interrupts: bool,
}

impl Options {
    /// Those of the command queue.
    pub(crate) fn queue_limits(&self) -> QueueLimits {
        let times = self.device_micros.div_ceil(self.sync_micros.max(1)).max(1);
        let turns = u64::from(self.sync_turns).saturating_mul(times);
        QueueLimits {
            sync: Limits { micros: self.sync_micros, turns: self.sync_turns },
            device: Limits {
                micros: self.device_micros,
                turns: u32::try_from(turns).unwrap_or(u32::MAX),
            },
        }
    }

    /// Those of one register acknowledgement.
    pub(crate) fn register_limits(&self) -> Limits {
        Limits { micros: self.register_micros, turns: self.register_turns }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            phandle: 0,
            sync_micros: 100_000,
            device_micros: 90_000_000,
            sync_turns: 1 << 22,
            register_micros: 100_000,
            register_turns: 1 << 22,
            cmdq_log2: 8,
            evtq_log2: 10,
            storm_events: 256,
            storm_micros: 1_000_000,
            messages: true,
            coherent: true,
            interrupts: true,
        }
    }
}

/// Which SMMU speaks: the log's lines begin with it.
pub(crate) struct Name(pub u32);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SMMU {:#x}", self.0)
    }
}

/// What the driver knows of its streams beside the table: under the configuration lock.
pub(crate) struct Streams {
    pub table: StreamTable,
    pub contexts: Small<ContextTable>,
    /// The device TLBs of streams, where they are not simply unused.
    pub device_tlbs: Small<DeviceTlb>,
    /// Streams of devices that did not answer: they abort for good.
    pub dead: Small<()>,
}

/// The TLB of a device whose stream is granted ATS, or was told to be off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceTlb {
    /// EATS is set, and the device may hold translations.
    On,
    /// The device's own ATS is off, and so is EATS: it holds nothing, and would not complete a
    /// CMD_ATC_INV.
    Off {
        /// The entry grants ATS.
        granted: bool,
    },
}

/// The queues that hardware fills, and the watch over them: under the event lock.
pub(crate) struct Inputs {
    pub events: InputQueue,
    pub requests: Option<InputQueue>,
    pub storm: Storm,
    /// Records were lost, and who filled the queue is not known yet.
    pub overflowed: bool,
}

/// An SMMUv3 that is enabled, with every stream aborting until it is attached.
///
/// Lock order: configuration → command queue. The event lock is taken alone. Callers run with interrupts
/// masked, or hold none of these locks when an interrupt comes.
pub struct Smmu<E: Env> {
    pub(crate) mmio: Mmio,
    pub(crate) env: E,
    pub(crate) features: Features,
    pub(crate) options: Options,
    pub(crate) frames: Arc<Frames>,
    pub(crate) agent: Agent,
    pub(crate) queue: CommandQueue,
    pub(crate) streams: Mutex<Streams>,
    pub(crate) inputs: Mutex<Inputs>,
    pub(crate) dead: AtomicBool,
    /// The second of the last line about what can happen at any rate.
    pub(crate) logged: AtomicU32,
    pub(crate) stream_bits: u8,
}

impl<E: Env> Smmu<E> {
    /// What it is.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Commands, syncs and PROD writes so far.
    pub fn queue_counts(&self) -> QueueCounts {
        self.queue.counts()
    }

    /// Records dropped because their streams were contained.
    pub fn dropped_records(&self) -> u64 {
        self.inputs.lock().storm.dropped()
    }

    /// Hands to `sink` what each stream that has an entry does now, read back from memory: the
    /// posture report's source. Streams without an entry abort.
    pub fn for_each_entry(&self, sink: &mut dyn FnMut(StreamId, StreamState)) {
        let streams = self.streams.lock();
        for stream in streams.table.streams() {
            sink(stream, self.read_state(&streams, stream));
        }
    }

    /// Whether GBPA aborts, read back from the register: what rules while SMMUEN = 0.
    pub fn aborts_by_default(&self) -> bool {
        self.mmio.read(regs::GBPA).is_set(GBPA::ABORT)
    }

    /// Sends a batch and waits for it.
    pub(crate) fn run(&self, commands: &[Cmd]) -> Result<(), QueueError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(QueueError::Dead);
        }
        self.queue.run(&self.mmio, &self.env, commands)
    }

    /// Sends a batch that concerns no single stream.
    pub(crate) fn run_all(&self, commands: &[Cmd]) -> Result<(), DriverError> {
        self.run(commands).map_err(|error| self.judge(error))
    }

    /// What a failed batch means for the whole instance: after a time-out a lone CMD_SYNC finds
    /// out whether the queue still moves; if not, the instance dies, and everything aborts. A
    /// device that is slow says nothing about the SMMU.
    pub(crate) fn judge(&self, error: QueueError) -> DriverError {
        match error {
            QueueError::Timeout => match self.run(&[]) {
                Ok(()) => DriverError::InvalidationTimeout,
                Err(_) => {
                    self.die();
                    DriverError::Dead
                }
            },
            QueueError::DeviceTlb(_) => DriverError::InvalidationTimeout,
            // The driver sends nothing that the features do not offer: the refusal cannot be
            // trusted to mean that the rest was done.
            QueueError::Illegal(opcode) => {
                log::error!("{}: command {opcode:#04x} was refused", self.name());
                DriverError::InvalidationTimeout
            }
            QueueError::Dead => {
                self.die();
                DriverError::Dead
            }
        }
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> Name {
        Name(self.options.phandle)
    }

    /// Whether faults may stall on this SMMU.
    pub(crate) fn can_stall(&self) -> bool {
        self.features.stall != StallModel::Never
    }
}
