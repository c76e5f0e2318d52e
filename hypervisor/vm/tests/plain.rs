//! Devices by device tree path: what is refused, and where the guest sees the rest.

use std::sync::Arc;

use arrayvec::ArrayString;
use palisade_board::{BusMaster, Interrupt, PlainDevice, Range, Trigger};
use palisade_iommu::fake::{FakeDriver, registration};
use palisade_iommu::{Capabilities, IommuDriver, Iommus, StallModel};
use palisade_vm::layout::{PLAIN, PLAIN_INTID};
use palisade_vm::load::TreeWriter;
use palisade_vm::passthrough::{
    Held, Holder, LineBook, PlainBook, PlainRefusal, describe_plain, no_stalls,
};

fn range(base: u64, size: u64) -> Range {
    Range::new(base, size).expect("range")
}

fn path(text: &str) -> ArrayString<80> {
    ArrayString::from(text).expect("short")
}

fn device(name: &str, registers: &[(u64, u64)], intids: &[u32]) -> PlainDevice<'static> {
    let wire = |intid: &u32| Interrupt { intid: *intid, trigger: Trigger::Level };
    PlainDevice {
        path: path(name),
        compatible: b"acme,thing\0",
        registers: registers.iter().map(|(base, size)| range(*base, *size)).collect(),
        interrupts: intids.iter().map(wire).collect(),
        bus_master: None,
        streams: [].into_iter().collect(),
        neighbours: [].into_iter().collect(),
        line_sharers: [].into_iter().collect(),
    }
}

fn timer() -> PlainDevice<'static> {
    device("/soc/timer@7e003000", &[(0xfe00_3000, 0x1000)], &[96, 97])
}

/// The console, the GIC, RAM.
fn own() -> [Range; 3] {
    [range(0xfe20_1000, 0x200), range(0xff84_1000, 0x1000), range(0, 0x4000_0000)]
}

#[test]
fn a_device_is_seen_in_pages_of_its_own() {
    let book = PlainBook::new(Arc::default());
    let devices = [timer(), device("/soc/gpio@7e200000", &[(0xfe20_00b4, 0x20)], &[145])];
    let set = book.assign(0, &devices, &own(), false).expect("harmless");
    let windows: Vec<_> = set.windows.iter().map(|w| (w.ipa.get(), w.pa.get(), w.bytes)).collect();
    assert_eq!(windows, [(PLAIN, 0xfe00_3000, 0x1000), (PLAIN + 0x1000, 0xfe20_0000, 0x1000)]);
    assert_eq!(set.devices[1].registers[0].get(), PLAIN + 0x10b4, "the offset in its page stays");
    let wires: Vec<_> = set
        .devices
        .iter()
        .flat_map(|d| &d.wires)
        .map(|(wire, intid)| (wire.intid, *intid))
        .collect();
    assert_eq!(wires, [(96, PLAIN_INTID), (97, PLAIN_INTID + 1), (145, PLAIN_INTID + 2)]);
    let mut fdt = TreeWriter::new();
    fdt.begin("");
    describe_plain(&mut fdt, &set);
    fdt.end();
    let blob = fdt.finish().expect("finish");
    for text in [&b"timer@a000000\0"[..], b"gpio@a0010b4\0", b"acme,thing\0"] {
        assert!(blob.windows(text.len()).any(|window| window == text));
    }
}

#[test]
fn bus_masters_take_the_explicit_words() {
    let book = PlainBook::new(Arc::default());
    let mut dma = device("/soc/dma@7e007000", &[(0xfe00_7000, 0xb00)], &[112]);
    dma.bus_master = Some(BusMaster::DmaEngine);
    let devices = [timer(), dma];
    let refusal = book.assign(0, &devices, &own(), false).expect_err("refused");
    assert_eq!(
        refusal,
        PlainRefusal::BusMaster { path: "/soc/dma@7e007000", reason: "it is a DMA engine" }
    );
    assert!(refusal.to_string().starts_with("device /soc/dma@7e007000: it is a DMA engine"));
    assert!(book.rows().is_empty(), "all or none");
    book.assign(0, &devices, &own(), true).expect("as the manifest says");
    // The timer is free again; nothing proves that of the engine.
    book.take_back(0);
    let rows: Vec<_> = book.rows().iter().map(|row| (row.path.clone(), row.owner)).collect();
    let bare = |path| (String::from(path), None);
    assert_eq!(rows, [bare("/soc/timer@7e003000"), bare("/soc/dma@7e007000")]);
    assert_eq!(
        book.assign(1, &devices[1..], &own(), true).expect_err("refused"),
        PlainRefusal::Quarantined("/soc/dma@7e007000")
    );
    book.assign(1, &devices[..1], &own(), false).expect("free");
    assert_eq!(book.rows().len(), 2, "one row a device, however often it is given");
}

