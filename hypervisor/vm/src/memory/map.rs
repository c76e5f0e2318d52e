//! What is where in a VM's IPA space, as the hypervisor's own record.
use alloc::vec::Vec;

use palisade_hal::{Ipa, PhysAddr};

use super::error::MemoryError;

/// The granule: everything is whole pages.
pub const PAGE: u64 = 4096;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM: in both views.
    Ram,
    /// RAM that neither the guest nor its devices may write: in both views.
    ReadOnlyRam,
    /// Registers of a passed-through device: in the CPU view.
    Device,
    /// The doorbell of the translation service: in the DMA view.
    Doorbell,
    /// Context tables of the VM's devices: in the DMA view, read-only.
    Contexts,
}

impl Kind {
    /// Whether the region is memory of the guest.
    pub const fn is_ram(self) -> bool {
        matches!(self, Self::Ram | Self::ReadOnlyRam)
    }
}

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub ipa: Ipa,
    /// Bytes.
    pub bytes: u64,
    /// The memory or registers behind it.
    pub pa: PhysAddr,
    /// What it is.
    pub kind: Kind,
}

impl Region {
    /// One past the last address; regions never reach the end of the space.
    pub const fn end(&self) -> u64 {
        self.ipa.get() + self.bytes
    }

    const fn contains(&self, ipa: u64) -> bool {
        self.ipa.get() <= ipa && ipa < self.end()
    }
}

/// The regions, sorted; none overlaps another of the same view.
#[derive(Default)]
pub struct MemoryMap {
    regions: Vec<Region>,
}

impl MemoryMap {
    /// Checks that a range is whole pages below 2^`bits`.
    ///
    /// # Errors
    /// [`MemoryError::BadRange`].
    pub fn check(ipa: Ipa, bytes: u64, bits: u8) -> Result<(), MemoryError> {
        let end = ipa.get().checked_add(bytes);
        let inside = end.is_some_and(|end| end <= 1 << bits);
        match inside && bytes > 0 && (ipa.get() | bytes).is_multiple_of(PAGE) {
            true => Ok(()),
            false => Err(MemoryError::BadRange(ipa, bytes)),
        }
    }

    /// Adds a region.
    ///
    /// # Errors
    /// [`MemoryError::Overlap`].
    pub fn add(&mut self, region: Region) -> Result<(), MemoryError> {
        let place = self.regions.partition_point(|other| other.ipa < region.ipa);
        let before = place.checked_sub(1).and_then(|index| self.regions.get(index));
        if before.is_some_and(|other| other.end() > region.ipa.get())
            || self.regions.get(place).is_some_and(|other| other.ipa.get() < region.end())
        {
            return Err(MemoryError::Overlap(region.ipa));
        }
        self.regions.insert(place, region);
        Ok(())
    }

    /// The first free place of `bytes` bytes, aligned to `align` (a power of two), in a window.
    pub fn gap(&self, window: (u64, u64), bytes: u64, align: u64) -> Option<Ipa> {
        let (start, length) = window;
        let end = start.checked_add(length)?;
        let up = |at: u64| at.checked_next_multiple_of(align);
        let mut at = up(start)?;
        for region in self.regions.iter().filter(|region| region.end() > start) {
            if at.checked_add(bytes)? <= region.ipa.get() {
                break;
            }
            at = at.max(up(region.end())?);
        }
        (at.checked_add(bytes)? <= end).then_some(Ipa::new(at))
    }

    /// Removes exactly this region.
    pub fn remove(&mut self, ipa: Ipa, bytes: u64, kind: Kind) -> Option<Region> {
        let at = self
            .regions
            .iter()
            .position(|region| (region.ipa, region.bytes, region.kind) == (ipa, bytes, kind))?;
        Some(self.regions.remove(at))
    }

    /// The region that holds an address.
    pub fn find(&self, ipa: Ipa) -> Option<&Region> {
        let place = self.regions.partition_point(|region| region.ipa <= ipa).checked_sub(1)?;
        self.regions.get(place).filter(|region| region.contains(ipa.get()))
    }

    /// All regions, by address.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }
}
