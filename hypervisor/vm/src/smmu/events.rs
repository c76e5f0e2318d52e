//! The guest's event queue, its global errors, and the interrupts of both (§7).
//!
//! This half of a virtual SMMU has a lock of its own, under which nothing is waited for: the pump of
//! the physical event queues takes it, guest memory and nothing else.

use palisade_hal::Ipa;
use palisade_hal::lock::{Mutex, Rank};
use palisade_spec::register;

use super::identity::Identity;
use super::queue::Queue;

/// log2 of a record's bytes.
const RECORD: u32 = 5;

/// What the guest is to notice once its memory was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal {
    /// The event queue was empty and is not any more.
    pub event: bool,
    /// GERROR changed.
    pub error: bool,
}

/// The message that stands for an interrupt (§3.18.1); address 0 means the wired one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message {
    pub(super) address: u64,
    pub(super) data: u32,
    attributes: u32,
}

/// The event half of a virtual SMMU behind its lock.
pub type Events = Mutex<EventSide>;

/// Event queue, global errors and interrupt control of a virtual SMMU.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventSide {
    identity: Identity,
    queue: Queue,
    /// CR0.EVENTQEN.
    enabled: bool,
    irq_ctrl: u32,
    gerror: u32,
    gerrorn: u32,
    error_message: Message,
    event_message: Message,
    injected: u64,
    lost: u64,
}

impl EventSide {
    /// As it is after a reset.
    pub fn new(identity: Identity) -> Self {
        Self { identity, ..Self::default() }
    }

    /// The same, behind its lock.
    pub fn locked(identity: Identity) -> Events {
        Mutex::new(Rank::VirtualSmmuEvents, Self::new(identity))
    }

