//! A board of parts: what every test needs, and what each adds.

use palisade_board::BoardInfo;
use palisade_fdt::{Error, Tree, board};
use vm_fdt::FdtWriter;

/// The GIC's phandle.
pub const GIC: u32 = 1;

/// What a test adds to the root.
pub type Parts<'p> = &'p dyn Fn(&mut FdtWriter) -> Result<(), vm_fdt::Error>;

/// A node of the GICv3 that every board here has, with `inside` in it.
pub fn gic3(fdt: &mut FdtWriter, regions: u32, inside: Parts<'_>) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node("interrupt-controller@30000000")?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    controller(fdt)?;
    fdt.property_u32("#redistributor-regions", regions)?;
    let mut reg = vec![0, 0x3000_0000, 0, 0x1_0000];
    reg.extend((0..regions).flat_map(|n| [0, 0x300c_0000 + n * 0x4_0000, 0, 0x4_0000]));
    fdt.property_array_u32("reg", &reg)?;
    fdt.property_null("ranges")?;
    inside(fdt)?;
    fdt.end_node(node)
}

/// What every interrupt controller says here.
pub fn controller(fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
    fdt.property_u32("phandle", GIC)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_array_u32("interrupts", &[1, 9, 4])
}

/// A whole tree: one core, memory, timer, PSCI, the parts of the test, and the GIC of above
/// unless `gic` brings another.
pub fn tree(gic: Option<Parts<'_>>, parts: Parts<'_>) -> Vec<u8> {
    let mut fdt = FdtWriter::new().expect("writer");
    build(&mut fdt, gic, parts).expect("builds");
    fdt.finish().expect("finishes")
}

fn build(
    fdt: &mut FdtWriter,
    gic: Option<Parts<'_>>,
    parts: Parts<'_>,
) -> Result<(), vm_fdt::Error> {
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "acme,board")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    let node = fdt.begin_node("psci")?;
    fdt.property_string("compatible", "arm,psci-1.0")?;
    fdt.property_string("method", "smc")?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_array_u32("interrupts", &[1, 13, 8, 1, 14, 8, 1, 11, 8, 1, 10, 8])?;
    fdt.end_node(node)?;
    match gic {
        Some(gic) => gic(fdt)?,
        None => gic3(fdt, 1, &|_| Ok(()))?,
    }
    parts(fdt)?;
    fdt.end_node(root)
}

/// `/memory` and one core.
pub fn machine(fdt: &mut FdtWriter) -> Result<(), vm_fdt::Error> {
    memory(fdt, &[0, 0x8000_0000, 0, 0x4000_0000])?;
    cores(fdt, 1)
}

/// A memory node.
pub fn memory(fdt: &mut FdtWriter, reg: &[u32]) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(&format!("memory@{:x}", reg[1]))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u32("reg", reg)?;
    fdt.end_node(node)
}

/// So many cores.
pub fn cores(fdt: &mut FdtWriter, count: u32) -> Result<(), vm_fdt::Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for core in 0..count {
        let node = fdt.begin_node(&format!("cpu@{core:x}"))?;
        fdt.property_u32("reg", core)?;
        fdt.property_string("enable-method", "psci")?;
        fdt.end_node(node)?;
    }
    fdt.end_node(cpus)
}

/// An SMMU; no phandle where it is 0.
pub fn smmu(
    fdt: &mut FdtWriter,
    at: u32,
    phandle: u32,
    cells: u32,
    interrupts: &[u32],
) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(&format!("iommu@{at:x}"))?;
    fdt.property_string("compatible", "arm,smmu-v3")?;
    fdt.property_array_u32("reg", &[0, at, 0, 0x2_0000])?;
    if phandle != 0 {
        fdt.property_u32("phandle", phandle)?;
    }
    fdt.property_u32("#iommu-cells", cells)?;
    fdt.property_array_u32("interrupts", interrupts)?;
    fdt.property_string_list("interrupt-names", vec!["eventq".into(), "gerror".into()])?;
    fdt.end_node(node)
}

/// A PCIe host with what a test adds.
pub fn host(fdt: &mut FdtWriter, at: u32, parts: Parts<'_>) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(&format!("pcie@{at:x}"))?;
    fdt.property_string("compatible", "pci-host-ecam-generic")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("#interrupt-cells", 1)?;
    fdt.property_array_u32("reg", &[0x20, at, 0, 0x1000_0000])?;
    parts(fdt)?;
    fdt.end_node(node)
}

/// Reads a tree and hands what came of it to `look`.
pub fn read<T>(blob: &[u8], look: impl FnOnce(Result<BoardInfo<'_>, Error<'_>>) -> T) -> T {
    look(board(&Tree::new(blob).expect("valid")))
}

/// The notes in words.
pub fn notes(board: &BoardInfo<'_>) -> Vec<String> {
    board.notes.iter().map(ToString::to_string).collect()
}
