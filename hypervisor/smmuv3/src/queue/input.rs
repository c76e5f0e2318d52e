//! The queues the SMMU writes: events (§3.5.2, §7.2, §7.4) and PCIe page requests (§8).

use alloc::sync::Arc;

use palisade_hal::barrier;
use palisade_hal::mmio::{Mmio, Reg};
use palisade_iommu::DriverError;
use palisade_mem::Frames;

use crate::queue::ring::{Pointer, Ring};
use crate::regs::{self, OVERFLOW};
use crate::table::memory::{Reach, Table};

/// Which of the two queues, and so which registers and how long an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 32-byte event records.
    Event,
    /// 16-byte page requests.
    PageRequest,
}

impl Kind {
    const fn words(self) -> usize {
        match self {
            Self::Event => 4,
            Self::PageRequest => 2,
        }
    }

    const fn registers(self) -> (Reg<u64>, Reg<u32>, Reg<u32>) {
        match self {
            Self::Event => (regs::EVENTQ_BASE, regs::EVENTQ_PROD, regs::EVENTQ_CONS),
            Self::PageRequest => (regs::PRIQ_BASE, regs::PRIQ_PROD, regs::PRIQ_CONS),
        }
    }
}

/// What a drain found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Drain {
    /// Entries delivered.
    pub entries: usize,
    /// The SMMU had to drop entries since the last drain.
    pub overflowed: bool,
    /// The budget ended first.
    pub more: bool,
}

/// A queue that the SMMU produces and the driver consumes.
pub(crate) struct InputQueue {
    kind: Kind,
    table: Table,
    ring: Ring,
    cons: Pointer,
    /// OVACKFLG as last written: an overflow is active while OVFLG differs from it.
    acknowledged: u32,
}

impl InputQueue {
    /// A queue of 2^`log2` entries.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`].
    pub fn new(
        kind: Kind,
        frames: &Arc<Frames>,
        log2: u32,
        reach: Reach,
    ) -> Result<Self, DriverError> {
        let ring = Ring::new(log2);
        let bytes = u64::from(ring.entries()) * kind.words() as u64 * 8;
        let table = Table::new(frames, bytes, reach)?;
        Ok(Self { kind, table, ring, cons: Pointer::default(), acknowledged: 0 })
    }

    /// How many entries it has.
    pub fn entries(&self) -> u32 {
        self.ring.entries()
    }

    /// Gives the memory back; only before [`install`](Self::install).
    pub fn free(self) {
        self.table.free();
    }

    /// Tells the SMMU where it is; its enable in CR0 must be 0 (§6.3.29).
    pub fn install(&self, mmio: &Mmio) {
        self.table.expose();
        self.table.publish(0, (self.table.bytes() / 8) as usize);
        let (base, prod, cons) = self.kind.registers();
        let value = regs::BASE_ALLOCATE | self.table.pa().get() | u64::from(self.ring.log2());
        mmio.set(base, value);
        mmio.set(prod, 0);
        mmio.set(cons, 0);
    }

    /// Hands at most `budget` entries to `sink` and tells the SMMU that they are read.
    pub fn drain(&mut self, mmio: &Mmio, budget: usize, mut sink: impl FnMut(&[u64; 4])) -> Drain {
        let (_, prod_register, cons_register) = self.kind.registers();
        let mut drain = Drain::default();
        let mut prod = mmio.get(prod_register);
        loop {
            let Some(waiting) = self.ring.used(self.ring.pointer(prod), self.cons) else {
                // Only a broken SMMU shows this; catch up with it, and say that records are lost.
                self.cons = self.ring.pointer(prod);
                drain.overflowed = true;
                break;
            };
            let take = (waiting as usize).min(budget - drain.entries);
            if take == 0 {
                drain.more = waiting > 0;
                break;
            }
            for _ in 0..take {
                sink(&self.read());
                self.cons = self.ring.advance(self.cons, 1);
            }
            drain.entries += take;
            // Read before they are given back: the SMMU may write them anew as soon as CONS says so.
            barrier::dmb_oshld();
            // Free the entries before looking for more: a full queue drops what comes.
            mmio.set(cons_register, self.cons.get() | self.acknowledged);
            prod = mmio.get(prod_register);
        }
        // The acknowledgement comes last: until here the SMMU would only set the flag again.
        if (prod & OVERFLOW) != self.acknowledged {
            self.acknowledged = prod & OVERFLOW;
            drain.overflowed = true;
            mmio.set(cons_register, self.cons.get() | self.acknowledged);
        }
        drain
    }

    fn read(&self) -> [u64; 4] {
        let count = self.kind.words();
        let first = self.ring.index(self.cons) as usize * count;
        self.table.refresh(first, count);
        let mut words = [0; 4];
        for (at, word) in words.iter_mut().enumerate().take(count) {
            *word = self.table.load(first + at);
        }
        words
    }
}
