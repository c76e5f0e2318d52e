//! Machines that QEMU does not have, as hand-made tables: what must come out.

mod common;

use common::{
    CORE, Gicc, gicc, gicd, gicr, good, group, iort, its, madt, mcfg, named, notes, rmr, root,
    smmu, table, virt_but, words,
};
use palisade_acpi::{Iort, Mapping, NodeKind, Tables};
use palisade_board::{Conduit, EnableMethod, MAX_CPUS, PcieHost, UartKind, Version};

/// The phandles that are made up.
const ITS: u32 = 0x100;
const SMMU: u32 = 0x200;

/// Lines of the SMMU map and the ITS map of a host: input, controller, output, length.
type Lines = Vec<(u32, u32, u32, u32)>;

fn maps(host: &PcieHost) -> (Lines, Lines) {
    let lines = |map: &palisade_board::IdMap| {
        let lines = map.entries.iter();
        lines.map(|line| (line.input, line.controller, line.output, line.length)).collect()
    };
    (lines(&host.iommu_map), lines(&host.msi_map))
}

#[test]
fn several_segments_each_with_its_own() {
    let mut tables = virt_but(
        b"IORT",
        Some(iort(&[
            group(&[7]),
            group(&[9, 0]),
            smmu(0x5000_0000, 0, &[(0, 0xffff, 0x1_0000, 0, 0)]),
            smmu(0x5100_0000, 1, &[(0x100, 0xff, 0x2_0000, 1, 0)]),
            root(1, &[(0, 0xffff, 0x3_0000, 3, 0)]),
            root(0, &[(0x100, 0xff, 0, 2, 0), (0x200, 0xff, 0x100, 3, 0), (0x300, 7, 5, 1, 0)]),
        ])),
    );
    tables.retain(|table| &table[..4] != b"MCFG" && &table[..4] != b"APIC");
    tables.push(mcfg(&[(0x10_0000_0000, 0, 1, 0x3f), (0x20_0000_0000, 1, 0, 255)]));
    tables.push(madt(&[
        gicc(CORE),
        gicd(0x3000_0000, 3),
        gicr(0x3010_0000, 0x4_0000),
        its(7, 0x3100_0000),
        its(9, 0x3200_0000),
    ]));
    good(&tables, |board| {
        assert_eq!(notes(&board), [""; 0]);
        let smmus: Vec<_> = board.smmus.iter().map(|smmu| smmu.registers.start()).collect();
        assert_eq!(smmus, [0x5000_0000, 0x5100_0000]);
        assert_eq!(board.smmus[0].priq, None, "GSIV 0 is none");
        let [first, second] = board.pcie.as_slice() else { panic!("two hosts") };
        // The base is bus 0's.
        assert_eq!((first.ecam.start(), first.ecam.size()), (0x10_0010_0000, 0x3f0_0000));
        assert_eq!((first.segment, first.first_bus, first.last_bus), (0, 1, 0x3f));
        let streams = vec![(0x100, SMMU, 0, 0x100), (0x200, SMMU + 1, 0x100, 0x100)];
        let messages = vec![
            (0x100, ITS, 0x1_0000, 0x100),
            (0x200, ITS + 1, 0x2_0000, 0x100),
            // No SMMU stands before these.
            (0x300, ITS + 1, 5, 8),
        ];
        assert_eq!(maps(first), (streams, messages));
        // What an SMMU sends on to no ITS sends no messages.
        assert_eq!(maps(second), (vec![(0, SMMU + 1, 0x3_0000, 0x1_0000)], vec![]));
        assert_eq!(second.segment, 1);
    });
}

