//! QEMU's machine by its device tree and by its ACPI tables is one machine. Twelve more, live, are
//! compared by the QEMU test `board-by-acpi`.

#[path = "common/alike.rs"]
mod alike;
mod common;

use palisade_board::{BoardInfo, Range};
use palisade_fdt::Tree;

// Four cores, GICv3, SMMUv3, as its tables were; the tree is the one that palisade-fdt's own tests
// read.
const TREE: &[u8] = include_bytes!("../../fdt/tests/virt-gic3.dtb");

#[test]
fn qemus_gicv3_machine() {
    let tree = Tree::new(TREE).expect("valid");
    let said = palisade_fdt::board(&tree).expect("readable");
    common::good(&common::virt(), |tables| {
        assert_ne!(said, tables, "they differ in {:?}", alike::DIFFERENCES);
        assert_eq!(alike::alike(&said, &tables), Ok(()));
    });
}

#[test]
fn any_other_difference_is_noticed() {
    let tree = Tree::new(TREE).expect("valid");
    let said = palisade_fdt::board(&tree).expect("readable");
    common::good(&common::virt(), |tables| {
        let changes: [fn(&mut BoardInfo<'_>); 9] = [
            |board| board.cpus.clear(),
            |board| board.psci = None,
            |board| board.gic.maintenance = None,
            |board| board.gic.distributor = Range::new(0x1000, 0x1_0000).expect("range"),
            |board| board.timer.hypervisor = None,
            |board| board.smmus[0].gerror = None,
            |board| board.pcie[0].coherent = false,
            |board| board.pcie[0].iommu_map.entries[0].output += 1,
            |board| board.uart = None,
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = tables.clone();
            change(&mut other);
            assert!(alike::alike(&said, &other).is_err(), "change {number}");
        }
    });
}
