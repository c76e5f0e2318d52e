//! The host's node in the guest's device tree.

use alloc::vec::Vec;

use vm_fdt::{Error, FdtWriter};

use super::layout::{ECAM_BASE, ECAM_BYTES, WINDOW32, WINDOW64, wire};

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

/// Writes the node. Its parent must have two address and two size cells.
///
/// # Errors
/// The writer's.
pub fn describe(fdt: &mut FdtWriter, interrupts: Interrupts) -> Result<(), Error> {
    let node = fdt.begin_node("pcie@10000000")?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("linux,pci-domain", 0)?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_array_u64("reg", &[ECAM_BASE, ECAM_BYTES])?;
    fdt.property_array_u32("bus-range", &[0, 255])?;
    fdt.property_null("dma-coherent")?;
    let mut ranges = Vec::new();
    for (space, (base, bytes)) in [(0x0200_0000, WINDOW32), (0x0300_0000, WINDOW64)] {
        ranges.push(space);
        for value in [base, base, bytes] {
            ranges.extend(pair(value));
        }
    }
    fdt.property_array_u32("ranges", &ranges)?;
    let mut map = Vec::new();
    for device in 0..4u8 {
        for pin in 1..=4u8 {
            map.extend([u32::from(device) << 11, 0, 0, u32::from(pin), interrupts.gic]);
            map.extend((0..interrupts.gic_address_cells).map(|_| 0));
            map.extend([SPI, wire(device, pin).saturating_sub(32), LEVEL_HIGH]);
        }
    }
    fdt.property_array_u32("interrupt-map", &map)?;
    fdt.property_array_u32("interrupt-map-mask", &MASK)?;
    if let Some(its) = interrupts.its {
        fdt.property_array_u32("msi-map", &[0, its, 0, 0x1_0000])?;
    }
    fdt.end_node(node)
}
