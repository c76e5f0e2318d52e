//! One physical ITS: its tables, its queue, the devices mapped through it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use palisade_hal::lock::{FairMutex, Rank};
use palisade_hal::mmio::Mmio;
use palisade_hal::{Deadline, Env, PhysAddr};
use palisade_mem::{DmaBuffer, Frames};

use super::device::DeviceTable;
use super::queue::Queue;
use super::regs::{
    BASER, CACHE_RAWAWB, CTLR, GITS_BASER, GITS_CTLR, GITS_TYPER, INNER_SHAREABLE, TRANSLATER,
    TYPER,
};
use super::{Command, ItsError};

/// DeviceIDs served: a PCI segment's requester ids.
const DEVICE_BITS: u64 = 16;
/// Events per device: as many as an MSI-X table has entries.
const EVENT_BITS: u8 = 11;

/// The most events of one batch.
pub const BATCH: usize = 64;
/// Commands of the longest batch: two for each event, and a SYNC to each core.
const COMMANDS: usize = 2 * BATCH + crate::MAX_CORES;

/// What becomes of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// It raises this LPI from now on; its configuration byte is read anew.
    Map(u32),
    /// It goes to another core from now on; pending or not.
    Move,
    /// Its configuration byte is read anew.
    Invalidate,
    /// It is unmapped, and is not pending any more.
    Discard,
}

/// An event of a device, and what becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// EventID.
    pub event: u32,
    /// The core that it goes to, by then.
    pub core: usize,
    /// What becomes of it.
    pub deed: Deed,
}

#[derive(Debug)]
struct Inner {
    queue: Queue,
    devices: Vec<DeviceTable>,
    /// RDbase of each core, as commands name it; the collection has the core's number.
    targets: Vec<Option<u64>>,
    /// Tables of the hardware, kept for as long as it may read them.
    _tables: Vec<DmaBuffer>,
}

/// A physical ITS. Calls are serialised; each waits for its commands, with a deadline.
pub struct Its {
    mmio: Mmio,
    base: PhysAddr,
    frames: Arc<Frames>,
    entry_bytes: u64,
    event_bits: u8,
    by_address: bool,
    /// Guests keep it busy: fair, so that each core waits for one batch of every other at most.
    inner: FairMutex<Inner>,
}

impl Its {
    /// Takes an ITS into service: disabled, its tables laid, its queue ready, enabled.
    ///
    /// # Errors
    /// When it lacks what is needed, does not come to rest, or memory is short.
    pub fn new(
        mmio: Mmio,
        base: PhysAddr,
        frames: &Arc<Frames>,
        env: &impl Env,
    ) -> Result<Self, ItsError> {
        let typer = mmio.read(TYPER);
        if !typer.is_set(GITS_TYPER::Physical) {
            return Err(ItsError::Unsupported("physical LPIs"));
        }
        mmio.set(CTLR, 0);
        let quiet = || mmio.read(CTLR).is_set(GITS_CTLR::Quiescent);
        if !Deadline::after(env, 1_000_000).wait(env, quiet) {
            return Err(ItsError::Timeout("GITS_CTLR.Quiescent"));
        }
        let device_bits = DEVICE_BITS.min(typer.read(GITS_TYPER::Devbits) + 1);
        let mut tables = Vec::new();
        for index in 0..8 {
            let reg = BASER.element(index, 8);
            let baser = mmio.read(reg);
            let entry = baser.read(GITS_BASER::EntrySize) + 1;
            let entries = match baser.read_as_enum(GITS_BASER::Type) {
                Some(GITS_BASER::Type::Value::Devices) => 1 << device_bits,
                Some(GITS_BASER::Type::Value::Collections) => crate::MAX_CORES as u64,
                None => continue,
            };
            tables.push(lay_table(&mmio, index, entry * entries, frames)?);
        }
        let queue = Queue::new(&mmio, frames)?;
        mmio.write(CTLR, GITS_CTLR::Enabled::SET);
        let event_bits = (typer.read(GITS_TYPER::ID_bits) as u8 + 1).min(EVENT_BITS);
        Ok(Self {
            base,
            frames: frames.clone(),
            entry_bytes: typer.read(GITS_TYPER::ITT_entry_size) + 1,
            event_bits,
            by_address: typer.is_set(GITS_TYPER::PTA),
            inner: FairMutex::new(
                Rank::PhysicalIts,
                Inner { queue, devices: Vec::new(), targets: Vec::new(), _tables: tables },
            ),
            mmio,
        })
    }

