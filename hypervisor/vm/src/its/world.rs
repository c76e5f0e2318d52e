//! The world behind a VM's translation service: physical ITS, guest memory, its controller.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU32;

use arrayvec::ArrayVec;
use palisade_gic::its::{Deed, ItsError, Order};
use palisade_hal::Ipa;
use palisade_hal::cpu::Counter;
use palisade_mem::SortedMap;

use super::devices::{PIECE, Route};
use super::{Backend, Budget, Messages};
use crate::memory::GuestMemory;
use crate::vgic::Vgic;

/// Priority of physical LPIs; the guest's own holds in its list registers.
const PRIORITY: u8 = 0xa0;
/// A configuration byte's enable bit (IHI 0069, 5.1.1).
const ENABLED: u8 = 1;

const _: () = assert!(PIECE <= palisade_gic::its::BATCH);

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
pub(super) struct Mapped {
    lpi: u32,
    vcpu: usize,
}

pub(super) struct World {
    pub messages: Arc<Messages>,
    pub vgic: Arc<Vgic>,
    pub memory: Arc<GuestMemory>,
    cores: Vec<usize>,
    pub senders: Vec<Sender>,
    pub events: SortedMap<(u32, u32), Mapped>,
    /// Requests that the physical ITS did not carry out.
    pub failed: u64,
    pub budget: Budget,
}

impl World {
    pub fn new(
        messages: Arc<Messages>,
        vgic: Arc<Vgic>,
        memory: Arc<GuestMemory>,
        cores: Vec<usize>,
        senders: Vec<Sender>,
        hurry: Arc<AtomicU32>,
    ) -> Self {
        let (events, budget) = (SortedMap::new(), Budget::new(hurry));
        Self { messages, vgic, memory, cores, senders, events, failed: 0, budget }
    }

    pub fn physical(&self, device: u32) -> Option<u32> {
        self.senders.iter().find(|sender| sender.guest == device).map(|sender| sender.physical)
    }

    fn core(&self, vcpu: usize) -> usize {
        self.cores.get(vcpu).copied().unwrap_or(0)
    }

    /// Whether the physical ITS did what it was asked.
    fn done(&mut self, result: Result<(), ItsError>) -> bool {
        if let Err(error) = result {
            // Bounded: said once for each VM.
            if self.failed == 0 {
                log::error!("ITS: {error}");
            }
            self.failed += 1;
            return false;
        }
        true
    }

    /// Has the physical ITS carry out what is ordered for events of a device.
    fn order(&mut self, device: u32, orders: &[Order]) -> bool {
        let Some(physical) = self.physical(device) else { return false };
        if orders.is_empty() {
            return true;
        }
        self.budget.charge(orders.len() + 1);
        let result = self.messages.its().carry_out(&Counter, physical, orders);
        self.done(result)
    }

    /// The configuration byte of an LPI, from the guest's own table; disabled where there is none.
    fn configuration(&self, intid: u32) -> u8 {
        let mut byte = [0];
        let at = self.vgic.lpi_configuration(intid);
        match at.is_some_and(|at| self.memory.read(Ipa::new(at), &mut byte)) {
            true => byte[0],
            false => 0,
        }
    }
}

impl Backend for World {
    fn vcpus(&self) -> usize {
        self.vgic.vcpus()
    }

    fn may_go_on(&mut self) -> bool {
        self.budget.is_left(&Counter)
    }

    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool {
        self.budget.charge(1);
        self.memory.read(Ipa::new(ipa), to)
    }

    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool {
        let Some(physical) = self.physical(device) else { return false };
        let messages = self.messages.clone();
        let its = messages.its();
        // Its commands, and as many SYNCs as there are cores.
        self.budget.charge(1 + palisade_gic::MAX_CORES);
        let result = match event_bits {
            Some(bits) => its.map_device(&Counter, physical, bits.min(its.event_bits())),
            None => its.unmap_device(&Counter, physical),
        };
        self.done(result)
    }

    fn map_event(&mut self, device: u32, route: Route, vcpu: usize) -> bool {
        let messages = self.messages.clone();
        let lpi = match messages.lpis().alloc() {
            Ok(lpi) => lpi,
            Err(error) => return self.done(Err(error)),
        };
        let byte = self.configuration(route.intid);
        messages.lpis().configure(lpi, byte & ENABLED != 0, PRIORITY);
        self.vgic.map_lpi(route.intid, vcpu);
        self.vgic.configure_lpi(route.intid, byte);
        messages.connect(lpi, &self.vgic, route.intid);
        let order = Order { event: route.event, core: self.core(vcpu), deed: Deed::Map(lpi) };
        if !self.order(device, &[order]) {
            messages.disconnect(lpi);
            messages.lpis().free(lpi);
            self.vgic.unmap_lpi(route.intid);
            return false;
        }
        self.events.insert((device, route.event), Mapped { lpi, vcpu });
        true
    }

    fn move_events(&mut self, device: u32, routes: &[Route], to: usize) {
        let core = self.core(to);
        let mut orders: ArrayVec<Order, PIECE> = ArrayVec::new();
        for &Route { event, intid } in routes {
            self.budget.charge(1);
            let Some(mapped) = self.events.get_mut(&(device, event)) else { continue };
            if core::mem::replace(&mut mapped.vcpu, to) != to {
                let _ = orders.try_push(Order { event, core, deed: Deed::Move });
            }
            self.vgic.move_lpi(intid, to);
        }
        self.order(device, &orders);
    }

    fn unmap_events(&mut self, device: u32, routes: &[Route]) {
        let messages = self.messages.clone();
        let mut orders: ArrayVec<Order, PIECE> = ArrayVec::new();
        let mut lpis: ArrayVec<u32, PIECE> = ArrayVec::new();
        for &Route { event, intid } in routes {
            let Some(mapped) = self.events.remove(&(device, event)) else { continue };
            let core = self.core(mapped.vcpu);
            let _ = orders.try_push(Order { event, core, deed: Deed::Discard });
            let _ = lpis.try_push(mapped.lpi);
            self.vgic.unmap_lpi(intid);
        }
        let discarded = self.order(device, &orders);
        for lpi in lpis {
            messages.disconnect(lpi);
            // One that the hardware may still raise is given to nobody else.
            if discarded {
                messages.lpis().free(lpi);
            }
        }
    }

    fn configure(&mut self, device: u32, routes: &[Route]) {
        for &Route { event, intid } in routes {
            self.budget.charge(1);
            let Some(mapped) = self.events.get(&(device, event)).copied() else { continue };
            let byte = self.configuration(intid);
            self.vgic.configure_lpi(intid, byte);
            self.messages.lpis().configure(mapped.lpi, byte & ENABLED != 0, PRIORITY);
        }
    }

    fn refresh(&mut self, device: u32, route: Route) {
        let Some(mapped) = self.events.get(&(device, route.event)).copied() else { return };
        let (event, core) = (route.event, self.core(mapped.vcpu));
        self.order(device, &[Order { event, core, deed: Deed::Invalidate }]);
    }

    fn refresh_all(&mut self, vcpu: usize) {
        self.budget.charge(2);
        let result = self.messages.its().invalidate_core(&Counter, self.core(vcpu));
        self.done(result);
    }

    fn set_pending(&mut self, intid: u32, pending: bool) {
        self.vgic.set_lpi_pending(intid, pending);
    }

    fn move_pending(&mut self, from: usize, to: usize) {
        self.budget.charge(PIECE);
        self.vgic.move_pending_lpis(from, to);
    }
}
