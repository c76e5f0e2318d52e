//! What the firmware has allocated to its PCIe root bridges.

use alloc::vec::Vec;

use palisade_board::Window;
use uefi::boot::{OpenProtocolAttributes, OpenProtocolParams};
use uefi::proto::unsafe_protocol;
use uefi_raw::protocol::pci::root_bridge::PciRootBridgeIoProtocol;

/// Longest list of descriptors that is looked at, in bytes.
const LONGEST: usize = 4096;

/// The protocol of a root bridge (UEFI 2.10, 14.2).
#[unsafe_protocol(PciRootBridgeIoProtocol::GUID)]
#[repr(transparent)]
struct RootBridge(PciRootBridgeIoProtocol);

/// The windows of every root bridge, with its segment. What cannot be read is not there: devices
/// in it are refused by name.
pub(crate) fn windows() -> Vec<(u16, Window)> {
    let mut all = Vec::new();
    for handle in uefi::boot::find_handles::<RootBridge>().unwrap_or_default() {
        let agent = uefi::boot::image_handle();
        let params = OpenProtocolParams { handle, agent, controller: None };
        // SAFETY: its drivers stay connected, and nothing is called but a query.
        let bridge = unsafe {
            uefi::boot::open_protocol::<RootBridge>(params, OpenProtocolAttributes::GetProtocol)
        };
        let Ok(bridge) = bridge else { continue };
        let Ok(segment) = u16::try_from(bridge.0.segment_number) else { continue };
        let mut list = core::ptr::null();
        // SAFETY: the protocol's own function; it fills in the pointer.
        let status = unsafe { (bridge.0.configuration)(&bridge.0, &mut list) };
        if status.is_error() || list.is_null() {
            continue;
        }
        let mut bytes = Vec::new();
        // Descriptor by descriptor, so that nothing behind its end is read.
        while bytes.len() < LONGEST {
            // SAFETY: the list goes on until its end tag, which was not met yet.
            let tag = unsafe { list.cast::<u8>().add(bytes.len()).read() };
            let length = if tag == 0x8a { 46 } else { 1 };
            // SAFETY: a descriptor of this tag is that long.
            let part =
                unsafe { core::slice::from_raw_parts(list.cast::<u8>().add(bytes.len()), length) };
            bytes.extend_from_slice(part);
            if tag != 0x8a {
                break;
            }
        }
        let windows = palisade_acpi::windows(&bytes).unwrap_or_default();
        all.extend(windows.into_iter().map(|window| (segment, window)));
    }
    all
}
