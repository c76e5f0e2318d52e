//! What the SMMU fetches without being asked (3.21.1, 4.2): allowed at any time, never reported.

use crate::model::Model;
use crate::regs::SMMUEN;
use crate::transaction::{Access, Request};
use crate::walk::Want;

impl Model {
    /// One speculative fetch, near something that was used lately.
    pub(crate) fn speculate(&mut self) {
        if self.regs.cr0ack & SMMUEN == 0 || self.injected.service_failure {
            return;
        }
        let recent = if self.recent.is_empty() || self.rng.percent(20) {
            let stream = self.rng.below(1 << self.features.sid_bits.min(6)) as u32;
            (stream, None, self.rng.below(1 << 20) << 12)
        } else {
            self.recent[self.rng.index(self.recent.len())]
        };
        let (stream, substream, address) = recent;
        if self.rng.percent(50) {
            self.start_ste_fetch(stream);
        } else {
            let page = self.rng.below(5) << 12;
            let near = address.wrapping_add(page).wrapping_sub(0x2000);
            self.prefetch_address(stream, substream, near);
        }
    }

    /// CMD_PREFETCH_CONFIG (4.2.1).
    pub(crate) fn prefetch_config(&mut self, stream: u32) {
        if self.regs.cr0ack & SMMUEN != 0 {
            self.start_ste_fetch(stream);
        }
    }

    /// CMD_PREFETCH_ADDR (4.2.2): what a transaction would fetch, and no event.
    pub(crate) fn prefetch_address(&mut self, stream: u32, substream: Option<u32>, address: u64) {
        if self.regs.cr0ack & SMMUEN == 0 {
            return;
        }
        let Ok(ste) = self.locate_ste(stream, true) else { return };
        if !ste.pass {
            return;
        }
        let request = Request::new(stream, substream, address, Access::Read);
        let want = Want { write: false, instruction: false, privileged: false, probe: true };
        // Whatever it runs into stays unreported: only transactions report (7.2).
        let _ = self.translate(&ste, &request, want, false);
    }
}
