//! Stretches that are mapped by one block or one contiguous run, and what becomes of them.

use crate::ledger::Page;
use crate::tables::{self, Refusal};
use crate::world::{Trouble, World};

/// One that is mapped by a block, and by a contiguous run.
pub(crate) const EXTENTS: [Extent; 2] = [
    Extent {
        start: 0x5000_0000,
        bytes: 0x20_0000,
        probes: [0x5000_0000, 0x5000_1000, 0x501f_f000],
    },
    Extent { start: 0x6000_0000, bytes: 0x1_0000, probes: [0x6000_0000, 0x6000_1000, 0x6000_f000] },
];

pub(crate) struct Extent {
    start: u64,
    bytes: u64,
    /// The pages that devices try.
    pub probes: [u64; 3],
}

/// Where the memory behind extents begins; one of each at a time.
pub(crate) const EXTENT_RAM: u64 = 0x1_4000_0000;
pub(crate) const EXTENT_STRIDE: u64 = 0x20_0000;

impl World {
    pub(crate) fn map_extent(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("map");
        if self.spaces.is_empty() || self.extent_ram.is_empty() {
            return Ok(());
        }
        let space = self.rng.index(self.spaces.len());
        let which = self.rng.index(EXTENTS.len());
        let space = &mut self.spaces[space];
        if space.extents.contains_key(&which) {
            return Ok(());
        }
        let Some(pa) = self.extent_ram.pop() else { return Ok(()) };
        let (number, extent) = (space.number, &EXTENTS[which]);
        let to = Page { pa, writable: true };
        let at = |probe: u64| Page { pa: pa + (probe - extent.start), ..to };
        self.machine.with_ledger(|ledger| {
            for probe in extent.probes {
                ledger.begin_page(number, probe, Some(at(probe)));
            }
        });
        let mapped = tables::map(&mut *space.table, extent.start, extent.bytes, to);
        self.machine.with_ledger(|ledger| {
            for probe in extent.probes {
                ledger.end_page(number, probe, mapped.is_ok().then(|| at(probe)));
            }
        });
        match mapped {
            Ok(()) => {
                space.extents.insert(which, to);
                Ok(())
            }
            Err(error) => {
                self.extent_ram.push(pa);
                Self::refused(Refusal::Table(error))
            }
        }
    }

    fn an_extent(&mut self) -> Option<(usize, usize)> {
        let space = self.rng.index(self.spaces.len());
        let held: Vec<usize> = self.spaces.get(space)?.extents.keys().copied().collect();
        let which = *held.get(self.rng.index(held.len()))?;
        Some((space, which))
    }

    pub(crate) fn unmap_extent(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("unmap");
        let Some((space, which)) = self.an_extent() else { return Ok(()) };
        let space = &mut self.spaces[space];
        let (number, extent) = (space.number, &EXTENTS[which]);
        self.machine.with_ledger(|ledger| {
            for probe in extent.probes {
                ledger.begin_page(number, probe, None);
            }
        });
        let table = &mut *space.table;
        let done = tables::unmap(table, &self.frames, &space.users, extent.start, extent.bytes);
        if let Err(refusal) = done {
            return Self::refused(refusal);
        }
        self.machine.with_ledger(|ledger| {
            for probe in extent.probes {
                ledger.end_page(number, probe, None);
            }
        });
        self.extent_ram.extend(space.extents.remove(&which).map(|page| page.pa));
        Ok(())
    }

    /// Takes one page out of an extent: a block or a run is split.
    pub(crate) fn punch(&mut self) -> Result<(), Trouble> {
        self.machine.set_during("split");
        let Some((space, which)) = self.an_extent() else { return Ok(()) };
        let space = &mut self.spaces[space];
        let (number, extent) = (space.number, &EXTENTS[which]);
        let [first, victim, last] = extent.probes;
        let Some(to) = space.extents.get(&which).copied() else { return Ok(()) };
        let at = |probe: u64| Page { pa: to.pa + (probe - extent.start), ..to };
        let in_place = self.shape.in_place;
        self.machine.with_ledger(|ledger| {
            ledger.begin_page(number, victim, None);
            if !in_place {
                ledger.begin_page(number, first, None);
                ledger.begin_page(number, last, None);
            }
        });
        let table = &mut *space.table;
        let done = tables::unmap(table, &self.frames, &space.users, victim, 0x1000);
        if let Err(refusal) = done {
            self.machine.with_ledger(|ledger| {
                ledger.end_page(number, first, Some(at(first)));
                ledger.end_page(number, last, Some(at(last)));
            });
            return Self::refused(refusal);
        }
        self.machine.with_ledger(|ledger| {
            ledger.end_page(number, victim, None);
            ledger.end_page(number, first, Some(at(first)));
            ledger.end_page(number, last, Some(at(last)));
        });
        Ok(())
    }
}
