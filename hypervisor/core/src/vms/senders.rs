//! The devices of a VM that can send messages.

use alloc::vec::Vec;

use palisade_board::BoardInfo;
use palisade_vm::its::Sender;
use palisade_vm::passthrough::Assigned;

use crate::machine::messages;

/// The devices of a VM that can send messages. None if one of them is not behind an SMMU: its
/// messages could not be told from writes to anywhere. One whose messages go to another ITS than
/// the one in service is named and sends none.
pub(crate) fn of(board: &BoardInfo<'_>, devices: &[Assigned]) -> Vec<Sender> {
    if devices.iter().any(|device| !device.isolated) {
        return Vec::new();
    }
    let sender = |device: &Assigned| {
        let number = device.address.number();
        let host = board.pcie.iter().find(|host| u32::from(host.segment) == number >> 16)?;
        let (its, physical) = host.msi_map.lookup(device.message?)?;
        if messages::served(board).is_none_or(|served| served.phandle != its) {
            let address = device.address;
            log::warn!("device {address}: no messages: its ITS, phandle {its:#x}, is not served");
            return None;
        }
        Some(Sender { guest: u32::from(device.guest.bdf), physical })
    };
    devices.iter().filter_map(sender).collect()
}