    /// Records that reached the guest's queue, and those that found it full or off.
    pub fn counts(&self) -> (u64, u64) {
        (self.injected, self.lost)
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    fn most(&self) -> u32 {
        self.identity.event_log2()
    }

    /// Whether any of `bits` is active: GERROR and GERRORN differ (§7.5).
    pub(super) fn is_active(&self, bits: u32) -> bool {
        (self.gerror ^ self.gerrorn) & bits != 0
    }

    /// Makes an error active; one that is active already stays so.
    pub(super) fn raise(&mut self, bit: u32) -> Signal {
        let fresh = bit & !(self.gerror ^ self.gerrorn);
        self.gerror ^= fresh;
        let error = fresh != 0 && self.irq_ctrl & register::GERROR_IRQEN != 0;
        Signal { error, event: false }
    }

    /// Whether the two wired interrupts were replaced by messages.
    pub(super) fn messages(&self) -> (Message, Message) {
        (self.event_message, self.error_message)
    }

    /// Appends a record; `write` puts it into guest memory and returns false where there is none.
    pub fn push(&mut self, record: &[u64; 4], write: impl FnOnce(Ipa, &[u8]) -> bool) -> Signal {
        if !self.enabled || self.is_active(register::EVENTQ_ABT_ERR) {
            self.lost = self.lost.saturating_add(1);
            return Signal::default();
        }
        let most = self.most();
        if self.queue.is_full(most) {
            self.lost = self.lost.saturating_add(1);
            // OVFLG is toggled once until the guest acknowledges it (§7.4).
            if (self.queue.prod ^ self.queue.cons) & register::OVERFLOW == 0 {
                self.queue.prod ^= register::OVERFLOW;
            }
            return Signal::default();
        }
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(record) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let was_empty = self.queue.is_empty(most);
        if !write(self.queue.entry(self.queue.prod, RECORD, most), &bytes) {
            self.lost = self.lost.saturating_add(1);
            return self.raise(register::EVENTQ_ABT_ERR);
        }
        let flag = self.queue.prod & register::OVERFLOW;
        self.queue.prod = self.queue.next(self.queue.prod, most) | flag;
        self.injected = self.injected.saturating_add(1);
        let event = was_empty && self.irq_ctrl & register::EVENTQ_IRQEN != 0;
        Signal { event, error: false }
    }

    /// Reads 32 bits at `offset`; `None` if the register is not of this half.
    pub(super) fn read(&self, offset: u64) -> Option<u32> {
        let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
        const AFTER: u64 = 4;
        Some(match offset {
            register::IRQ_CTRL | register::IRQ_CTRLACK => self.irq_ctrl,
            register::GERROR => self.gerror,
            register::GERRORN => self.gerrorn,
            register::GERROR_IRQ_CFG0 => low(self.error_message.address),
            at if at == register::GERROR_IRQ_CFG0 + AFTER => high(self.error_message.address),
            register::GERROR_IRQ_CFG1 => self.error_message.data,
            register::GERROR_IRQ_CFG2 => self.error_message.attributes,
            register::EVENTQ_BASE => low(self.queue.base),
            at if at == register::EVENTQ_BASE + AFTER => high(self.queue.base),
            register::EVENTQ_IRQ_CFG0 => low(self.event_message.address),
            at if at == register::EVENTQ_IRQ_CFG0 + AFTER => high(self.event_message.address),
            register::EVENTQ_IRQ_CFG1 => self.event_message.data,
            register::EVENTQ_IRQ_CFG2 => self.event_message.attributes,
            register::EVENTQ_PROD => self.queue.prod,
            register::EVENTQ_CONS => self.queue.cons,
            _ => return None,
        })
    }

    /// Writes 32 bits; `None` if the register is not of this half, else whether an error that was
    /// active is acknowledged now.
    pub(super) fn write(&mut self, offset: u64, value: u32) -> Option<bool> {
        const AFTER: u64 = 4;
        // Where messages go is fixed while their interrupt is on (§6.3.20, §6.3.31).
        let errors_off = self.irq_ctrl & register::GERROR_IRQEN == 0 && self.identity.messages();
        let events_off = self.irq_ctrl & register::EVENTQ_IRQEN == 0 && self.identity.messages();
        match offset {
            register::IRQ_CTRL => {
                self.irq_ctrl = value & (register::GERROR_IRQEN | register::EVENTQ_IRQEN);
            }
            register::GERRORN => {
                let before = self.gerror ^ self.gerrorn;
                // Only active errors can be acknowledged; a bit that is none keeps its value, so
                // that no toggle makes an error out of nothing (§6.3.19).
                self.gerrorn ^= (self.gerrorn ^ value) & before;
                return Some(before & !(self.gerror ^ self.gerrorn) != 0);
            }
            register::GERROR_IRQ_CFG0 if errors_off => {
                set_half(&mut self.error_message.address, value, 0, MESSAGE);
            }
            at if at == register::GERROR_IRQ_CFG0 + AFTER && errors_off => {
                set_half(&mut self.error_message.address, value, 1, MESSAGE);
            }
            register::GERROR_IRQ_CFG1 if errors_off => self.error_message.data = value,
            register::GERROR_IRQ_CFG2 if errors_off => self.error_message.attributes = value & 0x3f,
            register::EVENTQ_BASE if !self.enabled => {
                set_half(&mut self.queue.base, value, 0, BASE)
            }
            at if at == register::EVENTQ_BASE + AFTER && !self.enabled => {
                set_half(&mut self.queue.base, value, 1, BASE);
            }
            register::EVENTQ_IRQ_CFG0 if events_off => {
                set_half(&mut self.event_message.address, value, 0, MESSAGE);
            }
            at if at == register::EVENTQ_IRQ_CFG0 + AFTER && events_off => {
                set_half(&mut self.event_message.address, value, 1, MESSAGE);
            }
            register::EVENTQ_IRQ_CFG1 if events_off => self.event_message.data = value,
            register::EVENTQ_IRQ_CFG2 if events_off => self.event_message.attributes = value & 0x3f,
            register::EVENTQ_PROD if !self.enabled => self.queue.prod = self.index(value),
            register::EVENTQ_CONS => self.queue.cons = self.index(value),
            register::IRQ_CTRLACK
            | register::GERROR
            | register::GERROR_IRQ_CFG0..=register::GERROR_IRQ_CFG2
            | register::EVENTQ_BASE..=register::EVENTQ_IRQ_CFG2
            | register::EVENTQ_PROD => {}
            _ => return None,
        }
        Some(false)
    }

    /// An index register: index, wrap bit and overflow flag; the rest is RES0.
    fn index(&self, value: u32) -> u32 {
        value & (0xf_ffff | register::OVERFLOW)
    }
}

/// Bits of a base register: the allocation hint, the address, the size.
const BASE: u64 = 1 << 62 | 0x000f_ffff_ffff_ffff;
/// Bits of a message's address.
const MESSAGE: u64 = 0x000f_ffff_ffff_fffc;

/// Writes one half of a 64-bit register.
pub(super) fn set_half(register: &mut u64, value: u32, half: u32, mask: u64) {
    let shift = 32 * half;
    let keep = *register & !(0xffff_ffff << shift);
    *register = (keep | u64::from(value) << shift) & mask;
}

/// Bits of CMDQ_BASE and STRTAB_BASE.
pub(super) const BASE_BITS: u64 = BASE;