#[test]
fn counts_that_are_one_too_large() {
    let with = |maps: &[common::Map]| {
        let nodes = [group(&[0]), smmu(0x5000_0000, 0, &[(0, 0x1_0000, 0, 0, 0)]), root(0, maps)];
        good(&virt_but(b"IORT", Some(iort(&nodes))), |board| {
            (maps_of(&board.pcie[0]), notes(&board))
        })
    };
    fn maps_of(host: &PcieHost) -> Lines {
        maps(host).0
    }
    let said = |notes: &[String]| notes.iter().filter(|note| note.contains("counts N")).count();

    // As the specification says.
    let (lines, notes) = with(&[(0, 0x1ff, 0, 1, 0), (0x200, 0xff, 0x200, 1, 0)]);
    assert_eq!((lines, said(&notes)), (vec![(0, SMMU, 0, 0x300)], 0));
    // One mapping of everything, N of it.
    let (lines, notes) = with(&[(0, 0x1_0000, 0, 1, 0)]);
    assert_eq!((lines, said(&notes)), (vec![(0, SMMU, 0, 0x1_0000)], 1));
    // N of two buses and nothing behind them: the function 02:00.0 is seen by no SMMU.
    let (lines, notes) = with(&[(0, 0x200, 0, 1, 0)]);
    assert_eq!((lines, said(&notes)), (vec![(0, SMMU, 0, 0x200)], 1));
    // N that meets the next one.
    let (lines, notes) = with(&[(0, 3, 0x40, 1, 0), (3, 2, 0x80, 1, 0)]);
    assert_eq!((lines, said(&notes)), (vec![(0, SMMU, 0x40, 3), (3, SMMU, 0x80, 3)], 1));
    // A single function counts 0.
    let (lines, notes) = with(&[(0x18, 0, 9, 1, 0)]);
    assert_eq!((lines, said(&notes)), (vec![(0x18, SMMU, 9, 1)], 0));
}

