//! What the reader makes of the tables of QEMU's `virt` machine (GICv3, 4 cores, SMMUv3).

mod common;

use common::{good, notes, virt};
use palisade_board::{Conduit, EnableMethod, Interrupt, Trigger, UartKind, Version};

const fn edge(intid: u32) -> Option<Interrupt> {
    Some(Interrupt { intid, trigger: Trigger::Edge })
}

const fn level(intid: u32) -> Interrupt {
    Interrupt { intid, trigger: Trigger::Level }
}

#[test]
fn cores_psci_and_names() {
    good(&virt(), |board| {
        assert_eq!((board.model, board.compatible), ("ACME", "ACME"), "the XSDT's");
        let cores: Vec<_> = board.cpus.iter().map(|cpu| (cpu.mpidr, cpu.enable)).collect();
        assert_eq!(cores, [0, 1, 2, 3].map(|mpidr| (mpidr, EnableMethod::Psci)));
        assert_eq!(board.psci, Some(Conduit::Smc));
        assert_eq!(board.chosen.argument("a"), Some("b"));
        assert_eq!(notes(&board), [""; 0], "nothing is left out");
    });
}

#[test]
fn gic_with_its_and_timer() {
    good(&virt(), |board| {
        let distributor = board.gic.distributor;
        assert_eq!((distributor.start(), distributor.size()), (0x0800_0000, 0x1_0000));
        assert_eq!(board.gic.maintenance, Some(level(25)));
        let Version::V3 { redistributors, stride, its } = &board.gic.version else {
            panic!("not a GICv3");
        };
        let regions: Vec<_> = redistributors.iter().map(|r| (r.start(), r.size())).collect();
        assert_eq!((regions, *stride), (vec![(0x080a_0000, 0xf6_0000)], None));
        let its: Vec<_> = its.iter().map(|its| its.registers.start()).collect();
        assert_eq!(its, [0x0808_0000]);
        let timer = &board.timer;
        assert_eq!((timer.secure, timer.physical), (Some(level(29)), level(30)));
        assert_eq!((timer.virtual_, timer.hypervisor), (level(27), Some(level(26))));
        assert_eq!(timer.hypervisor_virtual, None);
    });
}

#[test]
fn smmu_and_what_is_behind_it() {
    good(&virt(), |board| {
        let [smmu] = board.smmus.as_slice() else { panic!("one SMMU") };
        assert_eq!((smmu.registers.start(), smmu.registers.size()), (0x0905_0000, 0x2_0000));
        assert_eq!((smmu.eventq, smmu.priq), (edge(106), edge(107)));
        assert_eq!((smmu.cmdq_sync, smmu.gerror), (edge(108), edge(109)));
        assert!(smmu.coherent);
        let [host] = board.pcie.as_slice() else { panic!("one host") };
        assert_eq!((host.ecam.start(), host.ecam.size()), (0x40_1000_0000, 0x1000_0000));
        assert_eq!((host.segment, host.first_bus, host.last_bus), (0, 0, 255));
        assert!(host.coherent && host.windows.is_empty() && host.interrupt_map.is_empty());
        assert_eq!(host.iommu_map.lookup(0x1ff), Some((smmu.phandle, 0x1ff)));
        assert_eq!(host.iommu_map.lookup(0x200), None, "no SMMU sees bus 2");
        let Version::V3 { its, .. } = &board.gic.version else { panic!("not a GICv3") };
        for requester in [0, 0x1ff, 0x200, 0xffff] {
            let device = Some((its[0].phandle, requester.into()));
            assert_eq!(host.msi_map.lookup(requester), device, "{requester:#x}");
        }
    });
}

#[test]
fn console_as_the_spcr_says() {
    good(&virt(), |board| {
        let uart = board.uart.expect("a PL011");
        assert_eq!((uart.kind, uart.registers.start()), (UartKind::Pl011, 0x0900_0000));
        assert_eq!((uart.interrupt, uart.clock, uart.baud), (Some(level(33)), None, None));
    });
    let tables = common::virt_but(b"SPCR", None);
    good(&tables, |board| {
        let uart = board.uart.expect("the DBG2's");
        assert_eq!((uart.kind, uart.registers.start()), (UartKind::Pl011, 0x0900_0000));
        assert_eq!(uart.interrupt, None, "it names none");
    });
}
