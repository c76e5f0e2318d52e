//! PCIe hosts with ECAM: windows, interrupt-map, iommu-map, msi-map.
//!
//! PCI Bus Binding to IEEE 1275, section 2.2.1.1 (the three-cell address).

use arrayvec::ArrayVec;
use palisade_board::{
    IdMap, IdMapEntry, InterruptMapEntry, MAX_INTERRUPT_MAP, MAX_PCIE, MAX_WINDOWS, PcieHost,
    Range, Space, Window,
};

use crate::error::{Error, Problem};
use crate::interrupt;
use crate::tree::{Node, Tree, Visit, cell_count};

/// Every enabled host with generic ECAM.
pub(crate) fn read<'a>(
    tree: &Tree<'a>,
    gic: u32,
    hosts: &mut ArrayVec<PcieHost, MAX_PCIE>,
) -> Result<(), Error<'a>> {
    tree.visit(&mut |node| {
        if !node.enabled() {
            return Ok(Visit::Skip);
        }
        if !node.compatible(&["pci-host-ecam-generic"]) {
            return Ok(Visit::Children);
        }
        hosts.try_push(host(tree, node, gic)?).map_err(|_| node.too_many("PCIe hosts"))?;
        Ok(Visit::Skip)
    })
}

fn host<'a>(tree: &Tree<'a>, node: &Node<'_, 'a>, gic: u32) -> Result<PcieHost, Error<'a>> {
    let ecam = node.first_register()?;
    let (first, last) = match node.property("bus-range") {
        None => (0, 0xff),
        Some(_) => {
            let mut cells = node.cells("bus-range");
            match (cells.u32(), cells.u32()) {
                (Some(first), Some(last)) if first <= last && last <= 0xff => (first, last),
                _ => return Err(node.problem("bus-range", Problem::Value)),
            }
        }
    };
    // 1 MiB of configuration space per bus.
    let Some(buses) = u32::try_from((ecam.size() >> 20).min(256)).ok().filter(|buses| *buses > 0)
    else {
        return Err(node.problem("reg", Problem::Range));
    };
    let last = last.min(first.saturating_add(buses.saturating_sub(1)));
    let Ok(segment) = u16::try_from(node.u32("linux,pci-domain").unwrap_or(0)) else {
        return Err(node.problem("linux,pci-domain", Problem::Value));
    };
    let mut mask = node.cells("interrupt-map-mask");
    let unit_mask = mask.u32();
    let pin_mask = mask.number(2).and_then(|_| mask.u32());
    let interrupt_mask = (unit_mask.unwrap_or(u32::MAX), pin_mask.unwrap_or(u32::MAX));
    Ok(PcieHost {
        ecam,
        segment,
        first_bus: u8::try_from(first).unwrap_or(0),
        last_bus: u8::try_from(last).unwrap_or(0),
        windows: windows(node)?,
        interrupt_mask,
        interrupt_map: interrupt_map(tree, node, gic, interrupt_mask)?,
        iommu_map: id_map(node, "iommu-map", "iommu-map-mask")?,
        msi_map: id_map(node, "msi-map", "msi-map-mask")?,
        coherent: node.property("dma-coherent").is_some(),
    })
}

fn windows<'a>(node: &Node<'_, 'a>) -> Result<ArrayVec<Window, MAX_WINDOWS>, Error<'a>> {
    const NAME: &str = "ranges";
    let chain = node.chain();
    let parent = chain.len().checked_sub(2).and_then(|index| chain.get(index));
    let parent_cells = parent.map_or(2, |parent| cell_count(parent, "#address-cells", 2));
    let mut windows = ArrayVec::new();
    let mut cells = node.cells(NAME);
    while !cells.is_empty() {
        let (Some(space), Some(bus), Some(cpu), Some(size)) =
            (cells.u32(), cells.number(2), cells.number(parent_cells), cells.number(2))
        else {
            return Err(node.problem(NAME, Problem::Length));
        };
        // Bits 25:24 of the first cell are the space, bit 30 says prefetchable.
        let kind = match (space >> 24) & 3 {
            1 => Space::Io,
            2 => Space::Memory32,
            3 => Space::Memory64,
            _ => continue,
        };
        let Some(range) = Range::new(cpu, size) else {
            return Err(node.problem(NAME, Problem::Range));
        };
        let bus_end =
            bus.checked_add(size).filter(|end| kind != Space::Memory32 || *end <= 1 << 32);
        if bus_end.is_none() {
            return Err(node.problem(NAME, Problem::Range));
        }
        let prefetchable = space & (1 << 30) != 0;
        windows
            .try_push(Window { space: kind, prefetchable, bus, cpu: range })
            .map_err(|_| node.too_many("address windows"))?;
    }
    Ok(windows)
}

fn interrupt_map<'a>(
    tree: &Tree<'a>,
    node: &Node<'_, 'a>,
    gic: u32,
    (unit_mask, pin_mask): (u32, u32),
) -> Result<ArrayVec<InterruptMapEntry, MAX_INTERRUPT_MAP>, Error<'a>> {
    const NAME: &str = "interrupt-map";
    let mut map = ArrayVec::new();
    let mut cells = node.cells(NAME);
    if cells.is_empty() {
        return Ok(map);
    }
    let Some(controller) = tree.phandle(gic) else {
        return Err(node.problem(NAME, Problem::Phandle));
    };
    let unit_cells = cell_count(&controller, "#address-cells", 0);
    let cell_count = cell_count(&controller, "#interrupt-cells", 0);
    while !cells.is_empty() {
        let (Some(unit), Some(_), Some(pin), Some(parent)) =
            (cells.u32(), cells.number(2), cells.u32(), cells.u32())
        else {
            return Err(node.problem(NAME, Problem::Length));
        };
        if parent != gic {
            return Err(node.problem(NAME, Problem::Interrupt));
        }
        for _ in 0..unit_cells {
            if cells.u32().is_none() {
                return Err(node.problem(NAME, Problem::Length));
            }
        }
        let Some(interrupt) = interrupt::take(&mut cells, cell_count) else {
            return Err(node.problem(NAME, Problem::Interrupt));
        };
        let entry = InterruptMapEntry { unit: unit & unit_mask, pin: pin & pin_mask, interrupt };
        map.try_push(entry).map_err(|_| node.too_many("interrupt-map lines"))?;
    }
    Ok(map)
}

fn id_map<'a>(
    node: &Node<'_, 'a>,
    name: &'static str,
    mask: &'static str,
) -> Result<IdMap, Error<'a>> {
    let mut map = IdMap { mask: node.u32(mask), entries: ArrayVec::new() };
    let mut cells = node.cells(name);
    while !cells.is_empty() {
        let (Some(input), Some(controller), Some(output), Some(length)) =
            (cells.u32(), cells.u32(), cells.u32(), cells.u32())
        else {
            return Err(node.problem(name, Problem::Length));
        };
        if length == 0
            || input.checked_add(length).is_none()
            || output.checked_add(length.saturating_sub(1)).is_none()
        {
            return Err(node.problem(name, Problem::Range));
        }
        map.entries
            .try_push(IdMapEntry { input, controller, output, length })
            .map_err(|_| node.too_many("id-map lines"))?;
    }
    Ok(map)
}