#[test]
fn mappings_that_contradict_each_other_are_all_left_out() {
    let nodes = [
        group(&[0]),
        smmu(0x5000_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
        root(
            0,
            &[
                (0x300, 0xff, 0x300, 1, 0),
                (0, 0x1ff, 0, 1, 0),
                (0x80, 0xf, 0x1000, 1, 0),
                (0x100, 0xff, 0x2000, 1, 0),
            ],
        ),
    ];
    good(&virt_but(b"IORT", Some(iort(&nodes))), |board| {
        assert_eq!(maps(&board.pcie[0]).0, [(0x300, SMMU, 0x300, 0x100)]);
        let notes = notes(&board);
        let [note] = notes.as_slice() else { panic!("{notes:?}") };
        assert!(note.contains("IORT") && note.contains("overlaps another"), "{note}");
    });
}

#[test]
fn memory_that_firmware_keeps_devices_accessing() {
    let nodes = [
        group(&[0]),
        smmu(0x5000_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
        root(0, &[(0, 0xffff, 0, 1, 0)]),
        rmr(&[(0x7000_0000, 0x20_0000), (0x6000_0000, 0x1000)], &[(0, 0, 0x108, 1, 1)]),
        rmr(&[(0x7800_0000, 0x1000)], &[(0x200, 7, 0x200, 1, 0)]),
    ];
    good(&virt_but(b"IORT", Some(iort(&nodes))), |board| {
        let kept: Vec<_> = board
            .reserved
            .iter()
            .map(|kept| (kept.range.start(), kept.range.size(), kept.no_map))
            .collect();
        assert_eq!(
            kept,
            [
                (0x6000_0000, 0x1000, true),
                (0x7000_0000, 0x20_0000, true),
                (0x7800_0000, 0x1000, true)
            ]
        );
        let host = &board.pcie[0];
        let streams =
            [(0, SMMU, 0, 0x108), (0x109, SMMU, 0x109, 0xf7), (0x208, SMMU, 0x208, 0xfdf8)];
        assert_eq!(maps(host).0, streams);
        let found: Vec<_> = [0x107, 0x108, 0x109, 0x1ff, 0x200, 0x207, 0x208]
            .map(|requester| host.iommu_map.lookup(requester).is_some())
            .into();
        assert_eq!(found, [true, false, true, true, false, false, true]);
        assert!(host.msi_map.lookup(0x108).is_none(), "nor does it send messages");
        assert!(notes(&board).iter().any(|note| note.contains("RMR")), "{:?}", notes(&board));
    });
}

#[test]
fn named_components_are_known_by_their_paths() {
    let nodes =
        [smmu(0x5000_0000, 0, &[]), named("\\_SB_.ETH0", &[(0, 0, 0x33, 0, 1)]), named("", &[])];
    let memory = common::firmware(&virt_but(b"IORT", Some(iort(&nodes))));
    let tables = Tables::new(&memory, common::RSDP).expect("readable");
    let iort = Iort::read(&tables).expect("readable").expect("there");
    let found: Vec<_> = iort
        .nodes
        .iter()
        .filter_map(|node| match node.kind {
            NodeKind::Named(named) => Some((named.name, node.mappings.clone())),
            _ => None,
        })
        .collect();
    let single = Mapping { input: 0, count: 0, output: 0x33, to: 48, single: true };
    assert_eq!(found, [("\\_SB_.ETH0", vec![single]), ("", vec![])]);
}

#[test]
fn smmus_that_are_not_driven() {
    let nodes = [
        group(&[0]),
        smmu(0x5000_0000, 2, &[(0, 0xffff, 0, 0, 0)]),
        smmu(0x5100_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
        smmu(0x5101_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
        smmu(0, 0, &[]),
        (3, vec![0; 60], vec![]),
        root(
            0,
            &[
                (0, 0xff, 0, 1, 0),
                (0x100, 0xff, 0, 2, 0),
                (0x200, 0xff, 0, 3, 0),
                (0x300, 0xff, 0, 5, 0),
                (0x400, 0xff, 0, 99, 0),
            ],
        ),
    ];
    good(&virt_but(b"IORT", Some(iort(&nodes))), |board| {
        assert_eq!(board.smmus.len(), 1);
        assert_eq!(board.smmus[0].registers.start(), 0x5100_0000);
        assert_eq!(maps(&board.pcie[0]).0, [(0x100, SMMU, 0, 0x100)]);
        let all = notes(&board);
        for part in ["SMMUv3 model", "SMMUv3 base at offset", "overlaps", "SMMUv1 or SMMUv2"] {
            assert!(all.iter().any(|note| note.contains(part)), "{part}: {all:?}");
        }
        let cannot = all.iter().filter(|note| note.contains("CANNOT BE MADE TO ABORT")).count();
        assert_eq!(cannot, 3, "{all:?}");
        let nowhere = all.iter().filter(|note| note.contains("names a node")).count();
        assert_eq!(nowhere, 2, "{all:?}");
    });
}

#[test]
fn a_segment_that_is_described_twice_or_not_at_all() {
    let mut tables = virt_but(
        b"IORT",
        Some(iort(&[smmu(0x5000_0000, 0, &[]), root(3, &[(0, 7, 0, 0, 0)]), root(3, &[])])),
    );
    tables.retain(|table| &table[..4] != b"MCFG");
    let bases =
        [(0x10_0000_0000, 3, 0, 255), (0x20_0000_0000, 4, 0, 255), (0x30_0000_0000, 3, 0, 1)];
    tables.push(mcfg(&bases));
    good(&tables, |board| {
        let segments: Vec<_> = board.pcie.iter().map(|host| host.segment).collect();
        assert_eq!(segments, [3, 4]);
        assert!(board.pcie.iter().all(|host| host.iommu_map.entries.is_empty()));
        let notes = notes(&board);
        assert_eq!(notes.len(), 3, "{notes:?}");
    });
}

#[test]
fn a_gicv2_and_its_frame() {
    let mut frame = vec![0xd, 24, 0, 0, 0, 0, 0, 0];
    frame.extend(0x802_0000u64.to_le_bytes());
    frame.extend([0; 8]);
    let cores = [0, 1].map(|mpidr| gicc(Gicc { cpu: 0x801_0000, mpidr, ..CORE }));
    let [one, two] = cores;
    let tables = virt_but(b"APIC", Some(madt(&[gicd(0x800_0000, 2), one, two, frame])));
    good(&tables, |board| {
        let Version::V2 { cpu, hypervisor, virtual_cpu, v2m } = &board.gic.version else {
            panic!("not a GICv2");
        };
        assert_eq!(cpu.start(), 0x801_0000);
        assert_eq!(hypervisor.map(|range| range.start()), Some(0x803_0000));
        assert_eq!(virtual_cpu.map(|range| range.start()), Some(0x804_0000));
        assert_eq!(v2m.map(|range| range.start()), Some(0x802_0000));
        assert_eq!(board.cpus.len(), 2);
    });
}

#[test]
fn redistributors_that_the_cores_name() {
    let core = |mpidr: u64, redistributor| gicc(Gicc { mpidr, redistributor, ..CORE });
    let tables = virt_but(
        b"APIC",
        Some(madt(&[
            core(0x100, 0x3012_0000),
            core(0, 0x3010_0000),
            core(0x1_0000_0000, 0x3080_0000),
            gicd(0x3000_0000, 0),
        ])),
    );
    good(&tables, |board| {
        let Version::V3 { redistributors, .. } = &board.gic.version else { panic!("GICv3") };
        let regions: Vec<_> = redistributors.iter().map(|r| (r.start(), r.size())).collect();
        assert_eq!(regions, [(0x3010_0000, 0x4_0000), (0x3080_0000, 0x2_0000)]);
        let cores: Vec<_> = board.cpus.iter().map(|cpu| cpu.mpidr).collect();
        assert_eq!(cores, [0x100, 0, 0x1_0000_0000]);
    });
}

#[test]
fn cores_that_stay_off() {
    let core = |mpidr: u64, flags| gicc(Gicc { mpidr, flags, ..CORE });
    let mut structures = vec![gicd(0x3000_0000, 3), gicr(0x3010_0000, 0x100_0000)];
    // Online capable, but not there yet; the same twice; and more than there is room for.
    structures.push(core(0xff00, 1 << 3));
    structures.extend([core(0, 1), core(0, 1)]);
    structures.extend((1..64).map(|mpidr| core(mpidr, 1)));
    good(&virt_but(b"APIC", Some(madt(&structures))), |board| {
        assert_eq!(board.cpus.len(), MAX_CPUS);
        assert!(board.cpus.iter().all(|cpu| cpu.mpidr < 64));
        let notes = notes(&board);
        assert_eq!(notes.len(), 2, "said once each: {notes:?}");
        assert!(notes[1].contains("more than 32"), "{notes:?}");
    });
}

#[test]
fn psci_by_hvc_and_none() {
    let fadt = |arch: u16| {
        let mut body = vec![0u8; 240];
        body[112 - 36..116 - 36].copy_from_slice(&(1u32 << 20).to_le_bytes());
        body[129 - 36..131 - 36].copy_from_slice(&arch.to_le_bytes());
        virt_but(b"FACP", Some(table(b"FACP", &body)))
    };
    good(&fadt(3), |board| assert_eq!(board.psci, Some(Conduit::Hvc)));
    good(&fadt(0), |board| {
        assert_eq!(board.psci, None);
        assert!(board.cpus.iter().all(|cpu| cpu.enable == EnableMethod::None));
    });
    let x86 = virt_but(b"FACP", Some(table(b"FACP", &[0; 240])));
    good(&x86, |board| {
        assert_eq!(board.psci, None);
        assert!(notes(&board)[0].contains("FADT: PSCI is not used"), "{:?}", notes(&board));
    });
}

#[test]
fn consoles_of_every_kind() {
    let spcr = |kind: u8, width: u8, access: u8| {
        let mut body = vec![kind, 0, 0, 0, 0, width, 0, access];
        body.extend(0x1c02_0000u64.to_le_bytes());
        body.extend([8, 0]);
        body.extend(96u32.to_le_bytes());
        body.extend([0; 22]);
        good(&virt_but(b"SPCR", Some(table(b"SPCR", &body))), |board| {
            assert_eq!(board.uart.is_none(), board.notes.len() == 1);
            board.uart.map(|uart| uart.kind)
        })
    };
    let ns16550 = |shift, width| Some(UartKind::Ns16550 { shift, width });
    assert_eq!(spcr(3, 32, 3), Some(UartKind::Pl011));
    assert_eq!(spcr(0xd, 32, 3), Some(UartKind::Sbsa));
    assert_eq!(spcr(0xe, 32, 3), Some(UartKind::Sbsa));
    assert_eq!(spcr(0, 8, 1), ns16550(0, 1));
    assert_eq!(spcr(0x12, 32, 3), ns16550(2, 4));
    assert_eq!(spcr(0x12, 32, 1), ns16550(2, 1));
    assert_eq!(spcr(0x12, 8, 3), None, "an access that reaches into the next register");
    assert_eq!(spcr(0x77, 32, 3), None, "a kind that nobody knows");
}

#[test]
fn timers_that_nobody_needs_may_be_wrong() {
    let gtdt = |gsivs: [u32; 4]| {
        let mut body = vec![0u8; 12];
        gsivs.iter().for_each(|gsiv| body.extend(words(&[*gsiv, 1])));
        body.extend([0; 16]);
        virt_but(b"GTDT", Some(table(b"GTDT", &body)))
    };
    good(&gtdt([0, 30, 27, 500]), |board| {
        assert_eq!((board.timer.secure, board.timer.hypervisor), (None, None));
        assert_eq!(board.timer.physical.trigger, palisade_board::Trigger::Edge);
    });
    let error = common::bad(&gtdt([29, 0, 27, 26]));
    assert!(error.contains("GTDT, offset 0x38") && error.contains("Non-Secure EL1"), "{error}");
}
