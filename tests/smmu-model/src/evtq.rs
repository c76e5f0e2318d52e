//! The event queue (7.2 to 7.4) and global errors (7.5).

use crate::event::Event;
use crate::model::{Interrupt, Model};
use crate::queue::Queue;
use crate::regs::{
    EVENTQ_ABT_ERR, EVENTQEN, MSI_EVENTQ_ABT_ERR, MSI_GERROR_ABT_ERR, MSI_PRIQ_ABT_ERR,
};

/// OVFLG and OVACKFLG (6.3.29, 6.3.30).
const OVERFLOW: u32 = 1 << 31;

impl Model {
    /// An event arises. It is written later, and before the next CMD_SYNC completes.
    pub(crate) fn record(&mut self, event: Event, merge: bool) {
        if merge && event.stall.is_none() && self.events.back() == Some(&event) {
            return;
        }
        self.events.push_back(event);
        // Only so many wait inside.
        if self.events.len() > 16 {
            self.write_one_event();
        }
    }

    /// An event that the model itself has no cause for: F_UUT, E_PAGE_REQUEST, conflicts.
    pub fn raise_event(&mut self, event: Event) {
        self.record(event, false);
    }

    /// Writes the oldest event, or loses it where the queue is not writable (7.2.1).
    pub(crate) fn write_one_event(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        let enabled = self.regs.cr0ack & EVENTQEN != 0;
        let aborted = self.regs.active_errors() & EVENTQ_ABT_ERR != 0;
        let log2 = self.regs.evtq.log2(self.features.evtq_log2);
        let plain = Queue { prod: self.regs.evtq.prod & !OVERFLOW, ..self.regs.evtq };
        let full = plain.used(log2).is_none_or(|used| used >> log2 != 0);
        if !enabled || aborted || full {
            if event.stall.is_some() {
                // Stall records are never lost; they wait, and hold nothing else up.
                self.events.push_back(event);
            } else if enabled && !aborted {
                self.overflow();
            }
            return;
        }
        let address = plain.entry(plain.prod, log2, 5);
        let mut failed = std::mem::take(&mut self.injected.abort_event);
        for (i, word) in event.encode().into_iter().enumerate() {
            failed |= self.memory.write64(address + 8 * i as u64, word).is_err();
        }
        if failed {
            return self.raise_global_error(EVENTQ_ABT_ERR);
        }
        let was_empty = plain.used(log2) == Some(0);
        self.regs.evtq.prod = Queue::next(self.regs.evtq.prod, log2);
        self.counters.events += 1;
        if was_empty {
            self.signal(1, 4, Interrupt::EventQueue, MSI_EVENTQ_ABT_ERR);
        }
    }

    fn overflow(&mut self) {
        if (self.regs.evtq.prod ^ self.regs.evtq.cons) & OVERFLOW == 0 {
            self.regs.evtq.prod ^= OVERFLOW;
        }
    }

    /// Writes or loses every event that has arisen.
    pub(crate) fn flush_events(&mut self) {
        for _ in 0..self.events.len() {
            self.write_one_event();
        }
    }

    /// Activates a global error, unless it is active (7.5).
    pub(crate) fn raise_global_error(&mut self, error: u32) {
        if self.regs.active_errors() & error != 0 {
            return;
        }
        self.regs.gerror ^= error;
        if error != MSI_GERROR_ABT_ERR {
            self.signal(0, 1, Interrupt::GlobalError, MSI_GERROR_ABT_ERR);
        }
    }

    /// Sends interrupt `index`, if IRQ_CTRL's `enable` bit is set (3.18).
    pub(crate) fn signal(&mut self, index: usize, enable: u32, wire: Interrupt, failure: u32) {
        if self.regs.irq_ctrlack & enable == 0 {
            return;
        }
        let config = self.regs.interrupts[index];
        if !self.features.msi || config.address == 0 {
            return self.interrupts.push(wire);
        }
        let aborted = std::mem::take(&mut self.injected.abort_msi);
        if aborted || self.memory.write32(config.address, config.data).is_err() {
            self.raise_global_error(failure);
        }
    }

    pub(crate) const PRI_FAILURE: u32 = MSI_PRIQ_ABT_ERR;
}
