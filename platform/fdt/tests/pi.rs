//! A board like the Raspberry Pi 4: nested buses with `ranges`, a spin table,
//! reservations, GIC-400, DMA engines and mailboxes.

use palisade_board::{BusMaster, EnableMethod, UartKind, Version};
use palisade_fdt::{Error, Tree, board};
use palisade_hal::PhysAddr;
use vm_fdt::{FdtReserveEntry, FdtWriter};

/// Builds the tree; `release` is core 1's `cpu-release-addr`.
fn pi(release: u64) -> Vec<u8> {
    pi_with(release, "palisade.log=debug")
}

fn pi_with(release: u64, words: &str) -> Vec<u8> {
    let mut fdt = FdtWriter::new_with_mem_reserv(&[FdtReserveEntry::new(0, 0x1000).expect("fits")])
        .expect("writer");
    build(&mut fdt, release, words).expect("builds");
    fdt.finish().expect("finishes")
}

fn build(fdt: &mut FdtWriter, release: u64, words: &str) -> Result<(), vm_fdt::Error> {
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "raspberrypi,4-model-b")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 1)?;
    fdt.property_u32("interrupt-parent", 1)?;

    let node = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", "/soc/serial@7e201000")?;
    fdt.property_string("serial1", "/soc/serial@7e215040")?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("stdout-path", "serial1:115200n8")?;
    fdt.property_string("bootargs", words)?;
    fdt.property_u32("linux,initrd-start", 0x0800_0000)?;
    fdt.property_u32("linux,initrd-end", 0x0900_0000)?;
    fdt.end_node(node)?;

    let node = fdt.begin_node("memory@0")?;
    fdt.property_string("device_type", "memory")?;
    // The second range first, and an empty one.
    fdt.property_array_u32("reg", &[0, 0x4000_0000, 0x4000_0000, 0, 0, 0, 0, 0, 0x3b40_0000])?;
    fdt.end_node(node)?;
    let reserved = fdt.begin_node("reserved-memory")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 1)?;
    fdt.property_null("ranges")?;
    let node = fdt.begin_node("linux,cma")?;
    fdt.property_u32("size", 0x0400_0000)?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("nvram@3e000000")?;
    fdt.property_array_u32("reg", &[0, 0x3a00_0000, 0x1000])?;
    fdt.property_null("no-map")?;
    fdt.end_node(node)?;
    fdt.end_node(reserved)?;

    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for core in 0..2 {
        let node = fdt.begin_node(&format!("cpu@{core}"))?;
        fdt.property_u32("reg", core)?;
        fdt.property_string("enable-method", "spin-table")?;
        fdt.property_u64("cpu-release-addr", if core == 1 { release } else { 0xd8 })?;
        fdt.end_node(node)?;
    }
    fdt.end_node(cpus)?;

    let node = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_array_u32(
        "interrupts",
        &[1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08, 1, 10, 0xf08],
    )?;
    fdt.end_node(node)?;
    let node = fdt.begin_node("clock")?;
    fdt.property_u32("phandle", 3)?;
    fdt.property_u32("#clock-cells", 1)?;
    fdt.end_node(node)?;

    let soc = fdt.begin_node("soc")?;
    fdt.property_string("compatible", "simple-bus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 1)?;
    fdt.property_array_u32(
        "ranges",
        &[0x7e00_0000, 0, 0xfe00_0000, 0x0180_0000, 0x4000_0000, 0, 0xff80_0000, 0x0080_0000],
    )?;
    fdt.property_array_u32("dma-ranges", &[0xc000_0000, 0, 0, 0x4000_0000])?;
    let node = fdt.begin_node("interrupt-controller@40041000")?;
    fdt.property_string("compatible", "arm,gic-400")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("phandle", 1)?;
    fdt.property_array_u32(
        "reg",
        &[0x4004_1000, 0x1000, 0x4004_2000, 0x2000, 0x4004_4000, 0x2000, 0x4004_6000, 0x2000],
    )?;
    fdt.property_array_u32("interrupts", &[1, 9, 0xf04])?;
    fdt.end_node(node)?;
    device(fdt, "serial@7e215040", "brcm,bcm2835-aux-uart", 93)?;
    device(fdt, "serial@7e201000", "arm,pl011", 121)?;
    device(fdt, "timer@7e003000", "brcm,bcm2835-system-timer", 64)?;
    device(fdt, "aux@7e215000", "brcm,bcm2835-aux", 93)?;
    device(fdt, "gpio@7e200000", "brcm,bcm2711-gpio", 113)?;
    device(fdt, "dma-controller@7e007000", "brcm,bcm2835-dma", 80)?;
    device(fdt, "mailbox@7e00b880", "brcm,bcm2835-mbox", 33)?;
    device(fdt, "mmc@7e300000", "brcm,bcm2835-mmc", 126)?;
    device(fdt, "usb@7e980000", "brcm,bcm2835-usb", 73)?;
    device(fdt, "thing@7e400000", "acme,thing", 70)?;
    device(fdt, "outside@10000000", "arm,pl031", 70)?;
    fdt.end_node(soc)?;
    fdt.end_node(root)
}

fn device(
    fdt: &mut FdtWriter,
    name: &str,
    compatible: &str,
    spi: u32,
) -> Result<(), vm_fdt::Error> {
    let node = fdt.begin_node(name)?;
    fdt.property_string("compatible", compatible)?;
    let address = name.split('@').nth(1).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    fdt.property_array_u32("reg", &[address.unwrap_or(0), 0x1000])?;
    fdt.property_array_u32("interrupts", &[0, spi, 4])?;
    fdt.property_array_u32("clocks", &[3, 19])?;
    fdt.end_node(node)
}