    /// Where devices write their events: GITS_TRANSLATER.
    pub fn translater(&self) -> PhysAddr {
        PhysAddr::new(self.base.get().wrapping_add(TRANSLATER))
    }

    /// Whether commands name redistributors by address ([`LpiTable::init_redistributor`]).
    ///
    /// [`LpiTable::init_redistributor`]: super::LpiTable::init_redistributor
    pub fn by_address(&self) -> bool {
        self.by_address
    }

    /// Largest number of bits of an EventID that a device can have here.
    pub fn event_bits(&self) -> u8 {
        self.event_bits
    }

    /// Ties collection `core` to that core's redistributor.
    ///
    /// # Errors
    /// When the core is out of range or the queue does not answer.
    pub fn map_core(&self, env: &impl Env, core: usize, target: u64) -> Result<(), ItsError> {
        if core >= crate::MAX_CORES {
            return Err(ItsError::Range("core", core as u64));
        }
        let collection = core as u16;
        let mut inner = self.inner.lock();
        inner.queue.run(
            &self.mmio,
            env,
            &[
                Command::Mapc { collection, target, valid: true },
                Command::Invall { collection },
                Command::Sync { target },
            ],
        )?;
        inner.queue.set_target(target);
        if inner.targets.len() <= core {
            inner.targets.resize(core + 1, None);
        }
        if let Some(slot) = inner.targets.get_mut(core) {
            *slot = Some(target);
        }
        Ok(())
    }

    /// Gives a device a table for 2^`event_bits` events, all unmapped.
    ///
    /// # Errors
    /// [`ItsError::Device`] if it has one, [`ItsError::Range`], memory or queue errors.
    pub fn map_device(&self, env: &impl Env, device: u32, event_bits: u8) -> Result<(), ItsError> {
        if u64::from(device) >= 1 << DEVICE_BITS {
            return Err(ItsError::Range("DeviceID", u64::from(device)));
        }
        if event_bits == 0 || event_bits > self.event_bits {
            return Err(ItsError::Range("EventID width", u64::from(event_bits)));
        }
        let mut inner = self.inner.lock();
        if inner.devices.iter().any(|entry| entry.device == device && entry.mapped) {
            return Err(ItsError::Device(device));
        }
        let fits = |e: &DeviceTable| e.device == device && e.event_bits == event_bits;
        let position = match inner.devices.iter().position(fits) {
            Some(position) => position,
            None => {
                let new = DeviceTable::new(&self.frames, device, event_bits, self.entry_bytes)?;
                inner.devices.push(new);
                inner.devices.len() - 1
            }
        };
        let Inner { queue, devices, .. } = &mut *inner;
        let Some(entry) = devices.get_mut(position) else { return Err(ItsError::Device(device)) };
        entry.wipe();
        let table = entry.memory.pa().get();
        let command = Command::Mapd { device, event_bits, table, valid: true };
        queue.run(&self.mmio, env, &[command])?;
        entry.mapped = true;
        Ok(())
    }

    /// Takes a device's table away: its events reach nobody from now on.
    ///
    /// # Errors
    /// [`ItsError::Device`] if it has none, or a queue error.
    pub fn unmap_device(&self, env: &impl Env, device: u32) -> Result<(), ItsError> {
        let mut inner = self.inner.lock();
        let Inner { queue, devices, targets, .. } = &mut *inner;
        let entry = devices
            .iter_mut()
            .find(|entry| entry.device == device && entry.mapped)
            .ok_or(ItsError::Device(device))?;
        let unmap = Command::Mapd { device, event_bits: entry.event_bits, table: 0, valid: false };
        // Whatever a redistributor took before the unmapping has arrived after a SYNC to each.
        let mut batch: ArrayVec<Command, { crate::MAX_CORES + 1 }> = ArrayVec::new();
        let syncs = targets.iter().flatten().map(|&target| Command::Sync { target });
        batch.extend(core::iter::once(unmap).chain(syncs.take(crate::MAX_CORES)));
        queue.run(&self.mmio, env, &batch)?;
        entry.mapped = false;
        Ok(())
    }

