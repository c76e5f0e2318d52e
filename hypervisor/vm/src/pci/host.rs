//! The host bridge: routes an access to the function it is for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_hal::lock::{Mutex, Rank};
use palisade_pci::{Address, Topology};

use super::function::{BarMap, DeviceTlbs, Guest, VirtualFunction};
use super::layout::MAX_PORTS;
use super::port::RootPort;
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

/// What stands on the guest's buses.
#[derive(Default)]
struct Slots {
    functions: Vec<VirtualFunction>,
    /// One for every bus from 1 up to the last that has a function: a guest that numbers buses
    /// anew must find as many.
    ports: Vec<RootPort>,
}

impl Slots {
    fn is_taken(&self, bdf: u16) -> bool {
        self.functions.iter().any(|function| function.guest.bdf == bdf)
            || self.ports.iter().any(|port| port.bdf & !7 == bdf & !7)
    }

    /// Removes ports behind the last bus that has a function.
    fn prune(&mut self) {
        let buses = self.functions.iter().map(|function| bus(function.guest.bdf));
        let last = buses.filter(|bus| *bus <= MAX_PORTS).max().unwrap_or(0);
        self.ports.retain(|port| port.bus <= last);
    }

    /// The manifest's name for the function that the guest means by `bdf` now; `None` where it
    /// means none.
    fn home(&self, bdf: u16) -> Option<u16> {
        let named = bus(bdf);
        if named == 0 {
            return Some(bdf);
        }
        match self.ports.iter().find(|port| port.secondary() == named) {
            Some(port) => Some((u16::from(port.bus) << 8) | (bdf & 0xff)),
            // Behind no port: what is beyond the last one is where the manifest says.
            None => Some(bdf).filter(|_| named > MAX_PORTS),
        }
    }
}

/// The virtual PCI Express host of a VM. It answers at [`ECAM_BASE`](super::ECAM_BASE).
///
/// Lock order: its lock before the VM's map.
pub struct PciHost {
    slots: Mutex<Slots>,
    map: Arc<dyn BarMap>,
    tlbs: Arc<dyn DeviceTlbs>,
}

impl PciHost {
    /// A host without devices, whose BARs are mapped by `map`; `tlbs` follows their ATS.
    pub fn new(map: Arc<dyn BarMap>, tlbs: Arc<dyn DeviceTlbs>) -> Self {
        Self { slots: Mutex::new(Rank::GuestBus, Slots::default()), map, tlbs }
    }

    /// Puts a function on the guest's bus. It decodes nothing until the guest says so.
    ///
    /// # Errors
    /// The place is taken, the function is not there, or a BAR of it has no address.
    pub fn add(&self, topology: &Arc<Topology>, guest: Guest) -> Result<(), PciError> {
        let mut slots = self.slots.lock();
        if slots.is_taken(guest.bdf) {
            return Err(PciError::Taken(guest.bdf));
        }
        let last = Some(bus(guest.bdf)).filter(|bus| *bus <= MAX_PORTS).unwrap_or(0);
        let present = slots.ports.len() as u8;
        let ports: Vec<RootPort> = (present.saturating_add(1)..=last).map(RootPort::new).collect();
        // A port needs a device number of bus 0 to itself.
        let taken =
            |port: &&RootPort| slots.functions.iter().any(|other| other.guest.bdf & !7 == port.bdf);
        if let Some(port) = ports.iter().find(taken) {
            return Err(PciError::Taken(port.bdf));
        }
        let function = VirtualFunction::new(topology.clone(), self.tlbs.clone(), guest)?;
        slots.functions.push(function);
        slots.ports.extend(ports);
        Ok(())
    }

    /// Takes a function away: its BARs are in nobody's view when this returns. The device is as
    /// the guest left it otherwise.
    pub fn remove(&self, bdf: u16) {
        let mut slots = self.slots.lock();
        let mine = |function: &VirtualFunction| function.guest.bdf == bdf;
        if let Some(index) = slots.functions.iter().position(mine) {
            slots.functions.swap_remove(index).close(&*self.map);
            slots.prune();
        }
    }

    /// Puts every function back to what it was when it was added: nothing decoded, nothing
    /// mapped. The devices themselves are reset by
    /// [`Passthrough::reset`](crate::passthrough::Passthrough::reset).
    pub fn reset(&self) {
        let mut slots = self.slots.lock();
        for function in &mut slots.functions {
            function.power_on(&*self.map);
        }
        for port in &mut slots.ports {
            port.power_on();
        }
    }

    /// Takes every function away.
    pub fn clear(&self) {
        let mut slots = self.slots.lock();
        for mut function in slots.functions.drain(..) {
            function.close(&*self.map);
        }
        slots.prune();
    }

    /// The functions, in no order.
    pub fn guests(&self) -> Vec<Guest> {
        self.slots.lock().functions.iter().map(|function| function.guest).collect()
    }

    /// The functions with where they really are, in no order.
    pub fn places(&self) -> Vec<(Address, Guest)> {
        let slots = self.slots.lock();
        slots.functions.iter().filter_map(|each| Some((each.address()?, each.guest))).collect()
    }

    /// Where BARs are mapped now: first IPA and bytes.
    pub fn mapped(&self) -> Vec<(u64, u64)> {
        self.slots.lock().functions.iter().flat_map(VirtualFunction::mapped).collect()
    }
}

/// The bus number of a requester ID.
fn bus(bdf: u16) -> u8 {
    bdf.to_be_bytes()[0]
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
        let slots = self.slots.lock();
        let Some(bdf) = slots.home(bdf) else { return u64::MAX };
        let functions = &slots.functions;
        if let Some(port) = slots.ports.iter().find(|port| port.bdf == bdf) {
            return if register < EXTENDED { port.read(register, bytes).into() } else { 0 };
        }
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
        let value = (value & 0xffff_ffff) as u32;
        let mut slots = self.slots.lock();
        let Some(bdf) = slots.home(bdf) else { return };
        if let Some(port) = slots.ports.iter_mut().find(|port| port.bdf == bdf) {
            port.write(register, bytes, value);
        } else if let Some(function) = slots.functions.iter_mut().find(|f| f.guest.bdf == bdf) {
            function.write(register, bytes, value, &*self.map);
        }
    }
}