#[test]
fn pages_are_not_shared_between_owners() {
    let book = PlainBook::new(Arc::default());
    let mut aux = device("/soc/aux@7e215000", &[(0xfe21_5000, 8)], &[]);
    aux.neighbours.push(path("/soc/serial@7e215040"));
    let mut uart = device("/soc/serial@7e215040", &[(0xfe21_5040, 0x40)], &[125]);
    uart.neighbours.push(path("/soc/aux@7e215000"));
    let both = [aux, uart];
    assert_eq!(
        book.assign(0, &both[1..], &own(), false).expect_err("refused"),
        PlainRefusal::Shared { path: "/soc/serial@7e215040", other: "/soc/aux@7e215000" }
    );
    let set = book.assign(0, &both, &own(), false).expect("together");
    assert_eq!(set.windows.len(), 1, "one page, mapped once");
    assert_eq!(
        book.assign(1, &both, &own(), false).expect_err("refused"),
        PlainRefusal::Claimed { path: "/soc/aux@7e215000", vm: 0 }
    );
}

#[test]
fn what_the_hypervisor_uses_is_not_to_be_had() {
    let book = PlainBook::new(Arc::default());
    for (name, base) in [("/soc/serial@7e201000", 0xfe20_1800), ("/memory@0", 0x1000_0000)] {
        let devices = [device(name, &[(base, 0x100)], &[])];
        let refusal = book.assign(0, &devices, &own(), true).expect_err("refused");
        assert_eq!(refusal, PlainRefusal::Hypervisor(name));
    }
    let mut part = [device("/soc/interrupt-controller@40000000", &[(0xfe00_9000, 0x100)], &[])];
    part[0].bus_master = Some(BusMaster::System);
    assert_eq!(
        book.assign(0, &part, &own(), true).expect_err("whatever the manifest waives"),
        PlainRefusal::Hypervisor("/soc/interrupt-controller@40000000")
    );
    let nothing = [device("/soc/nothing", &[], &[])];
    assert_eq!(
        book.assign(0, &nothing, &own(), true).expect_err("refused"),
        PlainRefusal::NoRegisters("/soc/nothing")
    );
    let huge = [device("/soc/huge@0", &[(0x80_0000_0000, 1 << 30)], &[])];
    assert_eq!(
        book.assign(0, &huge, &own(), true).expect_err("refused"),
        PlainRefusal::NoRoom("/soc/huge@0")
    );
    let end = [device("/soc/end@0", &[(u64::MAX - 0x10, 0x10)], &[])];
    assert!(book.assign(0, &end, &own(), true).is_err());
}

#[test]
fn a_device_that_may_stall_is_refused_with_the_reason() {
    let whole = IommuDriver::capabilities(&*FakeDriver::new());
    let iommus = Iommus::new(1, 16);
    for (phandle, stall) in [(1, StallModel::Never), (2, StallModel::Selectable)] {
        let driver = FakeDriver::with(Capabilities { stall, ..whole });
        let registered = iommus.register(registration(phandle, driver));
        registered.map_err(|rejected| rejected.error).unwrap();
    }
    let mut engine = timer();
    for (streams, reason) in [
        (vec![], "no SMMU stands before it"),
        (vec![(7, 3)], "no SMMU stands before it"),
        (vec![(1, 3)], "its SMMU never stalls"),
        (vec![(2, 3)], "no SMMU translates for devices by path"),
    ] {
        engine.streams = streams.into_iter().collect();
        let refusal = no_stalls(&engine, "/soc/timer@7e003000", &iommus);
        assert_eq!(
            refusal.to_string(),
            format!("device /soc/timer@7e003000: cannot stall: {reason}")
        );
    }
}

