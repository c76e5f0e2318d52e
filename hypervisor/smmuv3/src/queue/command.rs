//! The command queue in memory, with its registers and its time limits.

use alloc::sync::Arc;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, PhysAddr, StreamId, barrier};
use palisade_iommu::DriverError;
use palisade_mem::Frames;

use super::producer::{Failure, Producer};
use crate::command;
use crate::error::QueueError;
use crate::features::Features;
use crate::queue::limits::{Limits, Wait};
use crate::queue::ring::{Pointer, Ring};
use crate::regs::{self, CMDQ_CONS, GERROR};
use crate::spec::{Cmd, Opcode};
use crate::table::memory::Table;

/// Commands in one batch, its CMD_SYNCs included: the longest range without range invalidation
/// and what else belongs to it. A longer request is several batches.
pub const BATCH_COMMANDS_MAX: usize = 72;

/// Turns between two looks at the registers while a completion message is awaited in memory.
const TURNS_PER_LOOK: u32 = 32;

/// How often the same command may be fetched again after an abort, or be replaced, before the queue
/// counts as dead.
const RETRIES_MAX: u32 = 8;

/// log2 of bytes per command.
const COMMAND_LOG2: u32 = 4;

/// The positions of a batch that is not in the queue yet.
#[allow(clippy::reversed_empty_ranges, reason = "it is meant to be empty")]
const NOTHING_SENT: RangeInclusive<u64> = 1..=0;

/// How completion is learnt.
enum Completion {
    /// From CMDQ_CONS.
    Poll,
    /// From a message per queue entry, written to a table of 64-bit words.
    Message(Table),
}

/// Counters for the bench and the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueCounts {
    /// Commands produced, CMD_SYNCs included.
    pub commands: u64,
    /// CMD_SYNCs among them.
    pub syncs: u64,
    /// Writes of CMDQ_PROD.
    pub prod_writes: u64,
}

/// How long the queue waits.
#[derive(Clone, Copy)]
pub(crate) struct QueueLimits {
    /// For a CMD_SYNC.
    pub sync: Limits,
    /// For one that stands behind another's CMD_ATC_INV, whose device is slow.
    pub device: Limits,
}

struct Inner {
    producer: Producer,
    /// Position and count of repeated errors.
    retry: (u64, u32),
    counts: QueueCounts,
}

/// The command queue; safe to use from several cores.
pub(crate) struct CommandQueue {
    table: Table,
    completion: Completion,
    limits: QueueLimits,
    log2: u32,
    /// Beside the lock, so that a panicking core that holds it can still give the queue up.
    dead: AtomicBool,
    inner: Mutex<Inner>,
}

impl CommandQueue {
    /// A queue of 2^`log2` entries; `messages` selects completion by message.
    ///
    /// # Errors
    /// Those of [`Table::new`].
    pub fn new(
        frames: &Arc<Frames>,
        log2: u32,
        features: &Features,
        messages: bool,
        limits: QueueLimits,
    ) -> Result<Self, DriverError> {
        let ring = Ring::new(log2);
        let reach = features.reach();
        let table = Table::new(frames, u64::from(ring.entries()) << COMMAND_LOG2, reach)?;
        let completion = if messages && features.coherent {
            match Table::new(frames, u64::from(ring.entries()) * 8, reach) {
                Ok(words) => Completion::Message(words),
                Err(error) => {
                    table.free();
                    return Err(error);
                }
            }
        } else {
            Completion::Poll
        };
        let inner = Inner {
            producer: Producer::new(ring),
            retry: (u64::MAX, 0),
            counts: QueueCounts::default(),
        };
        let log2 = ring.log2();
        Ok(Self {
            table,
            completion,
            limits,
            log2,
            dead: AtomicBool::new(false),
            inner: Mutex::new(Rank::SmmuCommands, inner),
        })
    }

    /// Gives the memory back; only before [`install`](Self::install).
    pub fn free(self) {
        self.table.free();
        if let Completion::Message(words) = self.completion {
            words.free();
        }
    }

    /// Tells the SMMU where the queue is; CR0.CMDQEN must be 0 (§6.3.26 to §6.3.28).
    pub fn install(&self, mmio: &Mmio) {
        self.table.expose();
        if let Completion::Message(words) = &self.completion {
            words.expose();
        }
        let base = self.table.pa().get() | u64::from(self.log2);
        mmio.set(regs::CMDQ_BASE, regs::BASE_ALLOCATE | base);
        mmio.set(regs::CMDQ_PROD, 0);
        mmio.set(regs::CMDQ_CONS, 0);
    }

