//! The host's node in the guest's device tree.

use alloc::vec::Vec;

use super::layout::{ECAM_BASE, ECAM_BYTES, WINDOW_IO, WINDOW32, WINDOW64, wire};
use crate::load::TreeWriter;

/// Level, active high, as a GIC specifier says it.
const LEVEL_HIGH: u32 = 4;
const SPI: u32 = 0;
/// Bits of the unit address and of the pin that the interrupt-map looks at.
const MASK: [u32; 4] = [0x1800, 0, 0, 7];

/// Whom the node's interrupts go to.
#[derive(Clone, Copy, Debug)]
pub struct Interrupts {
    /// Phandle of the GIC.
    pub gic: u32,
    /// `#address-cells` of the GIC's node, 0 where it has none.
    pub gic_address_cells: u32,
    /// Phandle of the ITS, where there is one.
    pub its: Option<u32>,
}

fn pair(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, (value & 0xffff_ffff) as u32]
}

/// Writes the node. Its parent must have two address and two size cells. `iommu_map`: which IOMMU
/// a requester id goes to, empty where the guest has none.
pub fn describe(fdt: &mut TreeWriter, interrupts: Interrupts, iommu_map: &[u32]) {
    fdt.begin("pcie@10000000");
    fdt.text("compatible", "pci-host-ecam-generic");
    fdt.text("device_type", "pci");
    fdt.cell("linux,pci-domain", 0);
    fdt.cell("#address-cells", 3);
    fdt.cell("#size-cells", 2);
    fdt.cell("#interrupt-cells", 1);
    fdt.pairs("reg", &[ECAM_BASE, ECAM_BYTES]);
    fdt.cells("bus-range", &[0, 255]);
    fdt.flag("dma-coherent");
    let mut ranges = Vec::new();
    let ports = (0x0100_0000, 0, WINDOW_IO);
    let memory = [(0x0200_0000, WINDOW32.0, WINDOW32), (0x0300_0000, WINDOW64.0, WINDOW64)];
    for (space, bus, (base, bytes)) in core::iter::once(ports).chain(memory) {
        ranges.push(space);
        for value in [bus, base, bytes] {
            ranges.extend(pair(value));
        }
    }
    fdt.cells("ranges", &ranges);
    let mut map = Vec::new();
    for device in 0..4u8 {
        for pin in 1..=4u8 {
            map.extend([u32::from(device) << 11, 0, 0, u32::from(pin), interrupts.gic]);
            map.extend((0..interrupts.gic_address_cells).map(|_| 0));
            map.extend([SPI, wire(device, pin).saturating_sub(32), LEVEL_HIGH]);
        }
    }
    fdt.cells("interrupt-map", &map);
    fdt.cells("interrupt-map-mask", &MASK);
    if let Some(its) = interrupts.its {
        fdt.cells("msi-map", &[0, its, 0, 0x1_0000]);
    }
    if !iommu_map.is_empty() {
        fdt.cells("iommu-map", iommu_map);
    }
    fdt.end();
}
