//! The devices of a VM that can send messages.

use alloc::vec::Vec;

use palisade_board::PcieHost;
use palisade_vm::its::Sender;
use palisade_vm::passthrough::Assigned;

/// The devices of a VM that can send messages. None if one of them is not behind an SMMU: its
/// messages could not be told from writes to anywhere.
pub(crate) fn of(hosts: &[PcieHost], devices: &[Assigned]) -> Vec<Sender> {
    if devices.iter().any(|device| !device.isolated) {
        return Vec::new();
    }
    let sender = |device: &Assigned| {
        let number = device.address.number();
        let host = hosts.iter().find(|host| u32::from(host.segment) == number >> 16)?;
        let (_, physical) = host.msi_map.lookup(device.message?)?;
        Some(Sender { guest: u32::from(device.guest.bdf), physical })
    };
    devices.iter().filter_map(sender).collect()
}
