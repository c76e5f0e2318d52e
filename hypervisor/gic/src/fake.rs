//! An interrupt controller that exists in tests only.
//!
//! It plays the list registers as a guest's CPU interface would use them, so that a virtual GIC
//! can be driven through acknowledge and end, and it writes down what the hypervisor asked for.
use alloc::{collections::VecDeque, vec::Vec};

use palisade_hal::lock::{Mutex, Rank};

use crate::{Ack, Gic, GicError, ListRegister, LrState, MaintenanceControl, Trigger, Version};

/// What the hypervisor asked of the fake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeCall {
    /// A priority drop.
    PriorityDrop(u32),
    /// A deactivation, by the hypervisor or through a linked list register.
    Deactivate(u32),
    /// An SGI: core, number.
    Sgi(usize, u32),
    /// An interrupt was switched on or off.
    Enable(u32, bool),
    /// An interrupt was made neither active nor pending.
    Clear(u32),
    /// A route: interrupt, core.
    Route(u32, usize),
}

struct State {
    pending: VecDeque<u32>,
    lrs: Vec<ListRegister>,
    control: MaintenanceControl,
    unmatched: u32,
    calls: Vec<FakeCall>,
}

/// A fake controller with a given number of list registers, for one core.
pub struct FakeGic {
    version: Version,
    state: Mutex<State>,
}

impl FakeGic {
    /// A fake with `list_registers` list registers.
    pub fn new(version: Version, list_registers: usize) -> Self {
        let lrs = (0..list_registers).map(|_| ListRegister::default()).collect();
        Self {
            version,
            state: Mutex::new(
                Rank::Fake,
                State {
                    pending: VecDeque::new(),
                    lrs,
                    control: MaintenanceControl::default(),
                    unmatched: 0,
                    calls: Vec::new(),
                },
            ),
        }
    }

    /// A physical interrupt becomes pending.
    pub fn raise(&self, intid: u32) {
        self.state.lock().pending.push_back(intid);
    }

    /// What was asked for so far; forgets it.
    pub fn take_calls(&self) -> Vec<FakeCall> {
        core::mem::take(&mut self.state.lock().calls)
    }

    /// The list registers as they stand.
    pub fn list(&self) -> Vec<ListRegister> {
        self.state.lock().lrs.clone()
    }

    /// The guest acknowledges its most urgent pending interrupt.
    pub fn guest_acknowledge(&self) -> Option<u32> {
        let mut state = self.state.lock();
        let lr = state
            .lrs
            .iter_mut()
            .filter(|lr| lr.state == LrState::Pending)
            .min_by_key(|lr| (lr.priority, lr.intid))?;
        lr.state = LrState::Active;
        Some(lr.intid)
    }

    /// The guest ends an interrupt, dropping its priority and deactivating it at once.
    pub fn guest_end(&self, intid: u32) {
        let mut state = self.state.lock();
        let found =
            state.lrs.iter_mut().find(|lr| lr.intid == intid && lr.state.active()).map(|lr| {
                lr.state = LrState::new(lr.state.pending(), false);
                lr.hardware
            });
        match found {
            Some(Some(physical)) => state.calls.push(FakeCall::Deactivate(physical)),
            Some(None) => {}
            None => state.unmatched += 1,
        }
    }

    /// Whether the virtual interface asks for the hypervisor now.
    pub fn maintenance(&self) -> bool {
        let state = self.state.lock();
        let control = state.control;
        let no_pending = !state.lrs.iter().any(|lr| lr.state.pending());
        let ended = state.lrs.iter().any(|lr| lr.eoi_maintenance && lr.state == LrState::Invalid);
        control.enable
            && (control.no_pending && no_pending
                || control.not_present && state.unmatched > 0
                || ended)
    }
}

impl Gic for FakeGic {
    fn version(&self) -> Version {
        self.version
    }
    fn init_cpu(&self, _core: usize, _mpidr: u64) -> Result<(), GicError> {
        Ok(())
    }
    fn acknowledge(&self) -> Option<Ack> {
        self.state.lock().pending.pop_front().map(Ack::from_raw)
    }
    fn priority_drop(&self, ack: Ack) {
        self.state.lock().calls.push(FakeCall::PriorityDrop(ack.intid()));
    }
    fn deactivate(&self, ack: Ack) {
        self.state.lock().calls.push(FakeCall::Deactivate(ack.intid()));
    }
    fn send_sgi(&self, core: usize, sgi: u32) {
        self.state.lock().calls.push(FakeCall::Sgi(core, sgi));
    }
    fn set_enabled(&self, intid: u32, enabled: bool) -> Result<(), GicError> {
        self.state.lock().calls.push(FakeCall::Enable(intid, enabled));
        Ok(())
    }
    fn configure(&self, _intid: u32, _trigger: Trigger, _priority: u8) -> Result<(), GicError> {
        Ok(())
    }
    fn clear(&self, intid: u32) -> Result<(), GicError> {
        self.state.lock().calls.push(FakeCall::Clear(intid));
        Ok(())
    }
    fn route(&self, spi: u32, core: usize) -> Result<(), GicError> {
        self.state.lock().calls.push(FakeCall::Route(spi, core));
        Ok(())
    }
    fn list_registers(&self) -> usize {
        self.state.lock().lrs.len()
    }
    fn read_lr(&self, index: usize) -> ListRegister {
        self.state.lock().lrs.get(index).copied().unwrap_or_default()
    }
    fn write_lr(&self, index: usize, lr: ListRegister) {
        if let Some(slot) = self.state.lock().lrs.get_mut(index) {
            *slot = lr;
        }
    }
    fn set_maintenance(&self, control: MaintenanceControl) {
        let mut state = self.state.lock();
        state.control = control;
        state.unmatched = 0;
    }
    fn unmatched_ends(&self) -> u32 {
        self.state.lock().unmatched
    }
    fn reset_virtual(&self) {
        let mut state = self.state.lock();
        state.lrs.fill(ListRegister::default());
        state.control = MaintenanceControl::default();
        state.unmatched = 0;
    }
}