    /// Carries out orders for events of one device, at most [`BATCH`], with one wait for all. An
    /// order that the hardware refuses is skipped, and the rest carried out.
    ///
    /// # Errors
    /// [`ItsError::Device`] if it has no table, [`ItsError::Range`] for an event outside it, a core
    /// that was not mapped or too many orders; then nothing was done. Or a queue error.
    pub fn carry_out(&self, env: &impl Env, device: u32, orders: &[Order]) -> Result<(), ItsError> {
        if orders.len() > BATCH {
            return Err(ItsError::Range("batch of events", orders.len() as u64));
        }
        let mut inner = self.inner.lock();
        let mut devices = inner.devices.iter();
        let event_bits = devices
            .find(|entry| entry.device == device && entry.mapped)
            .ok_or(ItsError::Device(device))?
            .event_bits;
        let mut commands: ArrayVec<Command, COMMANDS> = ArrayVec::new();
        let mut targets: ArrayVec<u64, { crate::MAX_CORES }> = ArrayVec::new();
        for &Order { event, core, deed } in orders {
            if event >> event_bits != 0 {
                return Err(ItsError::Range("EventID", u64::from(event)));
            }
            let target = inner.targets.get(core).copied().flatten();
            let target = target.ok_or(ItsError::Range("core", core as u64))?;
            if !targets.contains(&target) {
                let _ = targets.try_push(target);
            }
            let collection = core as u16;
            // There is room: two for each of at most `BATCH` orders.
            let _ = commands.try_push(match deed {
                Deed::Map(intid) => Command::Mapti { device, event, intid, collection },
                Deed::Move => Command::Movi { device, event, collection },
                Deed::Invalidate => Command::Inv { device, event },
                Deed::Discard => Command::Discard { device, event },
            });
            if matches!(deed, Deed::Map(_)) {
                // The redistributor may hold what the LPI's byte was for its last event.
                let _ = commands.try_push(Command::Inv { device, event });
            }
        }
        commands.extend(targets.into_iter().map(|target| Command::Sync { target }));
        inner.queue.run(&self.mmio, env, &commands)
    }

    /// Makes a core's redistributor read the configuration bytes of all its LPIs anew: one command,
    /// however many they are (5.13.7).
    ///
    /// # Errors
    /// [`ItsError::Range`] or a queue error.
    pub fn invalidate_core(&self, env: &impl Env, core: usize) -> Result<(), ItsError> {
        let mut inner = self.inner.lock();
        let target = inner.targets.get(core).copied().flatten();
        let target = target.ok_or(ItsError::Range("core", core as u64))?;
        let batch = [Command::Invall { collection: core as u16 }, Command::Sync { target }];
        inner.queue.run(&self.mmio, env, &batch)
    }
}

/// Gives `GITS_BASER<index>` a flat table of at least `bytes` bytes.
fn lay_table(
    mmio: &Mmio,
    index: u64,
    bytes: u64,
    frames: &Arc<Frames>,
) -> Result<DmaBuffer, ItsError> {
    // 64 KiB pages keep the page count within its 8 bits for every size used here.
    let pages = bytes.div_ceil(64 * 1024).max(1);
    if pages > 256 {
        return Err(ItsError::Unsupported("a flat table of this size"));
    }
    let memory = DmaBuffer::new(frames, pages * 64 * 1024, true)?;
    let reg = BASER.element(index, 8);
    mmio.write(
        reg,
        GITS_BASER::Valid::SET
            + GITS_BASER::InnerCache.val(CACHE_RAWAWB)
            + GITS_BASER::Shareability.val(INNER_SHAREABLE)
            + GITS_BASER::Address.val(memory.pa().get() >> 12)
            + GITS_BASER::PageSize::Kib64
            + GITS_BASER::Size.val(pages - 1),
    );
    let taken = mmio.read(reg);
    if taken.read(GITS_BASER::PageSize) != 2 {
        return Err(ItsError::Unsupported("tables of 64 KiB pages"));
    }
    Ok(memory)
}
