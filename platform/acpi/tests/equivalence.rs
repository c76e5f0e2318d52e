//! QEMU's machine by its device tree and by its ACPI tables is one machine.

#[path = "common/alike.rs"]
mod alike;
mod common;

use palisade_fdt::Tree;

#[test]
fn qemus_gicv3_machine() {
    // Four cores, GICv3, SMMUv3, as its tables were; the tree is the one that palisade-fdt's own
    // tests read.
    const TREE: &[u8] = include_bytes!("../../fdt/tests/virt-gic3.dtb");
    let tree = Tree::new(TREE).expect("valid");
    let said = palisade_fdt::board(&tree).expect("readable");
    common::good(&common::virt(), |tables| {
        let buses = tables.pcie[0].iommu_map.entries.iter().map(|line| line.length).sum();
        assert_eq!(buses, 0x200, "two buses were numbered");
        assert_ne!(said, tables, "they differ in {:?}", alike::DIFFERENCES);
        assert_eq!(alike::plain(&said, buses), alike::plain(&tables, buses));
    });
}
