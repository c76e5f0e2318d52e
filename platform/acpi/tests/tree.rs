//! A board that was written down as a device tree is read back as the same board.

mod common;

use common::{CORE, Gicc, firmware, gicc, gicd, iort, madt, read, rmr, root, smmu, virt, virt_but};
use palisade_acpi::tree;
use palisade_board::{BoardInfo, Interrupt, Trigger};
use palisade_fdt::Tree;

/// Writes a board down and reads it back.
fn same(board: &BoardInfo<'_>) {
    let blob = tree(board).expect("can be written");
    let tree = Tree::new(&blob).expect("valid");
    let mut back = palisade_fdt::board(&tree).expect("readable");
    assert_eq!(back.notes, [], "nothing of it is left out");
    // What was left out of the tables stands in no tree.
    back.notes.clone_from(&board.notes);
    back.more_notes = board.more_notes;
    // The tree says segments first, as the tables did; the rest is word by word.
    assert_eq!(back, *board);
}

fn both_ways(tables: &[Vec<u8>]) {
    read(&firmware(tables), |board| {
        let mut board = board.expect("readable");
        same(&board);
        board.chosen.initrd = palisade_board::Range::new(0x5000_0000, 0x1234);
        board.timer.frequency = Some(24_000_000);
        board.timer.hypervisor_virtual = Some(Interrupt { intid: 28, trigger: Trigger::Level });
        if let Some(uart) = &mut board.uart {
            (uart.clock, uart.baud) = (Some(1_843_200), Some(115_200));
        }
        same(&board);
    });
}

#[test]
fn qemus_machine() {
    both_ways(&virt());
}

#[test]
fn reserved_memory_and_holes() {
    let nodes = [
        smmu(0x5000_0000, 0, &[]),
        smmu(0x5100_0000, 0, &[]),
        root(0, &[(0, 0xff, 0x30, 1, 0), (0x100, 0x6ff, 0x1000, 0, 0)]),
        rmr(&[(0x7000_0000, 0x20_0000), (0x7000_0000, 0x1000)], &[(0, 0, 0x108, 0, 1)]),
    ];
    both_ways(&virt_but(b"IORT", Some(iort(&nodes))));
}

#[test]
fn a_gicv2_without_a_console() {
    let core = gicc(Gicc { cpu: 0x801_0000, mpidr: 0x1_0203, ..CORE });
    let mut frame = vec![0xd, 24, 0, 0, 0, 0, 0, 0];
    frame.extend(0x802_0000u64.to_le_bytes());
    frame.extend([0; 8]);
    let mut tables = virt_but(b"APIC", Some(madt(&[gicd(0x800_0000, 2), core, frame])));
    tables.retain(|table| &table[..4] != b"SPCR" && &table[..4] != b"DBG2");
    both_ways(&tables);
}

#[test]
fn firmwares_numbers_are_said_to_stay() {
    read(&firmware(&virt()), |board| {
        let mut board = board.expect("readable");
        for (keep, found) in [(true, Some(1)), (false, None)] {
            board.pcie.iter_mut().for_each(|host| host.keep = keep);
            same(&board);
            let blob = tree(&board).expect("can be written");
            let tree = Tree::new(&blob).expect("valid");
            let chosen = tree.node("/chosen").expect("there");
            assert_eq!(chosen.u32("linux,pci-probe-only"), found);
        }
    });
}
