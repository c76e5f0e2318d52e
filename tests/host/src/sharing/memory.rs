//! The memory of one VM: its RAM for the guest interface, its DMA view for devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_hal::{Ipa, PhysAddr};
use palisade_iommu::{ContextView, DriverError};
use palisade_mem::{Block, Frames, Owner, Use};
use palisade_pgtable::PageTable;
use palisade_vm::hypercall::{GuestRam, Kept, OutsideRam};

use crate::ledger::Page;
use crate::tables::{self, Users};

/// Where a VM's pages for tables and for its fault ring are.
pub const TABLES: u64 = 0x4000_0000;
/// Where a VM's pages for data are.
pub const DATA: u64 = 0x5000_0000;
/// How many.
pub const DATA_PAGES: u32 = 16;
/// An IPA that no VM has.
pub const OUTSIDE: u64 = 0x6000_0000;
/// Where context tables are shown to the SMMU.
const WINDOW: u64 = 0x7000_0000;

/// RAM that holds tables: one frame per page.
pub struct Ram {
    frames: Arc<Frames>,
    owner: Owner,
    pages: Vec<Block>,
    lost: Mutex<BTreeSet<u64>>,
    /// Another vCPU's stores, each right after the hypervisor's next load of its address.
    ambushes: Mutex<Vec<(u64, u64)>>,
}

impl Ram {
    pub fn new(frames: &Arc<Frames>, owner: Owner, count: usize) -> Option<Self> {
        let page = |_| frames.alloc_zeroed(0, Use::Guest, owner).ok();
        let pages = (0..count).map(page).collect::<Option<Vec<_>>>()?;
        Some(Self {
            frames: frames.clone(),
            owner,
            pages,
            lost: Mutex::default(),
            ambushes: Mutex::default(),
        })
    }

    /// Every page with its IPA.
    pub fn pages(&self) -> impl Iterator<Item = (u64, PhysAddr)> {
        let ipa = |index: usize| TABLES + index as u64 * 0x1000;
        self.pages.iter().enumerate().map(move |(index, page)| (ipa(index), page.start()))
    }

    /// The hypervisor's next load of the word at `ipa` is followed by this store of the guest.
    pub fn ambush(&self, ipa: u64, word: u64) {
        self.ambushes.lock().unwrap_or_else(PoisonError::into_inner).push((ipa, word));
    }

    /// How many have not come to their load.
    pub fn ambushes(&self) -> usize {
        self.ambushes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The VM gives up the page at `ipa`, or has it back.
    pub fn lose(&self, ipa: u64, lost: bool) {
        let mut set = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let page = (ipa - TABLES) / 0x1000;
        if lost {
            set.insert(page)
        } else {
            set.remove(&page)
        };
    }

    pub fn into_pages(self) -> Vec<Block> {
        self.pages
    }

    fn pa(&self, start: Ipa, bytes: usize) -> Result<PhysAddr, OutsideRam> {
        let offset = start.get().checked_sub(TABLES).ok_or(OutsideRam(start))?;
        let page = self.pages.get((offset / 0x1000) as usize).ok_or(OutsideRam(start))?;
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if offset % 0x1000 + bytes as u64 > 0x1000 || lost.contains(&(offset / 0x1000)) {
            return Err(OutsideRam(start));
        }
        page.start().checked_add(offset % 0x1000).ok_or(OutsideRam(start))
    }
}

impl GuestRam for Ram {
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| self.pa(start, bytes).is_ok())
    }

    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam> {
        let pa = self.pa(start, to.len())?;
        self.frames.copy_from_guest(pa, to, self.owner).map_err(|_| OutsideRam(start))?;
        let read = start.get()..start.get() + to.len() as u64;
        let mut ambushes = self.ambushes.lock().unwrap_or_else(PoisonError::into_inner);
        let due: Vec<_> = ambushes.extract_if(.., |(at, _)| read.contains(at)).collect();
        drop(ambushes);
        due.iter().try_for_each(|(at, word)| self.write(Ipa::new(*at), &word.to_le_bytes()))
    }

    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam> {
        let pa = self.pa(start, from.len())?;
        self.frames.copy_to_guest(pa, from, self.owner).map_err(|_| OutsideRam(start))
    }
    // Its tables are somebody else's test.
    fn give_up(&self, start: Ipa, _bytes: u64) -> Result<(), Kept> {
        Err(OutsideRam(start).into())
    }
}

struct Tables {
    table: Box<dyn PageTable>,
    shown: BTreeMap<u64, usize>,
}

/// The DMA view of a VM.
pub struct View {
    frames: Arc<Frames>,
    pub users: Users,
    tables: Mutex<Tables>,
}

impl View {
    pub fn new(frames: &Arc<Frames>, table: Box<dyn PageTable>, users: Users) -> Self {
        let tables = Mutex::new(Tables { table, shown: BTreeMap::new() });
        Self { frames: frames.clone(), users, tables }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn map(&self, ipa: u64, pa: u64) -> Result<(), String> {
        let to = Page { pa, writable: true };
        let mapped = tables::map(&mut *self.lock().table, ipa, 0x1000, to);
        mapped.map_err(|error| format!("{error:?}"))
    }

    pub fn unmap(&self, ipa: u64) -> Result<(), String> {
        let table = &mut *self.lock().table;
        tables::unmap(table, &self.frames, &self.users, ipa, 0x1000)
            .map_err(|error| format!("{error:?}"))
    }

    pub fn destroy(self) -> Result<(), String> {
        let table = self.tables.into_inner().unwrap_or_else(PoisonError::into_inner).table;
        tables::destroy(table, &self.frames, &self.users).map_err(|error| format!("{error:?}"))
    }

    pub fn shown(&self) -> usize {
        self.lock().shown.len()
    }
}

impl ContextView for View {
    fn publish(&self, pa: PhysAddr, bytes: usize, align: usize) -> Result<u64, DriverError> {
        let tables = &mut *self.lock();
        let last = tables.shown.last_key_value();
        let end = last.map_or(WINDOW, |(start, bytes)| start + *bytes as u64);
        let start = end.next_multiple_of(align.max(0x1000) as u64);
        let to = Page { pa: pa.get(), writable: false };
        tables::map(&mut *tables.table, start, bytes as u64, to)
            .map_err(|_| DriverError::NoMemory)?;
        tables.shown.insert(start, bytes);
        Ok(start)
    }

    fn withdraw(&self, fetch: u64, bytes: usize) -> Result<(), DriverError> {
        let tables = &mut *self.lock();
        tables.shown.remove(&fetch);
        tables::unmap(&mut *tables.table, &self.frames, &self.users, fetch, bytes as u64)
            .map_err(|_| DriverError::InvalidationTimeout)
    }
}
