//! What the reader makes of the trees that QEMU's `virt` machine hands over
//! (GICv2 and GICv3, 4 cores, 2 GiB, SMMUv3; all virtio-mmio slots but one cut).

use palisade_board::{Conduit, EnableMethod, Interrupt, Space, Trigger, Version};
use palisade_fdt::{Tree, board};

const GIC3: &[u8] = include_bytes!("virt-gic3.dtb");
const GIC2: &[u8] = include_bytes!("virt-gic2.dtb");

fn edge(intid: u32) -> Option<Interrupt> {
    Some(Interrupt { intid, trigger: Trigger::Edge })
}

fn level(intid: u32) -> Interrupt {
    Interrupt { intid, trigger: Trigger::Level }
}

#[test]
fn memory_cores_and_psci() {
    let tree = Tree::new(GIC3).expect("valid");
    let board = board(&tree).expect("readable");
    assert_eq!(board.compatible, "linux,dummy-virt");
    let memory: Vec<_> = board.memory.iter().map(|range| (range.start(), range.size())).collect();
    assert_eq!(memory, [(0x4000_0000, 0x8000_0000)]);
    let cores: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr, cpu.enable)).collect();
    assert_eq!(cores, [0, 1, 2, 3].map(|mpidr| (mpidr, EnableMethod::Psci)));
    assert_eq!(board.psci, Some(Conduit::Smc));
    assert!(board.reserved.is_empty());
}

#[test]
fn gic_v3_with_its_and_timer() {
    let tree = Tree::new(GIC3).expect("valid");
    let board = board(&tree).expect("readable");
    assert_eq!(board.gic.distributor.start(), 0x0800_0000);
    assert_eq!(board.gic.maintenance, Some(level(25)));
    let Version::V3 { redistributors, stride, its } = &board.gic.version else {
        panic!("not a GICv3");
    };
    let regions: Vec<_> = redistributors.iter().map(|r| (r.start(), r.size())).collect();
    assert_eq!(regions, [(0x080a_0000, 0xf6_0000)]);
    assert_eq!(*stride, None);
    assert_eq!(its.iter().map(|its| its.registers.start()).collect::<Vec<_>>(), [0x0808_0000]);
    assert_eq!((board.timer.physical.intid, board.timer.virtual_.intid), (30, 27));
    assert_eq!(board.timer.hypervisor.map(|line| line.intid), Some(26));
}

#[test]
fn gic_v2_with_its_virtual_side() {
    let tree = Tree::new(GIC2).expect("valid");
    let board = board(&tree).expect("readable");
    let Version::V2 { cpu, hypervisor, virtual_cpu, v2m } = &board.gic.version else {
        panic!("not a GICv2");
    };
    assert_eq!(cpu.start(), 0x0801_0000);
    assert_eq!(hypervisor.map(|r| r.start()), Some(0x0803_0000));
    assert_eq!(virtual_cpu.map(|r| r.start()), Some(0x0804_0000));
    assert_eq!(v2m.map(|r| r.start()), Some(0x0802_0000));
    assert_eq!(board.gic.maintenance, Some(level(25)));
}

#[test]
fn smmu_with_its_interrupts() {
    let tree = Tree::new(GIC3).expect("valid");
    let board = board(&tree).expect("readable");
    assert_eq!(board.smmus.len(), 1);
    let smmu = &board.smmus[0];
    assert_eq!((smmu.registers.start(), smmu.registers.size()), (0x0905_0000, 0x2_0000));
    assert_eq!(smmu.eventq, edge(32 + 74));
    assert_eq!(smmu.priq, edge(32 + 75));
    assert_eq!(smmu.cmdq_sync, edge(32 + 76));
    assert_eq!(smmu.gerror, edge(32 + 77));
    assert!(smmu.coherent);
}

#[test]
fn pcie_with_its_maps() {
    let tree = Tree::new(GIC3).expect("valid");
    let board = board(&tree).expect("readable");
    assert_eq!(board.pcie.len(), 1);
    let host = &board.pcie[0];
    assert_eq!((host.ecam.start(), host.ecam.size()), (0x40_1000_0000, 0x1000_0000));
    assert_eq!((host.segment, host.first_bus, host.last_bus), (0, 0, 255));
    let windows: Vec<_> =
        host.windows.iter().map(|w| (w.space, w.bus, w.cpu.start(), w.cpu.size())).collect();
    assert_eq!(
        windows,
        [
            (Space::Io, 0, 0x3eff_0000, 0x1_0000),
            (Space::Memory32, 0x1000_0000, 0x1000_0000, 0x2eff_0000),
            (Space::Memory64, 0x80_0000_0000, 0x80_0000_0000, 0x80_0000_0000),
        ]
    );
    assert_eq!(host.interrupt(1, 1), Some(level(36)), "device 1 pin A is SPI 4");
    assert_eq!(host.interrupt(3, 4), Some(level(37)));
    let smmu = board.smmus[0].phandle;
    assert_eq!(host.iommu_map.lookup(0x0108), Some((smmu, 0x0108)));
    assert!(host.msi_map.lookup(0x0108).is_some());
}

#[test]
fn console_with_its_clock() {
    let tree = Tree::new(GIC3).expect("valid");
    let board = board(&tree).expect("readable");
    let uart = board.uart.expect("a PL011");
    assert_eq!(uart.registers.start(), 0x0900_0000);
    assert_eq!(uart.interrupt, Some(level(33)));
    assert_eq!(uart.clock, Some(24_000_000));
}

#[test]
fn plain_devices_and_bus_masters() {
    let tree = Tree::new(GIC3).expect("valid");
    let gic = board(&tree).expect("readable").gic.phandle;
    let rtc = tree.device("/pl031@9010000", gic).expect("there");
    assert_eq!(rtc.registers[0].start(), 0x0901_0000);
    assert_eq!(rtc.interrupts[0], level(34));
    assert_eq!(rtc.bus_master, None);
    for path in ["/virtio_mmio@a003e00", "/pcie@10000000", "/intc@8000000", "/smmuv3@9050000"] {
        if let Ok(device) = tree.device(path, gic) {
            assert!(device.bus_master.is_some(), "{path}");
        }
    }
    assert!(tree.device("/pcie@10000000", gic).is_ok());
    assert!(tree.device("/nothing@0", gic).is_err());
    assert!(tree.device("pl031@9010000", gic).is_err(), "not a full path");
}
