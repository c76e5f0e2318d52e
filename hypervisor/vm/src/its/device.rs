//! A VM's translation service as a device in its memory map.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use palisade_hal::lock::{FairMutex, Rank};

use super::world::{Sender, World};
use super::{Messages, VirtualIts};
use crate::memory::GuestMemory;
use crate::mmio::{Access, MmioDevice, Width};
use crate::vgic::Vgic;

/// Bytes of the control frame: the only one that the CPUs see.
pub const CONTROL_BYTES: u64 = 0x1_0000;

/// A VM's translation service.
///
/// The lock is held over a wait for the physical ITS, by one exit for as long as its budget lasts.
/// It is fair; and the operator, who counts himself in `hurry` before he waits, waits for the piece
/// of work at hand and not for the guest's queue.
pub struct ItsDevice {
    inner: FairMutex<(VirtualIts, World)>,
    /// Commands wait that no exit has had room for.
    behind: AtomicBool,
    hurry: Arc<AtomicU32>,
}

impl fmt::Debug for ItsDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        let (its, world) = &*inner;
        (its, &world.senders, &world.events, self.is_behind()).fmt(f)
    }
}

impl ItsDevice {
    /// The service of the VM with this controller and memory, whose vCPUs run on `cores`.
    pub fn new(
        messages: Arc<Messages>,
        vgic: Arc<Vgic>,
        memory: Arc<GuestMemory>,
        cores: Vec<usize>,
        senders: Vec<Sender>,
    ) -> Arc<Self> {
        let its = VirtualIts::new(senders.iter().map(|sender| sender.guest));
        let hurry = Arc::new(AtomicU32::new(0));
        let world = World::new(messages, vgic, memory, cores, senders, hurry.clone());
        Arc::new(Self {
            inner: FairMutex::new(Rank::VirtualIts, (its, world)),
            behind: AtomicBool::new(false),
            hurry,
        })
    }

    /// Takes everything apart: none of the VM's devices sends a message to anybody afterwards.
    pub fn reset(&self) {
        self.first(|its, world| its.reset(world));
    }

    /// Its VM gets a device; whoever stood there before is gone first.
    pub fn add_sender(&self, sender: Sender) {
        self.first(|its, world| {
            if world.physical(sender.guest).is_none() {
                world.senders.push(sender);
                its.add_device(sender.guest);
            }
        });
    }

    /// Its VM loses the device that it knows as `guest`: none of its messages reaches the VM
    /// when this returns, and its events are nobody's.
    pub fn remove_sender(&self, guest: u32) {
        self.first(|its, world| {
            its.remove_device(guest, world);
            world.senders.retain(|sender| sender.guest != guest);
        });
    }

    /// Commands that were refused, and requests that the physical ITS did not carry out.
    pub fn refused(&self) -> (u64, u64) {
        self.first(|its, world| (its.refused(), world.failed))
    }

    /// Whether commands wait that no exit has had room for.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// Goes on with the guest's queue for one exit's share, unless another vCPU does so just now.
    /// Whether this one has to come again soon.
    pub fn go_on(&self) -> bool {
        let Some(mut inner) = self.inner.try_lock() else { return false };
        let (its, world) = &mut *inner;
        world.budget.renew();
        its.advance(world);
        let behind = its.has_work();
        self.behind.store(behind, Ordering::Release);
        behind
    }

    /// For an access of the guest's: with a budget of its own.
    fn exit<R>(&self, body: impl FnOnce(&mut VirtualIts, &mut World) -> R) -> R {
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        world.budget.renew();
        let result = body(its, world);
        self.behind.store(its.has_work(), Ordering::Release);
        result
    }

    /// For the operator: guests give way.
    fn first<R>(&self, body: impl FnOnce(&mut VirtualIts, &mut World) -> R) -> R {
        self.hurry.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.inner.lock();
        self.hurry.fetch_sub(1, Ordering::Relaxed);
        let (its, world) = &mut *inner;
        let result = body(its, world);
        self.behind.store(its.has_work(), Ordering::Release);
        result
    }
}

const fn bytes(width: Width) -> u8 {
    width.bytes() as u8
}

impl MmioDevice for ItsDevice {
    fn read(&self, access: Access) -> u64 {
        if access.width.bytes() < 4 {
            return 0;
        }
        self.exit(|its, world| its.read(access.offset, bytes(access.width), world))
    }

    fn write(&self, access: Access, value: u64) {
        if access.width.bytes() < 4 {
            return;
        }
        self.exit(|its, world| its.write(access.offset, bytes(access.width), value, world));
    }
}
