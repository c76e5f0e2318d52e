//! How often guests came out, by cause.
use core::sync::atomic::{AtomicU32, Ordering};

use palisade_hal::guest::{Exit, ExitKind};

use crate::vgic::MAX_VCPUS;

/// Causes of exits, in the order of [`Counters::read`].
pub const CAUSES: [&str; 8] =
    ["irq", "wfx", "hypercall", "sysreg", "mmio", "fetch", "serror", "other"];

/// The cause of each exception class (ESR_EL2.EC; DDI 0487, D24.2.37).
const OF_CLASS: [u8; 64] = {
    let mut causes = [7; 64];
    causes[0x01] = 1;
    causes[0x16] = 2;
    causes[0x17] = 2;
    causes[0x18] = 3;
    causes[0x24] = 4;
    causes[0x20] = 5;
    causes
};

/// Counts of one vCPU: its own core alone changes them.
#[derive(Default)]
pub(crate) struct Row {
    exits: [AtomicU32; CAUSES.len()],
    quiet: AtomicU32,
}

/// Counts of one VM.
#[derive(Default)]
pub struct Counters {
    vcpus: [Row; MAX_VCPUS],
}

/// One more, by the only core that writes it; others read.
fn add(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl Row {
    /// Counts an exit of the vCPU, on its own core.
    #[inline]
    pub fn count(&self, exit: &Exit) {
        let cause = match exit.kind {
            ExitKind::Sync => OF_CLASS[(exit.esr >> 26 & 0x3f) as usize],
            ExitKind::Irq | ExitKind::Fiq => 0,
            ExitKind::SError => 6,
        };
        add(&self.exits[usize::from(cause & 7)]);
    }

    /// Counts an entry that left the interrupt controller as it was, on the vCPU's own core.
    #[inline]
    pub fn count_quiet(&self) {
        add(&self.quiet);
    }
}

impl Counters {
    /// Those of one vCPU.
    pub(crate) fn of(&self, vcpu: usize) -> &Row {
        &self.vcpus[vcpu % MAX_VCPUS]
    }

    /// How often vCPUs went in with nothing to do for their interrupt controller.
    pub fn quiet(&self) -> u32 {
        let all = self.vcpus.iter().map(|row| row.quiet.load(Ordering::Relaxed));
        all.fold(0, u32::wrapping_add)
    }

    /// The counts, named by [`CAUSES`].
    pub fn read(&self) -> [u32; CAUSES.len()] {
        core::array::from_fn(|cause| {
            let of = |row: &Row| row.exits.get(cause).map_or(0, |one| one.load(Ordering::Relaxed));
            self.vcpus.iter().map(of).fold(0, u32::wrapping_add)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_of_all_vcpus_add_up_by_cause() {
        let counters = Counters::default();
        let exit = |kind, class: u64| Exit { kind, esr: class << 26, far: 0, hpfar: 0 };
        let exits = [(ExitKind::Irq, 0x16), (ExitKind::Fiq, 0), (ExitKind::SError, 0)];
        let classes = [0x01, 0x16, 0x17, 0x18, 0x20, 0x24, 0x24, 0x3f, 0x00];
        for row in [0, MAX_VCPUS - 1].map(|vcpu| counters.of(vcpu)) {
            exits.iter().for_each(|&(kind, class)| row.count(&exit(kind, class)));
            classes.iter().for_each(|&class| row.count(&exit(ExitKind::Sync, class)));
            row.count_quiet();
        }
        assert_eq!(counters.read(), [2, 1, 2, 1, 2, 1, 1, 2].map(|one| 2 * one));
        assert_eq!(counters.quiet(), 2);
    }
}
