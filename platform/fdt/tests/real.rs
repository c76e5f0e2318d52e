//! What real boards' trees have, and other readers trip over. Each tree here is made of the parts
//! that matter; the whole ones are read by `cargo xtask boards`.

mod common;

use common::{GIC, controller, cores, gic3, host, machine, memory, notes, read, smmu, tree};
use palisade_board::{Conduit, EnableMethod, Space, Trigger, UartKind, Version};
use palisade_fdt::{Error, Tree, board, bootargs, conduit, console};
use vm_fdt::FdtWriter;

type Done = Result<(), vm_fdt::Error>;

/// Two hosts, three SMMUs and four translation services, of which the hosts name the last two.
fn morello(fdt: &mut FdtWriter) -> Done {
    machine(fdt)?;
    for (at, phandle) in [(0x2ce0_0000, 14), (0x4f00_0000, 22), (0x4f40_0000, 20)] {
        smmu(fdt, at, phandle, 1, &[0, 76, 1, 0, 80, 1])?;
    }
    for (at, segment, smmu, its) in [(0xc000_0000, 0, 20, 19), (0xd000_0000, 1, 22, 21)] {
        host(fdt, at, &|fdt| {
            fdt.property_u32("linux,pci-domain", segment)?;
            fdt.property_null("dma-coherent")?;
            fdt.property_array_u32("iommu-map", &[0, smmu, 0, 0x1_0000])?;
            fdt.property_array_u32("msi-map", &[0, its, 0, 0x1_0000])?;
            fdt.property_array_u32(
                "ranges",
                &[
                    0x0100_0000,
                    0,
                    0,
                    0,
                    0x6f00_0000,
                    0,
                    0x80_0000, //
                    0x0200_0000,
                    0,
                    0x6000_0000,
                    0,
                    0x6000_0000,
                    0,
                    0xf00_0000, //
                    // Called 32-bit, and above 4 GiB.
                    0x4200_0000,
                    9,
                    0,
                    9,
                    0,
                    0x1f,
                    0xc000_0000,
                ],
            )
        })?;
    }
    Ok(())
}

fn services(fdt: &mut FdtWriter) -> Done {
    gic3(fdt, 1, &|fdt| {
        for (at, phandle) in
            [(0x3004_0000, 17), (0x3006_0000, 18), (0x3008_0000, 21), (0x300a_0000, 19)]
        {
            let node = fdt.begin_node(&format!("msi-controller@{at:x}"))?;
            fdt.property_string("compatible", "arm,gic-v3-its")?;
            fdt.property_array_u32("reg", &[0, at, 0, 0x2_0000])?;
            fdt.property_u32("#msi-cells", 1)?;
            fdt.property_u32("phandle", phandle)?;
            fdt.end_node(node)?;
        }
        Ok(())
    })
}

#[test]
fn morello_is_read_whole() {
    read(&tree(Some(&services), &morello), |board| {
        let board = board.expect("readable");
        assert_eq!(notes(&board), [] as [&str; 0]);
        assert_eq!(board.smmus.iter().map(|smmu| smmu.phandle).collect::<Vec<_>>(), [14, 22, 20]);
        let [first, second] = board.pcie.as_slice() else { panic!("two hosts") };
        assert_eq!((first.segment, second.segment), (0, 1));
        assert_eq!(first.iommu_map.lookup(0x108), Some((20, 0x108)));
        assert_eq!(second.iommu_map.lookup(0x108), Some((22, 0x108)));
        let windows: Vec<_> =
            first.windows.iter().map(|w| (w.space, w.prefetchable, w.bus)).collect();
        assert_eq!(
            windows,
            [
                (Space::Io, false, 0),
                (Space::Memory32, false, 0x6000_0000),
                (Space::Memory64, true, 0x9_0000_0000)
            ]
        );
        let Version::V3 { its, .. } = &board.gic.version else { panic!("a GICv3") };
        let named = |host: usize| {
            let (phandle, device) = board.pcie[host].msi_map.lookup(0x108).expect("mapped");
            assert_eq!(device, 0x108);
            its.iter().find(|its| its.phandle == phandle).map(|its| its.registers.start())
        };
        assert_eq!((named(0), named(1)), (Some(0x300a_0000), Some(0x3008_0000)));
    });
}

