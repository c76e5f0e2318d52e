//! What answers in the windows of the PCI host where no BAR is mapped: nobody. A load then gets
//! all ones, as from a bus on which nothing claims it, and a store goes nowhere: a guest whose
//! device is taken away finds it gone, and does not crash over it.

use alloc::sync::Arc;

use palisade_hal::Ipa;

use super::layout::{WINDOW_IO, WINDOW32, WINDOW64};
use crate::Vm;
use crate::mmio::{Access, BusError, MmioDevice};

/// The windows between the BARs.
struct Nothing;

impl MmioDevice for Nothing {
    fn read(&self, _access: Access) -> u64 {
        u64::MAX
    }

    fn write(&self, _access: Access, _value: u64) {}
}

/// Puts nothing into all windows. Before the VM is shared.
///
/// # Errors
/// Something is there already.
pub fn open_windows(vm: &mut Vm) -> Result<(), BusError> {
    let nothing = Arc::new(Nothing);
    for (start, bytes) in [WINDOW32, WINDOW_IO, WINDOW64] {
        vm.add_device(Ipa::new(start), bytes, nothing.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mmio::{MmioBus, Width};

    #[test]
    fn loads_give_ones_and_stores_nothing_up_to_the_ends() {
        let mut bus = MmioBus::default();
        for (start, bytes) in [WINDOW32, WINDOW64, WINDOW_IO] {
            bus.add(Ipa::new(start), bytes, Arc::new(Nothing)).unwrap();
            let (first, last) = (Ipa::new(start), Ipa::new(start + bytes - 4));
            assert_eq!(bus.read(0, first, Width::Bits32), Some(0xffff_ffff));
            assert_eq!(bus.read(0, last, Width::Bits16), Some(0xffff));
            assert!(bus.write(0, last, Width::Bits32, 7));
            assert!(!bus.write(0, Ipa::new(start + bytes), Width::Bits32, 7));
        }
    }
}