    /// The longest batch that fits the queue, its last CMD_SYNC included.
    pub fn batch_max(&self) -> usize {
        BATCH_COMMANDS_MAX.min(1 << self.log2)
    }

    /// What was sent so far.
    pub fn counts(&self) -> QueueCounts {
        self.inner.lock().counts
    }

    /// Marks the queue as beyond repair: every wait ends at its next turn.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    fn check_alive(&self) -> Result<(), QueueError> {
        if self.dead.load(Ordering::Acquire) { Err(QueueError::Dead) } else { Ok(()) }
    }

    /// Sends at most [`batch_max`](Self::batch_max) − 1 commands and one CMD_SYNC with one write of PROD,
    /// and waits until the SMMU is past them.
    ///
    /// A CMD_SYNC waits for every CMD_ATC_INV before it, and a device may take as long as ATS
    /// allows to complete one (§3.9.1.4); nothing takes the commands behind it any faster, not even
    /// disabling the queue (§6.3.9.3). So a batch of its own that waits for a device is given up at
    /// the deadline and says which stream is to blame, while one that stands behind another's
    /// waits on.
    ///
    /// # Errors
    /// [`QueueError`]; after `Illegal`, and `DeviceTlb` with
    /// [`held_by_device`](Self::held_by_device) false, everything else of the batch is complete.
    pub fn run<E: Env>(&self, mmio: &Mmio, env: &E, commands: &[Cmd]) -> Result<(), QueueError> {
        let mut wait = Wait::new(self.limits.sync, env);
        let mut patience = Patience::default();
        let (first, last) = loop {
            if let Some(span) = self.produce(mmio, commands)? {
                break span;
            }
            if !wait.turn(env) {
                let extended = self.extend(env, &mut patience, NOTHING_SENT);
                wait = extended.map_err(|_| QueueError::Timeout)?;
            }
        };
        // The SMMU's time for a batch begins when it has it, however long the batch stood for room.
        wait = Wait::new(self.limits.sync, env);
        let mut looks = 0u32;
        loop {
            if self.signalled(last) {
                return self.finish(first, commands);
            }
            // A message can be lost to an abort, and an error stops the queue: look at the
            // registers too, always where there are no messages.
            let look = match self.completion {
                Completion::Poll => true,
                Completion::Message(_) => looks % TURNS_PER_LOOK == TURNS_PER_LOOK - 1,
            };
            looks = looks.wrapping_add(1);
            if look && self.look(mmio, last)? {
                return self.finish(first, commands);
            }
            if !wait.turn(env) {
                // One last look: a core that was held up does not report what never failed.
                if self.look(mmio, last)? {
                    return self.finish(first, commands);
                }
                wait = match self.extend(env, &mut patience, first..=last) {
                    Ok(wait) => wait,
                    Err(None) => return Err(QueueError::Timeout),
                    Err(Some(at)) => {
                        return Err(QueueError::DeviceTlb(device_before(commands, at)));
                    }
                };
            }
        }
    }

    /// Publishes a batch and does not wait for it. `false`: there is no room.
    ///
    /// # Errors
    /// [`QueueError::Dead`].
    pub fn post(&self, mmio: &Mmio, commands: &[Cmd]) -> Result<bool, QueueError> {
        Ok(self.produce(mmio, commands)?.is_some())
    }

    /// Whether the SMMU may be waiting for a device TLB, as far as is known.
    pub fn held_by_device(&self) -> bool {
        self.inner.lock().producer.held_by_device().is_some()
    }

    /// Another wait for a batch that is not to blame for the delay: as long as a device may take
    /// where another batch waits for one, and as long as ever after that. Each only once for each
    /// position that the SMMU has come to, so that it ends when the SMMU has.
    ///
    /// # Errors
    /// The time is up; how many commands of the batch the SMMU has taken, if it waits for a device
    /// of that batch.
    fn extend<E: Env>(
        &self,
        env: &E,
        patience: &mut Patience,
        batch: RangeInclusive<u64>,
    ) -> Result<Wait, Option<usize>> {
        let inner = self.inner.lock();
        let consumed = inner.producer.consumed();
        let held = inner.producer.held_by_device();
        let own = held.is_some_and(|sync| batch.contains(&sync));
        let now = Patience { at: Some(consumed), held: held.is_some() };
        let before = core::mem::replace(patience, now);
        let moved = before.at.is_some_and(|at| at != consumed);
        if held.is_some() && !own && (moved || !before.held) {
            Ok(Wait::new(self.limits.device, env))
        } else if moved {
            Ok(Wait::new(self.limits.sync, env))
        } else {
            Err(own.then(|| consumed.saturating_sub(*batch.start()) as usize))
        }
    }

    /// Writes the batch and publishes it. `None`: no space yet.
    fn produce(&self, mmio: &Mmio, commands: &[Cmd]) -> Result<Option<(u64, u64)>, QueueError> {
        let mut inner = self.inner.lock();
        self.check_alive()?;
        let count = u32::try_from(commands.len()).unwrap_or(u32::MAX).saturating_add(1);
        if inner.producer.space() < count {
            self.observe(mmio, &mut inner)?;
        }
        let Some(first) = inner.producer.reserve(count) else { return Ok(None) };
        let last = first + u64::from(count) - 1;
        self.put(&inner.producer, first, commands);
        // The cookie is the sync's position, taken under the lock.
        self.put(&inner.producer, last, &[self.sync(&inner.producer, last)]);
        self.publish(&inner.producer, first, count);
        mmio.set(regs::CMDQ_PROD, inner.producer.prod().get());
        inner.counts.commands += u64::from(count);
        inner.counts.syncs += 1;
        // From the first CMD_ATC_INV to the CMD_SYNC after the last.
        let mut devices: Option<(u64, u64)> = None;
        let mut open = false;
        for (command, at) in commands.iter().zip(first..) {
            if command.is_sync() {
                inner.counts.syncs += 1;
                if let (Some(devices), true) = (&mut devices, open) {
                    (devices.1, open) = (at, false);
                }
            } else if is_device(command) {
                devices.get_or_insert((at, last)).1 = last;
                open = true;
            }
        }
        if let Some((invalidation, sync)) = devices {
            inner.producer.expect_devices(invalidation, sync);
        }
        inner.counts.prod_writes += 1;
        Ok(Some((first, last)))
    }

    /// Writes `commands` to the entries from position `first` on.
    fn put(&self, producer: &Producer, first: u64, commands: &[Cmd]) {
        let index = producer.index(first);
        let before_end = (producer.ring().entries() - index) as usize;
        let (head, tail) = commands.split_at(commands.len().min(before_end));
        self.table.store_pairs(index as usize * 2, head.iter().map(|command| command.0));
        if !tail.is_empty() {
            self.table.store_pairs(0, tail.iter().map(|command| command.0));
        }
    }

    /// Makes the entries of `[first, first + count)` visible before PROD names them.
    fn publish(&self, producer: &Producer, first: u64, count: u32) {
        let ring = producer.ring();
        let index = producer.index(first);
        let before_end = count.min(ring.entries() - index);
        self.table.publish(index as usize * 2, before_end as usize * 2);
        if before_end < count {
            self.table.publish(0, (count - before_end) as usize * 2);
        }
    }

    fn sync(&self, producer: &Producer, position: u64) -> Cmd {
        match &self.completion {
            Completion::Poll => command::sync(),
            Completion::Message(words) => {
                let offset = u64::from(producer.index(position)) * 8;
                let pa = PhysAddr::new(words.pa().get() + offset);
                command::sync_msi(pa, Self::cookie(position))
            }
        }
    }

    /// Never 0, which is what the message words start as.
    const fn cookie(position: u64) -> u32 {
        (position as u32).wrapping_add(1)
    }

    /// Whether the message of the sync at `position`, or of a later one there, has come.
    fn signalled(&self, position: u64) -> bool {
        let Completion::Message(words) = &self.completion else { return false };
        let index = self.inner.lock().producer.index(position) as usize;
        let word = words.load(index) as u32;
        let come = word.wrapping_sub(Self::cookie(position)) as i32 >= 0 && word != 0;
        if come {
            words.refresh(index, 1);
        }
        come
    }

    /// Reads CMDQ_CONS, recovers from errors; whether the SMMU is past `position`.
    fn look(&self, mmio: &Mmio, position: u64) -> Result<bool, QueueError> {
        let mut inner = self.inner.lock();
        self.check_alive()?;
        self.observe(mmio, &mut inner)?;
        if inner.producer.passed(position) {
            return Ok(true);
        }
        self.recover(mmio, &mut inner)?;
        Ok(false)
    }

    fn observe(&self, mmio: &Mmio, inner: &mut Inner) -> Result<(), QueueError> {
        let cons = inner.producer.ring().pointer(mmio.get(regs::CMDQ_CONS));
        // What a passed CMD_SYNC made visible is read after it, and entries are written anew only
        // when they were seen to be free.
        barrier::dmb_oshld();
        self.learn(inner, cons)
    }

    fn learn(&self, inner: &mut Inner, cons: Pointer) -> Result<(), QueueError> {
        inner.producer.observe(cons).map_err(|_| {
            self.kill();
            QueueError::Dead
        })
    }

    /// Handles GERROR.CMDQ_ERR and GERROR.SFM_ERR if they are active (§7.1, §7.5).
    pub fn check_errors(&self, mmio: &Mmio) -> Result<(), QueueError> {
        let mut inner = self.inner.lock();
        self.check_alive()?;
        self.recover(mmio, &mut inner)
    }

    /// Acknowledges those active errors that are in `mask`, under the lock that CMDQ_ERR's
    /// acknowledgement takes too.
    pub fn acknowledge(&self, mmio: &Mmio, mask: u32) {
        let _inner = self.inner.lock();
        let acknowledged = mmio.get(regs::GERRORN);
        let active = mmio.get(regs::GERROR) ^ acknowledged;
        mmio.set(regs::GERRORN, acknowledged ^ (active & mask));
    }

    fn recover(&self, mmio: &Mmio, inner: &mut Inner) -> Result<(), QueueError> {
        // An error is active while its bits in the two registers differ (§6.3.19).
        let acknowledged = mmio.get(regs::GERRORN);
        let active = mmio.get(regs::GERROR) ^ acknowledged;
        let is_active =
            |field: tock_registers::fields::Field<u32, GERROR::Register>| field.read(active) != 0;
        if is_active(GERROR::SFM_ERR) {
            self.kill();
            return Err(QueueError::Dead);
        }
        if !is_active(GERROR::CMDQ_ERR) {
            return Ok(());
        }
        let cons = mmio.read(regs::CMDQ_CONS);
        let pointer = inner.producer.ring().pointer(cons.get());
        self.learn(inner, pointer)?;
        let position = inner.producer.consumed();
        let error = cons.read_as_enum(CMDQ_CONS::ERR);
        // A device that is slow may bring the same CMD_SYNC back here many times (§4.7.3): that is
        // bounded by the waits alone.
        if error != Some(CMDQ_CONS::ERR::Value::AtcInvSync) {
            inner.retry = match inner.retry {
                (at, count) if at == position => (at, count + 1),
                _ => (position, 1),
            };
            if inner.retry.1 > RETRIES_MAX {
                self.kill();
                return Err(QueueError::Dead);
            }
        }
        match error {
            // The fetch aborted: the command is fetched again after the acknowledgement.
            Some(CMDQ_CONS::ERR::Value::Abt) => {}
            // The CMD_SYNC is repeated, so that what else it waits for completes.
            Some(CMDQ_CONS::ERR::Value::AtcInvSync) => {
                inner.producer.fail(position, Failure::DeviceTlb);
            }
            // Illegal, or a code of the future: the command is replaced by a CMD_SYNC.
            _ => {
                let index = inner.producer.index(position);
                let opcode = (self.table.load(index as usize * 2) & 0xff) as u8;
                inner.producer.fail(position, Failure::Illegal(opcode));
                self.put(&inner.producer, position, &[command::sync()]);
                self.table.publish(index as usize * 2, 2);
            }
        }
        // Last: from here on the SMMU fetches again.
        let bit = GERROR::CMDQ_ERR::SET.mask();
        mmio.set(regs::GERRORN, acknowledged ^ bit);
        Ok(())
    }

    fn finish(&self, first: u64, commands: &[Cmd]) -> Result<(), QueueError> {
        let last = first + commands.len() as u64;
        let producer = &self.inner.lock().producer;
        match producer.verdict(first, last) {
            Ok(()) => Ok(()),
            Err(Some(Failure::Illegal(opcode))) => Err(QueueError::Illegal(opcode)),
            Err(Some(Failure::DeviceTlb)) => {
                let at = producer.failed_at(first, last).unwrap_or(last).saturating_sub(first);
                Err(QueueError::DeviceTlb(device_before(commands, at as usize)))
            }
            Err(None) => Err(QueueError::Timeout),
        }
    }
}

/// What a batch has waited beyond its own deadline.
#[derive(Default)]
struct Patience {
    /// The SMMU's position when it last began to wait anew.
    at: Option<u64>,
    /// The SMMU waited for a device then.
    held: bool,
}

fn is_device(command: &Cmd) -> bool {
    command.opcode() == Opcode::AtcInv as u8
}

/// The stream whose CMD_ATC_INV the CMD_SYNC at `sync` waits for: the last one before it. Each
/// stream's have a CMD_SYNC of their own.
fn device_before(commands: &[Cmd], sync: usize) -> StreamId {
    let before = commands.iter().take(sync).rev().find(|command| is_device(command));
    StreamId::new(before.map_or(0, |command| Cmd::STREAM_ID.get(&command.0) as u32))
}