#[test]
fn addresses_go_through_the_bus_ranges() {
    let blob = pi(0xe0);
    let board = board(&Tree::new(&blob).expect("valid")).expect("readable");
    assert_eq!(board.gic.distributor.start(), 0xff84_1000);
    let Version::V2 { cpu, hypervisor, virtual_cpu, .. } = &board.gic.version else {
        panic!("not a GICv2");
    };
    assert_eq!(cpu.start(), 0xff84_2000);
    assert_eq!(hypervisor.map(|r| r.start()), Some(0xff84_4000));
    assert_eq!(virtual_cpu.map(|r| r.start()), Some(0xff84_6000));
    // stdout is the mini UART, a 16550 in words.
    let uart = board.uart.expect("a UART");
    assert_eq!(uart.kind, UartKind::Ns16550 { shift: 2, width: 4 });
    assert_eq!(uart.registers.start(), 0xfe21_5040);
    assert_eq!(uart.interrupt.map(|i| i.intid), Some(125));
    assert_eq!(uart.clock, None, "a clock that is not fixed says nothing");
    assert!(board.pcie.is_empty() && board.smmus.is_empty());
}

#[test]
fn the_command_line_names_another_console() {
    for words in ["palisade.console=serial0", "palisade.console=/soc/serial@7e201000"] {
        let blob = pi_with(0xe0, words);
        let board = board(&Tree::new(&blob).expect("valid")).expect("readable");
        let uart = board.uart.expect("a PL011");
        assert_eq!((uart.kind, uart.registers.start()), (UartKind::Pl011, 0xfe20_1000));
        assert_eq!(uart.interrupt.map(|i| i.intid), Some(153));
        assert_eq!(uart.clock, None, "a clock that is not fixed says nothing");
    }
}

#[test]
fn memory_is_sorted_and_reservations_kept() {
    let blob = pi(0xe0);
    let board = board(&Tree::new(&blob).expect("valid")).expect("readable");
    let memory: Vec<_> = board.memory.iter().map(|r| (r.start(), r.size())).collect();
    assert_eq!(memory, [(0, 0x3b40_0000), (0x4000_0000, 0x4000_0000)]);
    let reserved: Vec<_> =
        board.reserved.iter().map(|r| (r.range.start(), r.range.size(), r.no_map)).collect();
    assert_eq!(reserved, [(0, 0x1000, false), (0x3a00_0000, 0x1000, true)]);
    assert_eq!(
        board.chosen.initrd.map(|r| (r.start(), r.size())),
        Some((0x0800_0000, 0x0100_0000))
    );
    assert_eq!(board.chosen.argument("palisade.log"), Some("debug"));
}

#[test]
fn spin_table_addresses() {
    let blob = pi(0xe0);
    let info = board(&Tree::new(&blob).expect("valid")).expect("readable");
    assert_eq!(info.cpus[1].enable, EnableMethod::SpinTable { release: PhysAddr::new(0xe0) });
    assert_eq!(info.psci, None);
    let blob = pi(0xe1);
    let info = board(&Tree::new(&blob).expect("valid")).expect("readable");
    assert_eq!(info.cpus[1].enable, EnableMethod::None, "misaligned");
    assert_eq!(
        info.notes[0].to_string(),
        "cpu@1: this core stays off: property cpu-release-addr: a value that cannot be right"
    );
}

#[test]
fn bus_masters_are_told_apart() {
    let blob = pi(0xe0);
    let tree = Tree::new(&blob).expect("valid");
    for (name, expected) in [
        ("timer@7e003000", None),
        ("gpio@7e200000", None),
        ("serial@7e201000", None),
        ("dma-controller@7e007000", Some(BusMaster::DmaEngine)),
        ("mailbox@7e00b880", Some(BusMaster::Mailbox)),
        ("mmc@7e300000", Some(BusMaster::SdHost)),
        ("usb@7e980000", Some(BusMaster::Usb)),
        ("interrupt-controller@40041000", Some(BusMaster::System)),
        ("thing@7e400000", Some(BusMaster::Unknown)),
    ] {
        let device = tree.device(&format!("/soc/{name}"), 1).expect(name);
        assert_eq!(device.bus_master, expected, "{name}");
    }
    assert!(
        matches!(tree.device("/soc/outside@10000000", 1), Err(Error::Property { .. })),
        "outside every range of its bus: no address to map"
    );
}

#[test]
fn who_shares_a_page_or_a_line_is_named() {
    let blob = pi(0xe0);
    let tree = Tree::new(&blob).expect("valid");
    let neighbours = |name: &str| {
        let device = tree.device(&format!("/soc/{name}"), 1).expect("there");
        device.neighbours.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(neighbours("aux@7e215000"), ["/soc/serial@7e215040"]);
    assert_eq!(neighbours("serial@7e215040"), ["/soc/aux@7e215000"]);
    assert_eq!(neighbours("timer@7e003000"), [] as [&str; 0]);
    let thing = tree.device("/soc/thing@7e400000", 1).expect("there");
    let sharers: Vec<_> = thing.line_sharers.iter().map(ToString::to_string).collect();
    assert_eq!(sharers, ["/soc/outside@10000000"], "SPI 70 is both devices'");
    let timer = tree.device("/soc/timer@7e003000", 1).expect("there");
    assert!(timer.line_sharers.is_empty());
    let timer = tree.device("/soc/timer@7e003000", 1).map(|device| device.compatible);
    assert_eq!(timer.expect("there"), b"brcm,bcm2835-system-timer\0");
}
