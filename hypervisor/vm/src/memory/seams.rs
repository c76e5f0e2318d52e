//! What other rooms ask of a VM's memory.
use palisade_hal::{Iova, Ipa, PhysAddr};
use palisade_iommu::{ContextView, DriverError};
use palisade_pgtable::{Error as TableError, Gather, Prot};

use super::{
    error::MemoryError,
    guest::GuestMemory,
    map::{Kind, Region},
};
use crate::{
    hypercall::{GuestRam, Kept, OutsideRam},
    layout,
    pci::BarMap,
};

impl BarMap for GuestMemory {
    fn map(&self, ipa: Ipa, pa: PhysAddr, bytes: u64) -> bool {
        self.map_device(ipa, pa, bytes).is_ok()
    }

    fn unmap(&self, ipa: Ipa, bytes: u64) {
        if let Err(error) = self.unmap_device(ipa, bytes) {
            log::error!("unmapping a BAR: {error}");
        }
    }
}

impl GuestRam for GuestMemory {
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        self.is_ram(start, bytes)
    }

    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam> {
        match GuestMemory::read(self, start, to) {
            true => Ok(()),
            false => Err(OutsideRam(start)),
        }
    }

    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam> {
        // Nothing is written unless all of it can be, and never what the guest may not write.
        match self.is_writable(start, from.len() as u64) && GuestMemory::write(self, start, from) {
            true => Ok(()),
            false => Err(OutsideRam(start)),
        }
    }

    fn give_up(&self, start: Ipa, bytes: u64) -> Result<(), Kept> {
        GuestMemory::give_up(self, start, bytes).map_err(Kept::from)
    }
}

impl From<MemoryError> for Kept {
    fn from(error: MemoryError) -> Self {
        match error {
            MemoryError::NotMapped(ipa) | MemoryError::BadRange(ipa, _) => OutsideRam(ipa).into(),
            MemoryError::Tlb(_) | MemoryError::Table(TableError::Tlb(_)) => Self::Hardware,
            _ => Self::NoMemory,
        }
    }
}

impl ContextView for GuestMemory {
    fn publish(&self, pa: PhysAddr, bytes: usize, align: usize) -> Result<u64, DriverError> {
        let bytes = bytes as u64;
        let window = (layout::CONTEXTS, layout::CONTEXTS_BYTES);
        let mut guard = self.lock();
        let inner = guard.as_mut().ok_or(DriverError::NoMemory)?;
        let align = (align as u64).next_power_of_two().max(4096);
        let ipa = inner.map.gap(window, bytes, align).ok_or(DriverError::NoMemory)?;
        let region = Region { ipa, bytes, pa, kind: Kind::Contexts };
        inner.map.add(region).map_err(|_| DriverError::NoMemory)?;
        let prot = Prot::READ | Prot::CACHE;
        if inner.dma.map_range(Iova::new(ipa.get()), pa, bytes, prot).is_err() {
            inner.map.remove(ipa, bytes, Kind::Contexts);
            return Err(DriverError::NoMemory);
        }
        Ok(ipa.get())
    }

    fn withdraw(&self, fetch: u64, bytes: usize) -> Result<(), DriverError> {
        let (ipa, bytes) = (Ipa::new(fetch), bytes as u64);
        let mut guard = self.lock();
        // Torn down: nothing of it is anywhere.
        let Some(inner) = guard.as_mut() else { return Ok(()) };
        if !inner
            .map
            .regions()
            .iter()
            .any(|region| (region.ipa, region.bytes, region.kind) == (ipa, bytes, Kind::Contexts))
        {
            return Ok(());
        }
        let tlb = self.tlb();
        let mut gather = Gather::new(&tlb);
        let unmapped = inner.dma.unmap_range(Iova::new(fetch), bytes, &mut gather);
        // Until everybody forgot, nothing else may stand at this address.
        let forgotten = self.finish(gather).is_ok() && unmapped.is_ok();
        if !forgotten {
            return Err(DriverError::InvalidationTimeout);
        }
        inner.map.remove(ipa, bytes, Kind::Contexts);
        Ok(())
    }
}