#[test]
fn every_window_is_kept_and_one_that_cannot_be_is_named() {
    let line = |n: u32| [0x4300_0000, 2, n << 24, 2, n << 24, 0, 0x10_0000];
    let mut ranges: Vec<u32> = (0..7).flat_map(line).collect();
    // No size: the window before and after are still there.
    ranges.splice(7..7, [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0]);
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        host(fdt, 0xc000_0000, &|fdt| fdt.property_array_u32("ranges", &ranges))
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        assert_eq!(board.pcie[0].windows.len(), 7);
        assert_eq!(
            notes(&board),
            ["pcie@c0000000: one of its address windows is not used: property ranges: an empty \
              range, or one that ends beyond 64 bits"]
        );
    });
}

#[test]
fn windows_go_through_the_buses_ranges() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let soc = fdt.begin_node("soc")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("dma-coherent")?;
        fdt.property_array_u32("ranges", &[0, 0, 0x50, 0, 0x100, 0])?;
        host(fdt, 0xc000_0000, &|fdt| {
            fdt.property_array_u32(
                "ranges",
                &[0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x1000],
            )
        })?;
        fdt.end_node(soc)
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        let host = &board.pcie[0];
        assert_eq!(host.windows[0].cpu.start(), 0x50_1000_0000);
        assert!(host.coherent, "the bus above says so");
    });
}

#[test]
fn hosts_without_a_segment_get_one_of_their_own() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        host(fdt, 0xb000_0000, &|_| Ok(()))?;
        host(fdt, 0xc000_0000, &|_| Ok(()))?;
        host(fdt, 0xd000_0000, &|fdt| fdt.property_u32("linux,pci-domain", 0))?;
        host(fdt, 0xe000_0000, &|fdt| fdt.property_u32("linux,pci-domain", 0))
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        let mut hosts: Vec<_> =
            board.pcie.iter().map(|host| (host.segment, host.ecam.start() as u32)).collect();
        hosts.sort_unstable();
        assert_eq!(hosts, [(0, 0xd000_0000), (1, 0xb000_0000), (2, 0xc000_0000)]);
        assert!(notes(&board)[0].starts_with("pcie@e0000000: no device of this PCIe host"));
    });
}

#[test]
fn msi_parent_serves_where_there_is_no_map() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        host(fdt, 0xc000_0000, &|fdt| fdt.property_u32("msi-parent", 21))
    };
    read(&tree(Some(&services), &parts), |board| {
        let board = board.expect("readable");
        assert_eq!(board.pcie[0].msi_map.lookup(0x0210), Some((21, 0x0210)));
    });
}

#[test]
fn an_smmu_without_a_name_of_its_own_stays_and_has_none() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        for (at, phandle) in
            [(0x1000_0000, 0), (0x1100_0000, 7), (0x1200_0000, 7), (0x1300_0000, 7)]
        {
            smmu(fdt, at, phandle, 1, &[0, 76, 1, 0, 80, 1])?;
        }
        smmu(fdt, 0x1400_0000, 8, 1, &[0, 76, 1, 0, 80, 1])
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        let smmus: Vec<_> =
            board.smmus.iter().map(|smmu| (smmu.registers.start(), smmu.phandle)).collect();
        assert_eq!(
            smmus,
            [
                (0x1000_0000, 0),
                (0x1100_0000, 0),
                (0x1200_0000, 0),
                (0x1300_0000, 0),
                (0x1400_0000, 8)
            ]
        );
        let notes = notes(&board);
        assert!(notes[0].contains("iommu@10000000: all its streams abort") && notes.len() == 3);
        assert!(notes[1].ends_with("two nodes have its phandle"), "{notes:?}");
    });
}

