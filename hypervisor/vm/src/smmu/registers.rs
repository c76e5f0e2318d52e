//! The registers of the command half (§6.3), 32 bits at a time.

use palisade_spec::register;

use super::backend::Backend;
use super::control::VirtualSmmu;
use super::events::{BASE_BITS, Events, set_half};

/// Whether everything that the guest asked for is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// It is.
    Done,
    /// The exit's budget is spent: [`VirtualSmmu::advance`] goes on, once interrupts were taken.
    Again,
}

const AFTER: u64 = 4;

impl VirtualSmmu {
    /// Reads `bytes` (4 or 8) at `offset`; other widths read zero (§6.2).
    pub fn read(&self, offset: u64, bytes: u64, events: &Events) -> u64 {
        match bytes {
            4 => u64::from(self.word(offset, events)),
            8 => {
                let high = self.word(offset.saturating_add(AFTER), events);
                u64::from(self.word(offset, events)) | u64::from(high) << 32
            }
            _ => 0,
        }
    }

    fn word(&self, offset: u64, events: &Events) -> u32 {
        match offset {
            register::IDR0..=register::AIDR => self.identity.register(offset),
            register::CR0 | register::CR0ACK => self.cr0,
            register::CR1 => self.cr1,
            register::CR2 => self.cr2,
            register::GBPA => self.gbpa,
            register::STRTAB_BASE => self.table.base as u32,
            at if at == register::STRTAB_BASE + AFTER => (self.table.base >> 32) as u32,
            register::STRTAB_BASE_CFG => self.table.config,
            register::CMDQ_BASE => self.queue.base as u32,
            at if at == register::CMDQ_BASE + AFTER => (self.queue.base >> 32) as u32,
            register::CMDQ_PROD => self.queue.prod,
            register::CMDQ_CONS => self.queue.cons | self.cerror << register::CONS_ERR_SHIFT,
            at => events.lock().read(at).unwrap_or(0),
        }
    }

    /// Writes `bytes` (4 or 8) at `offset`; other widths are ignored.
    pub fn write(
        &mut self,
        offset: u64,
        bytes: u64,
        value: u64,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Progress {
        match bytes {
            4 => self.put(offset, value as u32, backend, events),
            8 => {
                let high = offset.saturating_add(AFTER);
                let first = self.put(offset, value as u32, backend, events);
                match self.put(high, (value >> 32) as u32, backend, events) {
                    Progress::Done => first,
                    Progress::Again => Progress::Again,
                }
            }
            _ => Progress::Done,
        }
    }

    fn put(
        &mut self,
        offset: u64,
        value: u32,
        backend: &mut dyn Backend,
        events: &Events,
    ) -> Progress {
        let (on, queue_on) = (self.cr0 & register::SMMUEN != 0, self.cr0 & register::CMDQEN != 0);
        match offset {
            register::CR0 => return self.set_cr0(value, backend, events),
            register::CR1 if !on => self.cr1 = value & 0xfff,
            register::CR2 if !on => self.cr2 = value & 0x7,
            register::GBPA => self.set_gbpa(value, backend, events),
            register::STRTAB_BASE if !on => set_half(&mut self.table.base, value, 0, BASE_BITS),
            at if at == register::STRTAB_BASE + AFTER && !on => {
                set_half(&mut self.table.base, value, 1, BASE_BITS);
            }
            register::STRTAB_BASE_CFG if !on => self.table.config = value & 0x3_07ff,
            register::CMDQ_BASE if !queue_on => set_half(&mut self.queue.base, value, 0, BASE_BITS),
            at if at == register::CMDQ_BASE + AFTER && !queue_on => {
                set_half(&mut self.queue.base, value, 1, BASE_BITS);
            }
            register::CMDQ_PROD => return self.set_prod(value, backend, events),
            register::CMDQ_CONS if !queue_on => {
                self.queue.cons = value & 0xf_ffff;
                self.cerror = value >> register::CONS_ERR_SHIFT & 0x7f;
            }
            at => {
                // An error that is acknowledged lets the command queue go on (§7.1).
                if events.lock().write(at, value) == Some(true) {
                    return self.advance(backend, events);
                }
            }
        }
        Progress::Done
    }
}
