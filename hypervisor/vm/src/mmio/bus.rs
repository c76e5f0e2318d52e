//! The regions of a VM's emulated devices, in order of address.
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU8, Ordering};

use palisade_hal::Ipa;
use thiserror::Error;

use super::{Access, MmioDevice, Width};
use crate::vgic::MAX_VCPUS;

/// A region cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BusError {
    /// It is empty or wraps.
    #[error("the device region at {0} has no end")]
    BadRegion(Ipa),
    /// It overlaps another device.
    #[error("the device region at {0} overlaps another device")]
    Overlap(Ipa),
}

struct Region {
    start: u64,
    bytes: u64,
    device: Arc<dyn MmioDevice>,
}

/// A sorted table of device regions.
#[derive(Default)]
pub struct MmioBus {
    regions: Vec<Region>,
    /// Where each vCPU's last access was: it is looked at first.
    last: [AtomicU8; MAX_VCPUS],
}

impl MmioBus {
    /// Adds a device at `start`, for `bytes` bytes.
    ///
    /// # Errors
    /// When the region is empty, wraps, or overlaps one that is there.
    pub fn add(
        &mut self,
        start: Ipa,
        bytes: u64,
        device: Arc<dyn MmioDevice>,
    ) -> Result<(), BusError> {
        let at = start.get();
        let end =
            at.checked_add(bytes).filter(|&end| end > at).ok_or(BusError::BadRegion(start))?;
        let place = self.regions.partition_point(|region| region.start < at);
        let before = place.checked_sub(1).and_then(|index| self.regions.get(index));
        if before.is_some_and(|region| region.start + region.bytes > at)
            || self.regions.get(place).is_some_and(|region| region.start < end)
        {
            return Err(BusError::Overlap(start));
        }
        self.regions.insert(place, Region { start: at, bytes, device });
        Ok(())
    }

    /// The last region that starts at or before `at`, from now on looked at first.
    #[inline(never)]
    fn search(&self, vcpu: usize, at: u64) -> Option<&Region> {
        let after = self.regions.partition_point(|region| region.start <= at);
        let place = after.checked_sub(1)?;
        if let Ok(place) = place.try_into() {
            self.last[vcpu % MAX_VCPUS].store(place, Ordering::Relaxed);
        }
        self.regions.get(place)
    }

    /// The device at `at`, if the whole access lies inside its region and is aligned.
    #[inline]
    fn find(&self, vcpu: usize, at: Ipa, width: Width) -> Option<(&dyn MmioDevice, Access)> {
        let at = at.get();
        let hint = self.last[vcpu % MAX_VCPUS].load(Ordering::Relaxed);
        let within = |region: &&Region| at.wrapping_sub(region.start) < region.bytes;
        let region = match self.regions.get(usize::from(hint)).filter(within) {
            Some(region) => region,
            None => self.search(vcpu, at)?,
        };
        // Below the region's size for the hint, and for what the search found unless nothing fits.
        let offset = at.wrapping_sub(region.start);
        let fits = region.bytes.checked_sub(width.bytes()).is_some_and(|last| offset <= last);
        (fits && at.is_multiple_of(width.bytes()))
            .then_some((&*region.device, Access { vcpu, offset, width }))
    }

    /// Whether a device has a register at `at`.
    pub fn is_device(&self, at: Ipa) -> bool {
        self.holds(at, Width::Bits8)
    }

    /// Whether a device takes an access of this width at `at`: all of it, aligned.
    pub fn holds(&self, at: Ipa, width: Width) -> bool {
        self.find(0, at, width).is_some()
    }

    /// A load; None when no device answers there.
    #[inline]
    pub fn read(&self, vcpu: usize, at: Ipa, width: Width) -> Option<u64> {
        let (device, access) = self.find(vcpu, at, width)?;
        Some(device.read(access) & width.mask())
    }

    /// A store; false when no device answers there.
    #[inline]
    pub fn write(&self, vcpu: usize, at: Ipa, width: Width, value: u64) -> bool {
        let Some((device, access)) = self.find(vcpu, at, width) else { return false };
        device.write(access, value & width.mask());
        true
    }
}

#[cfg(test)]
mod tests {
    use palisade_hal::lock::{Mutex, Rank};

    use super::*;

    struct Echo(Mutex<Vec<(Access, u64)>>);

    impl MmioDevice for Echo {
        fn read(&self, access: Access) -> u64 {
            !access.offset
        }
        fn write(&self, access: Access, value: u64) {
            self.0.lock().push((access, value));
        }
    }

    #[test]
    fn an_access_reaches_the_device_that_holds_all_of_it() {
        let echo = Arc::new(Echo(Mutex::new(Rank::Fake, Vec::new())));
        let mut bus = MmioBus::default();
        bus.add(Ipa::new(0x2000), 0x1000, echo.clone()).unwrap();
        bus.add(Ipa::new(0x1000), 0x1000, echo.clone()).unwrap();
        bus.add(Ipa::new(0x8000), 6, echo.clone()).unwrap();
        assert_eq!(bus.read(0, Ipa::new(0x1ffe), Width::Bits16), Some(0xf001));
        assert_eq!(bus.read(0, Ipa::new(0x2000), Width::Bits32), Some(0xffff_ffff));
        assert_eq!(bus.read(0, Ipa::new(0x1000), Width::Bits32), Some(0xffff_ffff), "and back");
        assert_eq!(bus.read(0, Ipa::new(0x0fff), Width::Bits8), None);
        assert_eq!(bus.read(0, Ipa::new(0x1001), Width::Bits16), None, "misaligned");
        assert_eq!(bus.read(0, Ipa::new(0x8004), Width::Bits32), None, "reaches past the end");
        assert!(bus.write(3, Ipa::new(0x8004), Width::Bits16, 0x1_2345));
        let access = Access { vcpu: 3, offset: 4, width: Width::Bits16 };
        assert_eq!(*echo.0.lock(), [(access, 0x2345)]);
    }

    #[test]
    fn regions_neither_overlap_nor_wrap() {
        let echo = Arc::new(Echo(Mutex::new(Rank::Fake, Vec::new())));
        let mut bus = MmioBus::default();
        bus.add(Ipa::new(0x2000), 0x1000, echo.clone()).unwrap();
        let mut add = |at, bytes| bus.add(Ipa::new(at), bytes, echo.clone());
        assert_eq!(add(0x2fff, 1), Err(BusError::Overlap(Ipa::new(0x2fff))));
        assert_eq!(add(0x1000, 0x1001), Err(BusError::Overlap(Ipa::new(0x1000))));
        assert_eq!(add(0x4000, 0), Err(BusError::BadRegion(Ipa::new(0x4000))));
        assert_eq!(add(u64::MAX, 2), Err(BusError::BadRegion(Ipa::new(u64::MAX))));
        assert_eq!(add(0x3000, 0x1000), Ok(()));
    }
}
