//! The devices of a VM that can send messages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::Version;
use palisade_pci::Address;
use palisade_vm::its::{Messages, Sender};
use palisade_vm::passthrough::Assigned;

use crate::machine::instances::Machine;

/// The devices of a VM that can send messages, and the ITS that they go to; `own`: the one that
/// the VM has by now. None if one of them is not behind an SMMU: its messages could not be told
/// from writes to anywhere.
///
/// A VM has one ITS, since a message goes to one address in all of its devices' view of memory:
/// that of the first device with messages. One whose messages go to another is named and sends
/// none; its wire stays.
pub(crate) fn of(
    machine: &Machine,
    own: Option<&Arc<Messages>>,
    devices: &[Assigned],
) -> Option<(Arc<Messages>, Vec<Sender>)> {
    if devices.iter().any(|device| !device.isolated) {
        return None;
    }
    let named = devices.iter().filter_map(|device| {
        let number = device.address.number();
        let host =
            machine.board.pcie.iter().find(|host| u32::from(host.segment) == number >> 16)?;
        let (its, physical) = host.msi_map.lookup(device.message?)?;
        let sender = Sender { guest: u32::from(device.guest.bdf), physical };
        if let Version::V2 { .. } = machine.board.gic.version {
            log::info!("device {}: interrupts by its wire, the machine has no ITS", device.address);
            return None;
        }
        Some((device.address, its, sender))
    });
    choose(own.cloned(), named, &|its| machine.messages_of(its))
}

/// Takes those whose ITS is the first one's.
fn choose<M>(
    own: Option<Arc<M>>,
    named: impl Iterator<Item = (Address, u32, Sender)>,
    find: &dyn Fn(u32) -> Option<Arc<M>>,
) -> Option<(Arc<M>, Vec<Sender>)> {
    let (mut own, mut senders) = (own, Vec::new());
    for (address, phandle, sender) in named {
        let Some(its) = find(phandle) else {
            log::warn!("device {address}: no messages: ITS {phandle:#x} is not in service");
            continue;
        };
        if Arc::ptr_eq(own.get_or_insert_with(|| its.clone()), &its) {
            senders.push(sender);
        } else {
            log::warn!(
                "device {address}: no messages: they go to ITS {phandle:#x}, those of the VM's \
                 other devices to another"
            );
        }
    }
    own.filter(|_| !senders.is_empty()).map(|its| (its, senders))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn devices_send_to_the_its_that_their_host_names() {
        let (first, second) = (Arc::new(17u32), Arc::new(19u32));
        let find =
            |phandle: u32| [&first, &second].into_iter().find(|its| ***its == phandle).cloned();
        let device = |bdf: u16, its: u32| {
            let sender = Sender { guest: bdf.into(), physical: u32::from(bdf) + 0x1_0000 };
            (Address::new(0, bdf), its, sender)
        };
        let chosen = |own: Option<&Arc<u32>>, devices: &[(Address, u32, Sender)]| {
            let (its, senders) = choose(own.cloned(), devices.iter().copied(), &find)?;
            Some((*its, senders.iter().map(|sender| sender.guest).collect::<Vec<_>>()))
        };
        // Not the first of the machine: the one that is named.
        assert_eq!(chosen(None, &[device(8, 19), device(16, 19)]), Some((19, vec![8, 16])));
        assert_eq!(chosen(None, &[device(8, 17), device(16, 19)]), Some((17, vec![8])));
        assert_eq!(chosen(None, &[device(8, 5), device(16, 19)]), Some((19, vec![16])));
        assert_eq!(chosen(None, &[device(8, 5)]), None);
        // A device that comes later goes by what the VM has.
        assert_eq!(chosen(Some(&second), &[device(8, 17)]), None);
        assert_eq!(chosen(Some(&second), &[device(8, 19)]), Some((19, vec![8])));
    }
}
