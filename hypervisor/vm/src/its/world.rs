//! A VM's translation service as a device, and the world behind it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use palisade_gic::its::ItsError;
use palisade_hal::Ipa;
use palisade_hal::cpu::Counter;
use palisade_hal::lock::Mutex;
use palisade_mem::SortedMap;

use super::{Backend, LPIS_PER_VM, Messages, VirtualIts};
use crate::memory::GuestMemory;
use crate::mmio::{Access, MmioDevice, Width};
use crate::vgic::Vgic;

/// Bytes of the control frame: the only one that the CPUs see.
pub const CONTROL_BYTES: u64 = 0x1_0000;
/// Priority of physical LPIs; the guest's own holds in its list registers.
const PRIORITY: u8 = 0xa0;
/// A configuration byte's enable bit (IHI 0069, 5.1.1).
const ENABLED: u8 = 1;

/// A device of the VM that sends messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its DeviceID as the guest sees it: its place on the virtual bus.
    pub guest: u32,
    /// Its DeviceID at the physical ITS.
    pub physical: u32,
}

/// An event that reaches the guest.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    lpi: u32,
    vcpu: usize,
}

struct World {
    messages: Arc<Messages>,
    vgic: Arc<Vgic>,
    memory: Arc<GuestMemory>,
    cores: Vec<usize>,
    senders: Vec<Sender>,
    events: SortedMap<(u32, u32), Mapped>,
    failed: u64,
}

impl fmt::Debug for ItsDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.lock();
        let (its, world) = &*inner;
        (its, &world.senders, &world.events).fmt(f)
    }
}

/// A VM's translation service.
pub struct ItsDevice {
    inner: Mutex<(VirtualIts, World)>,
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
        let events = SortedMap::new();
        let world = World { messages, vgic, memory, cores, senders, events, failed: 0 };
        Arc::new(Self { inner: Mutex::new((its, world)) })
    }

    /// Takes everything apart: none of the VM's devices sends a message to anybody afterwards.
    pub fn reset(&self) {
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        its.reset(world);
    }

    /// Its VM gets a device; whoever stood there before is gone first.
    pub fn add_sender(&self, sender: Sender) {
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        if world.physical(sender.guest).is_none() {
            world.senders.push(sender);
            its.add_device(sender.guest);
        }
    }

    /// Its VM loses the device that it knows as `guest`: none of its messages reaches the VM
    /// when this returns, and its events are nobody's.
    pub fn remove_sender(&self, guest: u32) {
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        its.remove_device(guest, world);
        world.senders.retain(|sender| sender.guest != guest);
    }

    /// Commands that were refused, and requests that the physical ITS did not carry out.
    pub fn refused(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.0.refused(), inner.1.failed)
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
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        its.read(access.offset, bytes(access.width), world)
    }

    fn write(&self, access: Access, value: u64) {
        if access.width.bytes() < 4 {
            return;
        }
        let mut inner = self.inner.lock();
        let (its, world) = &mut *inner;
        its.write(access.offset, bytes(access.width), value, world);
    }
}

impl World {
    fn physical(&self, device: u32) -> Option<u32> {
        self.senders.iter().find(|sender| sender.guest == device).map(|sender| sender.physical)
    }

    fn core(&self, vcpu: usize) -> usize {
        self.cores.get(vcpu).copied().unwrap_or(0)
    }

    /// Whether the physical ITS did what it was asked.
    fn done(&mut self, result: Result<(), ItsError>) -> bool {
        if let Err(error) = result {
            // Bounded: the guest's own rate of mapping, each with its deadline, said once.
            if self.failed == 0 {
                log::error!("ITS: {error}");
            }
            self.failed += 1;
            return false;
        }
        true
    }
}

impl Backend for World {
    fn vcpus(&self) -> usize {
        self.vgic.vcpus()
    }

    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool {
        self.memory.read(Ipa::new(ipa), to)
    }

    fn configuration(&mut self, intid: u32) -> u8 {
        let mut byte = [0];
        let at = self.vgic.lpi_configuration(intid);
        match at.is_some_and(|at| self.memory.read(Ipa::new(at), &mut byte)) {
            true => byte[0],
            false => 0,
        }
    }

    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool {
        let Some(physical) = self.physical(device) else { return false };
        let messages = self.messages.clone();
        let result = match event_bits {
            Some(bits) => {
                messages.its().map_device(&Counter, physical, bits.min(messages.its().event_bits()))
            }
            None => messages.its().unmap_device(&Counter, physical),
        };
        self.done(result)
    }

    fn map_event(&mut self, device: u32, event: u32, intid: u32, vcpu: usize) -> bool {
        let Some(physical) = self.physical(device) else { return false };
        if self.events.len() >= LPIS_PER_VM {
            return false;
        }
        let messages = self.messages.clone();
        let lpi = match messages.lpis().alloc() {
            Ok(lpi) => lpi,
            Err(error) => return self.done(Err(error)),
        };
        messages.lpis().configure(lpi, false, PRIORITY);
        self.vgic.map_lpi(intid, vcpu);
        messages.connect(lpi, &self.vgic, intid);
        let mapped = messages.its().map_event(&Counter, physical, event, lpi, self.core(vcpu));
        if !self.done(mapped) {
            messages.disconnect(lpi);
            messages.lpis().free(lpi);
            self.vgic.unmap_lpi(intid);
            return false;
        }
        self.events.insert((device, event), Mapped { lpi, vcpu });
        true
    }

    fn move_event(&mut self, device: u32, event: u32, intid: u32, _from: usize, to: usize) {
        let Some(physical) = self.physical(device) else { return };
        let core = self.core(to);
        if let Some(mapped) = self.events.get_mut(&(device, event)) {
            mapped.vcpu = to;
        }
        let result = self.messages.its().move_event(&Counter, physical, event, core);
        self.done(result);
        self.vgic.move_lpi(intid, to);
    }

    fn unmap_event(&mut self, device: u32, event: u32, intid: u32, _vcpu: Option<usize>) {
        let Some(physical) = self.physical(device) else { return };
        let Some(Mapped { lpi, vcpu }) = self.events.remove(&(device, event)) else { return };
        let messages = self.messages.clone();
        let core = self.core(vcpu);
        let discarded = messages.its().discard_event(&Counter, physical, event, core);
        messages.disconnect(lpi);
        self.vgic.unmap_lpi(intid);
        if self.done(discarded) {
            messages.lpis().free(lpi);
        }
    }

    fn configure(&mut self, device: u32, event: u32, intid: u32, _vcpu: usize, byte: u8) {
        let Some(physical) = self.physical(device) else { return };
        let Some(Mapped { lpi, vcpu }) = self.events.get(&(device, event)).copied() else { return };
        self.vgic.configure_lpi(intid, byte);
        self.messages.lpis().configure(lpi, byte & ENABLED != 0, PRIORITY);
        let core = self.core(vcpu);
        let result = self.messages.its().invalidate_event(&Counter, physical, event, core);
        self.done(result);
    }

    fn set_pending(&mut self, intid: u32, _vcpu: usize, pending: bool) {
        self.vgic.set_lpi_pending(intid, pending);
    }
}