#[test]
fn an_interrupt_has_one_owner() {
    let lines = Arc::new(LineBook::new());
    let book = PlainBook::new(lines.clone());
    let first = [device("/soc/a@7e003000", &[(0xfe00_3000, 0x1000)], &[96, 97])];
    let second = [
        device("/soc/c@7e005000", &[(0xfe00_5000, 0x1000)], &[98]),
        device("/soc/b@7e004000", &[(0xfe00_4000, 0x1000)], &[97]),
    ];
    book.assign(0, &first, &own(), false).expect("free");
    let refusal = book.assign(1, &second, &own(), false).expect_err("97 is VM 0's");
    let held = Held { intid: 97, holder: Holder::Vm(0) };
    assert_eq!(refusal, PlainRefusal::Line { path: "/soc/b@7e004000", held });
    assert_eq!(refusal.to_string(), "device /soc/b@7e004000: its interrupt 97 is VM 0's already");
    assert_eq!(book.rows().len(), 1, "all or none");
    assert_eq!(lines.holder(98), None, "all or none");
    // The owner itself does not get it twice either: its guest has one number for it.
    assert!(book.assign(0, &second, &own(), false).is_err());
    book.take_back(0);
    assert_eq!(lines.holder(96), None);
    book.assign(1, &second, &own(), false).expect("97 is free again");
    assert_eq!(lines.holder(97), Some(Holder::Vm(1)));
}

#[test]
fn the_hypervisors_own_interrupts_are_not_to_be_had() {
    let lines = Arc::new(LineBook::new());
    lines.reserve(33, "UART");
    lines.reserve(106, "SMMU");
    // Where a tree names one line twice it stays the hypervisor's.
    lines.reserve_wire(33);
    assert!(!lines.give_wire(0, 33));
    let book = PlainBook::new(lines);
    for (intid, what) in [
        (33, "is the hypervisor's own (UART)"),
        (106, "is the hypervisor's own (SMMU)"),
        (27, "is the hypervisor's own (private to each core)"),
    ] {
        let devices = [device("/soc/a@7e003000", &[(0xfe00_3000, 0x1000)], &[96, intid])];
        let refusal = book.assign(0, &devices, &own(), true).expect_err("refused");
        assert_eq!(
            refusal.to_string(),
            format!("device /soc/a@7e003000: its interrupt {intid} {what}")
        );
        assert!(book.rows().is_empty());
    }
}

#[test]
fn a_pcie_hosts_wire_goes_to_its_devices_only() {
    let lines = Arc::new(LineBook::new());
    lines.reserve_wire(35);
    let book = PlainBook::new(lines.clone());
    let devices = [device("/soc/a@7e003000", &[(0xfe00_3000, 0x1000)], &[35])];
    let held = |holder| Held { intid: 35, holder };
    let path = "/soc/a@7e003000";
    assert_eq!(
        book.assign(0, &devices, &own(), true).expect_err("refused"),
        PlainRefusal::Line { path, held: held(Holder::PcieHost) }
    );
    assert!(lines.give_wire(1, 35));
    assert!(!lines.give_wire(2, 35), "it has one owner");
    assert!(!lines.give_wire(1, 36), "no host's wire");
    // What a VM's devices by path give back is not its PCI devices' wire.
    lines.return_all(1);
    assert_eq!(lines.holder(35), Some(Holder::Vm(1)));
    lines.return_wire(35);
    assert_eq!(lines.holder(35), Some(Holder::PcieHost));
}

#[test]
fn devices_on_one_line_go_together() {
    let mut one = device("/soc/i2c@7e205000", &[(0xfe20_5000, 0x200)], &[149]);
    one.line_sharers.push(path("/soc/i2c@7e804000"));
    let mut other = device("/soc/i2c@7e804000", &[(0xfe80_4000, 0x1000)], &[149]);
    other.line_sharers.push(path("/soc/i2c@7e205000"));
    let both = [one, other];
    let book = PlainBook::new(Arc::default());
    let refusal = book.assign(0, &both[..1], &own(), false).expect_err("refused");
    assert_eq!(
        refusal.to_string(),
        "device /soc/i2c@7e205000: shares an interrupt with /soc/i2c@7e804000, which the VM does \
         not have"
    );
    let set = book.assign(0, &both, &own(), false).expect("together");
    let numbers: Vec<u32> = set.devices.iter().flat_map(|d| &d.wires).map(|(_, n)| *n).collect();
    assert_eq!(numbers, [PLAIN_INTID, PLAIN_INTID], "one line, one number in the guest");
}