#[test]
fn more_cores_than_are_kept_and_twenty_smmus() {
    let parts = |fdt: &mut FdtWriter| {
        memory(fdt, &[0, 0x8000_0000, 0, 0x4000_0000])?;
        cores(fdt, 64)?;
        (0..20).try_for_each(|n| smmu(fdt, 0x1000_0000 + n * 0x2_0000, 100 + n, 1, &[0, n, 4]))
    };
    let gic = |fdt: &mut FdtWriter| gic3(fdt, 12, &|_| Ok(()));
    read(&tree(Some(&gic), &parts), |board| {
        let board = board.expect("readable");
        assert_eq!((board.cpus.len(), board.cpus[31].mpidr), (32, 31));
        assert_eq!(board.smmus.len(), 20);
        let Version::V3 { redistributors, .. } = &board.gic.version else { panic!("a GICv3") };
        assert_eq!(redistributors.len(), 12);
        assert_eq!(notes(&board), ["cpu@20: this core stays off: more than 32 are not kept"]);
    });
}

#[test]
fn an_smmu_that_could_not_be_silenced_refuses_the_board() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        (0..40).try_for_each(|n| smmu(fdt, 0x1000_0000 + n * 0x2_0000, 100 + n, 1, &[0, n, 4]))
    };
    read(&tree(None, &parts), |board| {
        assert!(matches!(board, Err(Error::TooMany { what: "SMMUs", most: 32, .. })));
    });
}

#[test]
fn memory_is_merged_and_every_reservation_is_kept() {
    let parts = |fdt: &mut FdtWriter| {
        cores(fdt, 1)?;
        memory(fdt, &[0, 0x8000_0000, 0, 0x4000_0000])?;
        // Overlaps the first, and touches it.
        memory(fdt, &[0, 0xa000_0000, 0, 0x3000_0000])?;
        memory(fdt, &[0, 0xd000_0000, 0, 0x1000_0000])?;
        (1..20).try_for_each(|n| memory(fdt, &[n, n << 20, 0, 0x1_0000]))?;
        let reserved = fdt.begin_node("reserved-memory")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        for n in 0..200 {
            let node = fdt.begin_node(&format!("hole@{n:x}"))?;
            fdt.property_array_u32("reg", &[0, 0x8000_0000 + n * 0x10_0000, 0, 0x1000])?;
            fdt.end_node(node)?;
        }
        fdt.end_node(reserved)
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        assert_eq!(board.memory.len(), 20);
        assert_eq!((board.memory[0].start(), board.memory[0].size()), (0x8000_0000, 0x6000_0000));
        for n in 0..200u64 {
            let hole = 0x8000_0000 + n * 0x10_0000;
            assert!(board.reserved.iter().any(|kept| kept.range.contains(hole)), "hole {n}");
        }
    });
    // Fifty are kept apart.
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let reserved = fdt.begin_node("reserved-memory")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        for n in 0..50 {
            let node = fdt.begin_node(&format!("hole@{n:x}"))?;
            fdt.property_array_u32("reg", &[0, 0x8000_0000 + n * 0x10_0000, 0, 0x1000])?;
            fdt.end_node(node)?;
        }
        fdt.end_node(reserved)
    };
    read(&tree(None, &parts), |board| assert_eq!(board.expect("readable").reserved.len(), 50));
}

#[test]
fn a_reservation_that_cannot_be_read_refuses_the_board() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let reserved = fdt.begin_node("reserved-memory")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        let node = fdt.begin_node("hole@0")?;
        fdt.property_array_u32("reg", &[0, 0x8000_0000, 0])?;
        fdt.end_node(node)?;
        fdt.end_node(reserved)
    };
    read(&tree(None, &parts), |board| {
        assert!(matches!(board, Err(Error::Property { property: "reg", .. })));
    });
}

