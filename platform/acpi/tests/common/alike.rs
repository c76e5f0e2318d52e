//! A board of a device tree and one of ACPI tables made alike: what they may differ in is listed
//! here, and everything else must be the same.

use std::collections::BTreeMap;

use palisade_board::{BoardInfo, IdMap, Range, Version};

/// What the two may differ in. Each is taken out of both, after what it must come to was checked.
pub const DIFFERENCES: [&str; 9] = [
    "names: ACPI has its own",
    "memory and chosen: ACPI says nothing of them",
    "phandles: ACPI has none, so that they are made up",
    "sizes of a GICv2's registers: the architecture's, not the tree's 64 KiB",
    "the UART's clock: the SPCR has none",
    "windows and wires of PCIe: they stand in AML",
    "the SMMU's part of the requester IDs: buses that firmware has numbered, not all",
    "who places what is on PCIe: firmware that has ACPI has done it",
    "a GICv2's message frame is in no map of ACPI's",
];

/// Makes a board anonymous. `buses`: requester IDs from here on are behind the SMMU in the tree
/// alone.
pub fn plain<'a>(board: &BoardInfo<'a>, buses: u32) -> BoardInfo<'a> {
    let mut board = board.clone();
    (board.model, board.compatible) = ("", "");
    board.memory.clear();
    board.chosen = palisade_board::Chosen::default();
    let mut names = BTreeMap::new();
    let mut name = |phandle: &mut u32, new: u32| {
        names.insert(*phandle, new);
        *phandle = new;
    };
    name(&mut board.gic.phandle, 1);
    let small = |range: &mut Range| *range = Range::new(range.start(), 0x1000).expect("range");
    match &mut board.gic.version {
        Version::V2 { cpu, hypervisor, virtual_cpu, v2m } => {
            small(cpu);
            small(&mut board.gic.distributor);
            [hypervisor, virtual_cpu, v2m].into_iter().flatten().for_each(small);
        }
        Version::V3 { its, .. } => {
            (10..).zip(its).for_each(|(new, its)| name(&mut its.phandle, new));
        }
    }
    (20..).zip(&mut board.smmus).for_each(|(new, smmu)| name(&mut smmu.phandle, new));
    if let Some(uart) = &mut board.uart {
        uart.clock = None;
    }
    for host in &mut board.pcie {
        host.windows.clear();
        host.interrupt_map.clear();
        host.interrupt_mask = (0, 0);
        host.keep = false;
        let rename = |map: &mut IdMap| {
            // One of a frame that is no ITS has no name here.
            map.entries.retain(|line| names.contains_key(&line.controller));
            map.entries.iter_mut().for_each(|line| line.controller = names[&line.controller]);
        };
        rename(&mut host.iommu_map);
        rename(&mut host.msi_map);
        // Of the streams, those of buses that both know.
        host.iommu_map.entries.retain(|line| line.input < buses);
        for line in &mut host.iommu_map.entries {
            line.length = line.length.min(buses - line.input);
        }
    }
    board
}
