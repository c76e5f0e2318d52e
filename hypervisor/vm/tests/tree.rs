//! The guest's device tree, read back by the reader that reads the board's own.

use palisade_board::{Conduit, EnableMethod, Space, Version as Controller};
use palisade_fdt::{Tree, board};
use palisade_gic::Version;
use palisade_vm::load::{Machine, tree};

fn machine(gic: Version) -> Machine<'static> {
    Machine {
        vcpus: 3,
        memory: 64 << 20,
        bootargs: "console=ttyAMA0 quiet",
        initrd: Some((0x4300_0000, 0x1234)),
        gic,
        its: gic == Version::V3,
        pci: true,
        firmware: false,
        plain: None,
        no_dma_isolation: true,
        smmus: &[],
    }
}

#[test]
fn it_describes_the_platform_that_every_guest_sees() {
    let bytes = tree(&machine(Version::V3)).unwrap();
    let tree = Tree::new(&bytes).unwrap();
    let board = board(&tree).unwrap();
    assert_eq!(board.memory.len(), 1);
    assert_eq!((board.memory[0].start(), board.memory[0].size()), (0x4000_0000, 64 << 20));
    let cpus: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr, cpu.enable)).collect();
    assert_eq!(cpus, [0, 1, 2].map(|n| (n, EnableMethod::Psci)));
    assert_eq!(board.psci, Some(Conduit::Hvc));
    assert_eq!(board.gic.distributor.start(), 0x0800_0000);
    let Controller::V3 { redistributors, its, .. } = &board.gic.version else { panic!("no GICv3") };
    assert_eq!((redistributors[0].start(), redistributors[0].size()), (0x080a_0000, 0x6_0000));
    assert_eq!(its.iter().map(|its| its.registers.start()).collect::<Vec<_>>(), [0x0808_0000]);
    assert_eq!((board.timer.virtual_.intid, board.timer.physical.intid), (27, 30));
    let uart = board.uart.unwrap();
    assert_eq!(uart.registers.start(), 0x0900_0000);
    assert_eq!((uart.interrupt.unwrap().intid, uart.clock), (33, Some(24_000_000)));
    assert_eq!(board.pcie[0].ecam.start(), 0x40_1000_0000);
    assert_eq!(board.pcie[0].interrupt(1, 1).unwrap().intid, 36);
    let windows = board.pcie[0].windows.iter();
    let windows: Vec<_> = windows.map(|one| (one.space, one.bus, one.cpu.start())).collect();
    let wanted = [
        (Space::Io, 0, 0x3eff_0000),
        (Space::Memory32, 0x1000_0000, 0x1000_0000),
        (Space::Memory64, 0x60_0000_0000, 0x60_0000_0000),
    ];
    assert_eq!(windows, wanted);
    assert_eq!(board.chosen.bootargs, "console=ttyAMA0 quiet");
    let initrd = board.chosen.initrd.unwrap();
    assert_eq!((initrd.start(), initrd.size()), (0x4300_0000, 0x1234));
}

#[test]
fn a_board_with_gicv2_shows_gicv2() {
    let bytes = tree(&machine(Version::V2)).unwrap();
    let tree = Tree::new(&bytes).unwrap();
    let board = board(&tree).unwrap();
    let Controller::V2 { cpu, .. } = &board.gic.version else { panic!("no GICv2") };
    assert_eq!(cpu.start(), 0x0801_0000);
    assert_eq!(board.pcie[0].interrupt(0, 1).unwrap().intid, 35);
}