#[test]
fn smmu_interrupts_of_the_extended_ranges_and_of_other_controllers() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        smmu(fdt, 0x1000_0000, 5, 1, &[2, 7, 1, 3, 5, 4])?;
        let node = fdt.begin_node("router")?;
        fdt.property_u32("phandle", 9)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 2)?;
        fdt.end_node(node)?;
        let node = fdt.begin_node("iommu@20000000")?;
        fdt.property_string("compatible", "arm,smmu-v3")?;
        fdt.property_array_u32("reg", &[0, 0x2000_0000, 0, 0x2_0000])?;
        fdt.property_u32("phandle", 6)?;
        fdt.property_array_u32("interrupts-extended", &[9, 1, 4, GIC, 0, 80, 1])?;
        fdt.property_string_list("interrupt-names", vec!["eventq".into(), "gerror".into()])?;
        fdt.end_node(node)
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        let line =
            |line: Option<palisade_board::Interrupt>| line.map(|line| (line.intid, line.trigger));
        let [extended, elsewhere] = board.smmus.as_slice() else { panic!("two SMMUs") };
        assert_eq!(line(extended.eventq), Some((4103, Trigger::Edge)));
        assert_eq!(line(extended.gerror), Some((1061, Trigger::Level)));
        assert_eq!(line(elsewhere.eventq), None);
        assert_eq!(
            line(elsewhere.gerror),
            Some((112, Trigger::Edge)),
            "the next one is still read"
        );
        assert!(notes(&board)[0].starts_with("iommu@20000000: its events are read late"));
    });
}

#[test]
fn iommu_cells_are_honoured_or_the_map_is_refused() {
    for (cells, mapped) in [(0, false), (1, true), (2, false)] {
        let parts = |fdt: &mut FdtWriter| {
            machine(fdt)?;
            smmu(fdt, 0x1000_0000, 5, cells, &[0, 76, 1, 0, 80, 1])?;
            host(fdt, 0xc000_0000, &|fdt| {
                let mut line = vec![0, 5];
                line.extend(std::iter::repeat_n(0x40, cells as usize));
                line.push(0x100);
                // Read at the wrong place, the second line would be another one.
                let second = [0x100, 5, 0x240, 0x100, 0x340, 0x100];
                line.extend(second.iter().take(3 + cells as usize));
                fdt.property_array_u32("iommu-map", &line)
            })?;
            let node = fdt.begin_node("device@9000000")?;
            fdt.property_array_u32("reg", &[0, 0x900_0000, 0, 0x1000])?;
            let mut iommus = vec![5];
            iommus.extend(std::iter::repeat_n(0x77, cells as usize));
            fdt.property_array_u32("iommus", &iommus)?;
            fdt.end_node(node)
        };
        let blob = tree(None, &parts);
        let tree = Tree::new(&blob).expect("valid");
        let board = board(&tree).expect("readable");
        let found = board.pcie[0].iommu_map.lookup(8);
        let device = tree.device("/device@9000000", GIC);
        if mapped {
            assert_eq!(found, Some((5, 0x48)));
            assert_eq!(device.expect("there").streams.as_slice(), [(5, 0x77)]);
        } else {
            assert_eq!(found, None, "{cells} cells");
            assert!(notes(&board)[0].contains("its devices count as behind no SMMU"));
            let error = device.expect_err("refused").to_string();
            assert!(error.contains("property iommus: a number of cells"), "{error}");
        }
    }
}

/// A board with a PL011, and another UART that is said to be the console.
fn with_console(compatible: &'static str, more: &[(&str, u32)]) -> Vec<u8> {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let node = fdt.begin_node("chosen")?;
        fdt.property_string("stdout-path", "serial0:115200n8")?;
        fdt.property_string("bootargs", "palisade.semihosting=1")?;
        fdt.end_node(node)?;
        let node = fdt.begin_node("aliases")?;
        fdt.property_string("serial0", "/serial@feb50000")?;
        fdt.end_node(node)?;
        for (at, compatible) in [(0x900_0000u32, "arm,pl011"), (0xfeb5_0000, compatible)] {
            let node = fdt.begin_node(&format!("serial@{at:x}"))?;
            fdt.property_string("compatible", compatible)?;
            fdt.property_array_u32("reg", &[0, at, 0, 0x1000])?;
            fdt.property_array_u32("interrupts", &[0, 5, 4])?;
            for (name, value) in more {
                fdt.property_u32(name, *value)?;
            }
            fdt.end_node(node)?;
        }
        Ok(())
    };
    tree(None, &parts)
}

