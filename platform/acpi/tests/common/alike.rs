//! A board of a device tree and one of ACPI tables made alike: what they may differ in is listed
//! here, and everything else must be the same.

use std::collections::BTreeMap;

use palisade_board::{BoardInfo, Chosen, EnableMethod, IdMap, Range, Version};

/// What the two may differ in: it is taken out of both.
pub const DIFFERENCES: [&str; 9] = [
    "names: ACPI has its own",
    "memory and chosen: ACPI says nothing of them",
    "phandles: ACPI has none, so that they are made up",
    "sizes of a GICv2's registers: the architecture's, not the tree's 64 KiB",
    "the UART's clock: the SPCR has none",
    "windows and wires of PCIe: they stand in AML, and firmware keeps what it placed",
    "the SMMU's part of the requester IDs: buses that firmware has numbered, not all",
    "how the only core of a machine is started: the tree does not say",
    "a GICv2's message frame is in no map of ACPI's",
];

/// What of the two boards differs that may not; none where they are one machine.
///
/// # Errors
/// Both sides of the first difference.
pub fn alike(tree: &BoardInfo<'_>, tables: &BoardInfo<'_>) -> Result<(), String> {
    let (one, other) = (format!("{:#?}", plain(tree)), format!("{:#?}", plain(tables)));
    if let Some((one, other)) = one.lines().zip(other.lines()).find(|(one, other)| one != other) {
        return Err(format!("the tree says {:?}, the tables {:?}", one.trim(), other.trim()));
    }
    if one.len() != other.len() {
        return Err("one of the two says more than the other".to_owned());
    }
    for (said, host) in tree.pcie.iter().zip(&tables.pcie) {
        let both = [(tree, said), (tables, host)];
        for requester in 0..=u16::MAX {
            // What the tables lead to an SMMU, the tree leads to the same.
            let way = |(board, host): (&BoardInfo<'_>, &palisade_board::PcieHost)| {
                let (smmu, stream) = host.iommu_map.lookup(requester)?;
                let at = board.smmus.iter().position(|other| other.phandle == smmu)?;
                Some((at, stream))
            };
            let [tree, tables] = both.map(way);
            if tables.is_some() && tables != tree {
                return Err(format!("requester {requester:#x}: {tree:?} by tree, {tables:?}"));
            }
        }
    }
    Ok(())
}

/// A board without what may differ.
fn plain<'a>(board: &BoardInfo<'a>) -> BoardInfo<'a> {
    let mut board = board.clone();
    (board.model, board.compatible) = ("", "");
    board.memory.clear();
    board.chosen = Chosen::default();
    if let [only] = board.cpus.as_mut_slice() {
        only.enable = EnableMethod::None;
    }
    let mut names = BTreeMap::new();
    let mut name = |phandle: &mut u32, new: u32| {
        names.insert(*phandle, new);
        *phandle = new;
    };
    name(&mut board.gic.phandle, 1);
    let small = |range: &mut Range| *range = Range::new(range.start(), 0x1000).unwrap_or(*range);
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
        // Compared one by one.
        host.iommu_map = IdMap::default();
        // One of a frame that is no ITS has no name here.
        host.msi_map.entries.retain(|line| names.contains_key(&line.controller));
        for line in &mut host.msi_map.entries {
            line.controller = names.get(&line.controller).copied().unwrap_or(0);
        }
    }
    board
}
