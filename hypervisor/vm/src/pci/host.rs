//! The host bridge: routes an access to the function it is for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_pci::Topology;
use spin::Mutex;

use super::function::{BarMap, Guest, VirtualFunction};
use crate::mmio::{Access, MmioDevice};

/// Extended configuration space starts here; a guest sees nothing of it.
const EXTENDED: u16 = 0x100;
/// Header Type, whose top bit says that the device has more functions.
const HEADER_TYPE: u16 = 0x0e;
const MULTI_FUNCTION: u32 = 0x80;

/// A function cannot be given to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PciError {
    /// Something of the guest's stands there already.
    #[error("two devices at guest address {0:#06x}")]
    Taken(u16),
    /// The device itself is at fault.
    #[error(transparent)]
    Device(#[from] palisade_pci::Error),
}

/// The virtual PCI Express host of a VM. It answers at [`ECAM_BASE`](super::ECAM_BASE).
///
/// Lock order: its lock before the VM's map.
pub struct PciHost {
    functions: Mutex<Vec<VirtualFunction>>,
    map: Arc<dyn BarMap>,
}

impl PciHost {
    /// A host without devices, whose BARs are mapped by `map`.
    pub fn new(map: Arc<dyn BarMap>) -> Self {
        Self { functions: Mutex::new(Vec::new()), map }
    }

    /// Puts a function on the guest's bus. It decodes nothing until the guest says so.
    ///
    /// # Errors
    /// The place is taken, the function is not there, or a BAR of it has no address.
    pub fn add(&self, topology: &Arc<Topology>, guest: Guest) -> Result<(), PciError> {
        let mut functions = self.functions.lock();
        if functions.iter().any(|other| other.guest.bdf == guest.bdf) {
            return Err(PciError::Taken(guest.bdf));
        }
        functions.push(VirtualFunction::new(topology.clone(), guest)?);
        Ok(())
    }

    /// Takes a function away: its BARs are in nobody's view when this returns. The device is as
    /// the guest left it otherwise.
    pub fn remove(&self, bdf: u16) {
        let mut functions = self.functions.lock();
        if let Some(index) = functions.iter().position(|function| function.guest.bdf == bdf) {
            functions.swap_remove(index).close(&*self.map);
        }
    }

    /// Puts every function back to what it was when it was added: nothing decoded, nothing
    /// mapped. The devices themselves are reset by
    /// [`Passthrough::reset`](crate::passthrough::Passthrough::reset).
    pub fn reset(&self) {
        for function in self.functions.lock().iter_mut() {
            function.power_on(&*self.map);
        }
    }

    /// Takes every function away.
    pub fn clear(&self) {
        for mut function in self.functions.lock().drain(..) {
            function.close(&*self.map);
        }
    }

    /// The functions, in no order.
    pub fn guests(&self) -> Vec<Guest> {
        self.functions.lock().iter().map(|function| function.guest).collect()
    }

    /// Where BARs are mapped now: first IPA and bytes.
    pub fn mapped(&self) -> Vec<(u64, u64)> {
        self.functions.lock().iter().flat_map(VirtualFunction::mapped).collect()
    }
}

/// Requester ID, register and bytes of an access; `None` for what configuration space does not
/// take: eight bytes at once.
fn decode(access: Access) -> Option<(u16, u16, u16)> {
    let bdf = u16::try_from(access.offset >> 12).ok()?;
    let register = (access.offset & 0xfff) as u16;
    let bytes = u16::try_from(access.width.bytes()).ok().filter(|bytes| *bytes <= 4)?;
    Some((bdf, register, bytes))
}

impl MmioDevice for PciHost {
    fn read(&self, access: Access) -> u64 {
        let Some((bdf, register, bytes)) = decode(access) else { return u64::MAX };
        let functions = self.functions.lock();
        let Some(function) = functions.iter().find(|function| function.guest.bdf == bdf) else {
            return u64::MAX;
        };
        if register >= EXTENDED {
            return 0;
        }
        let mut value = function.read(register, bytes);
        let offset = HEADER_TYPE.wrapping_sub(register);
        let sibling =
            |other: &VirtualFunction| other.guest.bdf & !7 == bdf & !7 && other.guest.bdf & 7 != 0;
        if offset < bytes && functions.iter().any(sibling) {
            value |= MULTI_FUNCTION << (8 * u32::from(offset));
        }
        value.into()
    }

    fn write(&self, access: Access, value: u64) {
        let Some((bdf, register, bytes)) = decode(access) else { return };
        if register >= EXTENDED {
            return;
        }
        let mut functions = self.functions.lock();
        if let Some(function) = functions.iter_mut().find(|function| function.guest.bdf == bdf) {
            function.write(register, bytes, (value & 0xffff_ffff) as u32, &*self.map);
        }
    }
}