#[test]
fn consoles_of_other_kinds() {
    type Kind = (&'static str, &'static [(&'static str, u32)], UartKind);
    let kinds: [Kind; 5] = [
        ("arm,sbsa-uart", &[], UartKind::Sbsa),
        ("ns16550a", &[], UartKind::Ns16550 { shift: 0, width: 1 }),
        (
            "snps,dw-apb-uart",
            &[("reg-shift", 2), ("reg-io-width", 4)],
            UartKind::Ns16550 { shift: 2, width: 4 },
        ),
        ("ti,am654-uart", &[], UartKind::Ns16550 { shift: 2, width: 4 }),
        ("mediatek,mt6577-uart", &[], UartKind::Ns16550 { shift: 2, width: 4 }),
    ];
    for (compatible, more, kind) in kinds {
        read(&with_console(compatible, more), |board| {
            let uart = board.expect("readable").uart.expect(compatible);
            assert_eq!((uart.kind, uart.registers.start()), (kind, 0xfeb5_0000), "{compatible}");
            assert_eq!(uart.interrupt.map(|line| line.intid), Some(37));
        });
    }
}

#[test]
fn where_the_console_is_unknown_no_other_is_written() {
    let layouts: [&[(&str, u32)]; 2] = [&[("reg-io-width", 8)], &[("reg-shift", 77)]];
    for (compatible, more) in
        [("acme,uart", layouts[0]), ("ns16550", layouts[0]), ("ns16550", layouts[1])]
    {
        let blob = with_console(compatible, more);
        assert_eq!(console(&Tree::new(&blob).expect("valid")), None, "{compatible}");
        read(&blob, |board| {
            let board = board.expect("readable");
            assert_eq!(board.uart, None, "{compatible}");
            assert!(notes(&board)[0].starts_with("serial@feb50000: it is no console"));
        });
    }
}

#[test]
fn a_refused_tree_still_says_how_to_speak_and_to_power_off() {
    // No GIC at all.
    let blob = with_console("arm,sbsa-uart", &[]);
    let broken = |name: &[u8]| {
        let mut blob = blob.clone();
        let at = blob.windows(name.len()).position(|window| window == name).expect("there");
        blob[at] = b'x';
        blob
    };
    for blob in [broken(b"arm,gic-v3\0"), broken(b"arm,armv8-timer\0"), broken(b"cpus\0")] {
        let tree = Tree::new(&blob).expect("valid");
        let error = board(&tree).expect_err("refused").to_string();
        assert_eq!(error.matches("device tree").count(), 1, "{error}");
        assert_eq!(conduit(&tree), Some(Conduit::Smc));
        assert_eq!(console(&tree).map(|uart| uart.registers.start()), Some(0xfeb5_0000));
        assert_eq!(bootargs(&tree), "palisade.semihosting=1");
    }
}

#[test]
fn interrupts_through_a_nexus() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let bus = fdt.begin_node("bus@8000000")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 1)?;
        fdt.property_array_u32("ranges", &[0, 0, 0, 0x800_0000, 0x400_0000])?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.property_array_u32("interrupt-map-mask", &[0, 0, 63])?;
        let line = |n| [0, 0, n, GIC, 0, 0, 0, 100 + n, 4];
        fdt.property_array_u32("interrupt-map", &[line(0), line(5), line(6)].concat())?;
        let node = fdt.begin_node("serial@90000")?;
        fdt.property_string("compatible", "arm,pl011")?;
        fdt.property_array_u32("reg", &[0, 0x9_0000, 0x1000])?;
        fdt.property_u32("interrupts", 5)?;
        fdt.end_node(node)?;
        fdt.end_node(bus)
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        let uart = board.uart.expect("a PL011");
        assert_eq!(uart.registers.start(), 0x0809_0000);
        assert_eq!(uart.interrupt.map(|line| line.intid), Some(32 + 105));
        assert_eq!(notes(&board), [] as [&str; 0]);
    });
}

