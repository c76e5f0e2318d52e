//! One SMMU: its parts and their locks.

use alloc::sync::Arc;

use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use palisade_hal::lock::Mutex;
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, StreamId};
use palisade_iommu::{DriverError, StallModel, StreamPolicy, StreamState};
use palisade_mem::{Agent, Frames};

use crate::error::QueueError;
use crate::event::storm::Storm;
use crate::features::Features;
use crate::queue::input::InputQueue;
use crate::queue::limits::Limits;
use crate::queue::{CommandQueue, QueueCounts};
use crate::regs::{self, GBPA};
use crate::spec::Cmd;
use crate::table::context::ContextTable;
use crate::table::sparse::Small;
use crate::table::stream::StreamTable;

/// Streams that wait to be contained at a time.
pub(crate) const PENDING_MAX: usize = 16;

/// What the operator of the SMMU chooses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Deadline of one CMD_SYNC in microseconds.
    pub sync_micros: u64,
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
    /// Events of one stream per `storm_micros` before it is contained.
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
    /// Those of one CMD_SYNC.
    pub(crate) fn sync_limits(&self) -> Limits {
        Limits { micros: self.sync_micros, turns: self.sync_turns }
    }

    /// Those of one register acknowledgement.
    pub(crate) fn register_limits(&self) -> Limits {
        Limits { micros: self.register_micros, turns: self.register_turns }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sync_micros: 100_000,
            sync_turns: 1 << 22,
            register_micros: 100_000,
            register_turns: 1 << 22,
            cmdq_log2: 8,
            evtq_log2: 10,
            storm_events: 1 << 16,
            storm_micros: 1_000_000,
            messages: true,
            coherent: true,
            interrupts: true,
        }
    }
}

/// What the driver knows of its streams beside the table: under the configuration lock.
pub(crate) struct Streams {
    pub table: StreamTable,
    pub contexts: Small<ContextTable>,
    /// The policy each attached stream has.
    pub policies: Small<StreamPolicy>,
    /// Streams of devices that did not answer: they abort for good.
    pub dead: Small<()>,
}

/// The queues that hardware fills, and the watch over them: under the event lock.
pub(crate) struct Inputs {
    pub events: InputQueue,
    pub requests: Option<InputQueue>,
    pub storm: Storm,
    pub pending: ArrayVec<StreamId, PENDING_MAX>,
}

/// An SMMUv3 that is enabled, with every stream aborting until it is attached.
///
/// Lock order: configuration → command queue. The event lock is taken alone, or last before the
/// configuration lock is *tried*: an interrupt never waits for it. Callers run with interrupts
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

    /// Tells `sink` what each stream that has an entry does now, read back from memory: the
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
    /// out whether the queue still moves; if not, the instance dies, and everything aborts.
    pub(crate) fn judge(&self, error: QueueError) -> DriverError {
        match error {
            QueueError::Timeout | QueueError::DeviceTlb => match self.run(&[]) {
                Ok(()) => DriverError::InvalidationTimeout,
                Err(_) => {
                    self.die();
                    DriverError::Dead
                }
            },
            // The driver sends nothing that the features do not offer: the SMMU's answer cannot
            // be trusted to mean that the rest was done.
            QueueError::Illegal(opcode) => {
                log::error!("smmuv3: command {opcode:#04x} was refused");
                DriverError::InvalidationTimeout
            }
            QueueError::Dead => {
                self.die();
                DriverError::Dead
            }
        }
    }

    /// Whether faults may stall on this SMMU.
    pub(crate) fn can_stall(&self) -> bool {
        self.features.stall != StallModel::Never
    }
}
