//! The PCIe hosts: enumerated, and every device announced to the IOMMU core.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use palisade_board::BoardInfo;
use palisade_hal::StreamId;
use palisade_hal::machine::{Machine, MapKind};
use palisade_hal::mmio::Mmio;
use palisade_iommu::{DeviceId, DeviceInfo, Iommus};
use palisade_pci::{Ecam, Topology};
use palisade_vm::passthrough::{Bus, Passthrough};

/// Enumerates every host, into a book without owners. A host that
/// cannot be mapped is named and left out.
pub(crate) fn enumerate(board: &BoardInfo<'_>, machine: &dyn Machine) -> Passthrough {
    let mut buses = Vec::new();
    for info in &board.pcie {
        let range = info.ecam.start()..info.ecam.end();
        if let Err(error) = machine.map(range, MapKind::Device) {
            log::error!("PCIe host at {:#x}: {error}", info.ecam.start());
            continue;
        }
        // SAFETY: mapped as Device memory just now, for good; this is the only
        // pointer to the configuration space.
        let mmio = unsafe { Mmio::new(info.ecam.base(), info.ecam.size()) };
        let topology = Topology::enumerate(Ecam::new(mmio, info), info);
        for problem in topology.problems() {
            log::warn!("PCIe: {problem}");
        }
        buses.push(Bus { host: info.clone(), topology: Arc::new(topology) });
    }
    Passthrough::new(buses)
}

/// Tells the IOMMU core of every endpoint: its streams, and what it cannot be
/// told apart from.
pub(crate) fn announce(book: &Passthrough, iommus: &Iommus) {
    for bus in book.buses() {
        for (index, function) in bus.topology.functions().iter().enumerate() {
            if !function.is_endpoint() {
                continue;
            }
            let streams = match bus.topology.streams(index, &bus.host) {
                Ok(streams) => streams,
                Err(error) => {
                    log::error!("PCIe: {error}");
                    continue;
                }
            };
            let ids = streams.iter().flat_map(|streams| &streams.ids);
            let info = DeviceInfo {
                id: DeviceId::new(function.address.number()),
                name: format!("{}", function.address),
                iommu: streams.as_ref().map(|streams| streams.controller),
                streams: ids.map(|&id| StreamId::new(id)).collect(),
                isolation: bus.topology.isolation(index),
            };
            log::debug!(
                "PCIe {}: {:04x}:{:04x}",
                function.address,
                function.id & 0xffff,
                function.id >> 16
            );
            if let Err(error) = iommus.add_device(info) {
                log::error!("PCIe {}: {error}", function.address);
            }
        }
    }
}
