//! Which capabilities a guest sees, and what it changes of them.
//!
//! A device lies as it likes: each capability ends where the next one begins, listed or hidden,
//! so that no two overlap and what one masks no other opens again.

use palisade_pci::regs::{capability, express, header, msi, msix, power};
use palisade_pci::{Capability, Config, MAX_CAPABILITIES};

use super::shadow::{BYTES, Shadow};

/// What a guest changes of Device Control (7.5.3.4): Relaxed Ordering, Extended Tag, No Snoop
/// and Max Read Request Size. The payload size is a matter of the whole link.
const DEVICE_CONTROL: u16 = (1 << 4) | (1 << 8) | (1 << 11) | (7 << 12);
/// Length of the PCI Express capability up to its version 1 and from version 2 on, in bytes.
const EXPRESS_BYTES: [u16; 2] = [0x14, 0x3c];
/// What every PCI Express capability has: up to Device Status.
const EXPRESS_LEAST: u16 = 0x0c;
/// Length of the Power Management capability in bytes (7.5.2).
const POWER_BYTES: u16 = 8;
/// Length of the MSI-X capability in bytes (7.7.2).
const MSIX_BYTES: u16 = 12;
/// Head of the Vendor-Specific capability in bytes: ID, pointer, length (7.9.4).
const VENDOR_HEAD: u16 = 3;

/// Links the capabilities that pass; returns where PMCSR is. Without `messages` the function
/// shows neither MSI nor MSI-X.
pub(super) fn link(shadow: &mut Shadow, config: Config<'_>, messages: bool) -> Option<u16> {
    let mut found: [Option<Capability>; MAX_CAPABILITIES] = [None; MAX_CAPABILITIES];
    for (slot, capability) in found.iter_mut().zip(config.capabilities()) {
        *slot = Some(capability);
    }
    let starts = found.iter().flatten().map(|capability| u16::from(capability.offset));
    let mut pointer = header::CAPABILITIES;
    let mut pmcsr = None;
    for (number, one) in found.iter().flatten().enumerate() {
        let at = u16::from(one.offset);
        // A list that comes back to where it was goes on as before.
        if found.iter().flatten().take(number).any(|before| before.offset == one.offset) {
            break;
        }
        let end = starts.clone().filter(|start| *start > at).min().unwrap_or(BYTES as u16);
        let room = end.saturating_sub(at);
        if !messages && matches!(one.id, capability::MSI | capability::MSIX)
            || !allow(shadow, config, *one, room)
        {
            continue;
        }
        if one.id == capability::POWER && pmcsr.is_none() {
            pmcsr = Some(at.saturating_add(power::CONTROL));
        }
        shadow.own8(pointer, one.offset, 0);
        shadow.own8(at.saturating_add(1), 0, 0);
        pointer = at.saturating_add(1);
    }
    pmcsr
}

/// Lets a capability pass that has `room` bytes to itself; false if it is hidden.
fn allow(shadow: &mut Shadow, config: Config<'_>, found: Capability, room: u16) -> bool {
    let at = u16::from(found.offset);
    let fits = |bytes: u16| bytes <= room;
    match found.id {
        capability::POWER if fits(POWER_BYTES) => {
            shadow.expose(at, POWER_BYTES);
            // The power state is virtual: asleep, the device would not respond.
            shadow.own_bits(at.saturating_add(power::CONTROL), power::STATE as u8);
        }
        capability::MSI => return messages(shadow, config, at, room),
        capability::MSIX if fits(MSIX_BYTES) => {
            shadow.expose(at, MSIX_BYTES);
            shadow.pass16(at.saturating_add(msix::CONTROL), msix::ENABLE | msix::MASK_ALL);
        }
        capability::EXPRESS if fits(EXPRESS_LEAST) => {
            let flags = config.read16(at.saturating_add(express::CAPABILITIES));
            let [short, long] = EXPRESS_BYTES;
            let bytes = if flags & express::VERSION < 2 { short } else { long };
            shadow.expose(at, bytes.min(room));
            shadow.pass16(at.saturating_add(express::DEVICE_CONTROL), DEVICE_CONTROL);
        }
        capability::VENDOR if room > VENDOR_HEAD => {
            // At +2 it says its own length; shorter than its head it makes no sense.
            let length = u16::from(config.read8(at.saturating_add(2)));
            let bytes = length.max(VENDOR_HEAD).min(room);
            shadow.expose(at, bytes);
            shadow.pass(at.saturating_add(VENDOR_HEAD), bytes.saturating_sub(VENDOR_HEAD));
        }
        _ => return false,
    }
    true
}

/// Lets an MSI capability pass: 10, 14, 20 or 24 bytes, as its Message Control says (7.7.1).
fn messages(shadow: &mut Shadow, config: Config<'_>, at: u16, room: u16) -> bool {
    let control = config.read16(at.saturating_add(msi::CONTROL));
    let address = at.saturating_add(msi::ADDRESS);
    let address_bytes = if control & msi::WIDE != 0 { 8 } else { 4 };
    let data = address.saturating_add(address_bytes);
    // Two bytes of data and two that stay the device's, then mask bits and pending bits.
    let masks = data.saturating_add(4);
    let masked = control & msi::MASKS != 0;
    let end = if masked { masks.saturating_add(8) } else { data.saturating_add(2) };
    let bytes = end.saturating_sub(at);
    if bytes > room {
        return false;
    }
    shadow.expose(at, bytes);
    shadow.pass16(at.saturating_add(msi::CONTROL), msi::ENABLE | msi::MULTIPLE_ENABLE);
    shadow.pass(address, address_bytes.saturating_add(2));
    if masked {
        shadow.pass(masks, 4);
    }
    true
}