#[test]
fn a_wire_to_elsewhere_costs_that_wire_alone() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        let node = fdt.begin_node("router")?;
        fdt.property_u32("phandle", 9)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.end_node(node)?;
        host(fdt, 0xc000_0000, &|fdt| {
            fdt.property_array_u32("interrupt-map-mask", &[0x1800, 0, 0, 7])?;
            fdt.property_array_u32(
                "interrupt-map",
                &[0, 0, 0, 1, 9, 3, 0, 0, 0, 2, GIC, 0, 0, 0, 12, 4],
            )
        })
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        assert_eq!(board.pcie[0].interrupt(4, 2).map(|line| line.intid), Some(44));
        assert_eq!(board.pcie[0].interrupt(4, 1), None);
        assert!(notes(&board)[0].contains("wires of interrupts are not used"));
    });
}

#[test]
fn a_release_address_that_firmware_did_not_fill_in() {
    let parts = |fdt: &mut FdtWriter| {
        memory(fdt, &[0, 0x8000_0000, 0, 0x4000_0000])?;
        let cpus = fdt.begin_node("cpus")?;
        fdt.property_u32("#address-cells", 1)?;
        fdt.property_u32("#size-cells", 0)?;
        for core in 0..2 {
            let node = fdt.begin_node(&format!("cpu@{core}"))?;
            fdt.property_u32("reg", core)?;
            fdt.property_string("enable-method", "spin-table")?;
            fdt.property_u64("cpu-release-addr", 0)?;
            fdt.end_node(node)?;
        }
        fdt.end_node(cpus)
    };
    read(&tree(None, &parts), |board| {
        let board = board.expect("readable");
        assert_eq!(board.cpus[1].enable, EnableMethod::None);
        assert!(notes(&board)[1].starts_with("cpu@1: this core stays off"));
    });
}

#[test]
fn qualcomms_gic_of_version_2() {
    let gic = |fdt: &mut FdtWriter| {
        let node = fdt.begin_node("interrupt-controller@b000000")?;
        fdt.property_string("compatible", "qcom,msm-qgic2")?;
        controller(fdt)?;
        let page = |n: u32| [0, 0xb00_0000 + n * 0x1000, 0, 0x1000];
        fdt.property_array_u32("reg", &[page(0), page(2), page(1), page(4)].concat())?;
        fdt.end_node(node)
    };
    read(&tree(Some(&gic), &machine), |board| {
        let board = board.expect("readable");
        let Version::V2 { cpu, hypervisor, virtual_cpu, .. } = &board.gic.version else {
            panic!("not a GICv2");
        };
        assert_eq!(cpu.start(), 0xb00_2000);
        assert_eq!(hypervisor.map(|r| r.start()), Some(0xb00_1000));
        assert_eq!(virtual_cpu.map(|r| r.start()), Some(0xb00_4000));
    });
}

/// A controller is looked up once however often it is named: the time is linear in the tree.
#[test]
fn two_megabytes_of_interrupts_are_read_at_once() {
    let parts = |fdt: &mut FdtWriter| {
        machine(fdt)?;
        for n in 0..20_000 {
            let node = fdt.begin_node(&format!("device@{n:x}"))?;
            fdt.property_u32("reg", n)?;
            fdt.end_node(node)?;
        }
        // The GIC of these stands behind all the devices.
        let node = fdt.begin_node("router")?;
        fdt.property_u32("phandle", 9)?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 1)?;
        fdt.end_node(node)?;
        let node = fdt.begin_node("iommu@10000000")?;
        fdt.property_string("compatible", "arm,smmu-v3")?;
        fdt.property_array_u32("reg", &[0, 0x1000_0000, 0, 0x2_0000])?;
        fdt.property_u32("phandle", 6)?;
        fdt.property_array_u32("interrupts-extended", &[9, 1].repeat(100_000))?;
        fdt.property_string_list("interrupt-names", vec!["eventq".into(), "gerror".into()])?;
        fdt.end_node(node)
    };
    let blob = tree(None, &parts);
    assert!(blob.len() > 1 << 20);
    let start = std::time::Instant::now();
    read(&blob, |board| assert_eq!(board.expect("readable").smmus.len(), 1));
    // Looked up for each of them it took an hour.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
