//! A hierarchy that firmware has set up: what is right stays, what is not is refused.

use palisade_board::PcieHost;
use palisade_hal::fake::SteppedClock;
use palisade_pci::fake::{FakeBus, FakeFunction};
use palisade_pci::regs::{bridge, header};
use palisade_pci::{Address, Error, Header, Topology};
use std::sync::Arc;

use crate::common::{edu, host, nvme};

fn keeps() -> PcieHost {
    PcieHost { keep: true, ..host() }
}

/// A function with a number in a register.
fn with(mut function: FakeFunction, at: u16, value: u32) -> FakeFunction {
    for (at, byte) in (at..).zip(value.to_le_bytes()) {
        function = function.byte(at, byte);
    }
    function
}

/// A port that firmware numbered, open, with windows.
fn port(device: u8, secondary: u8, subordinate: u8, child: FakeFunction) -> FakeFunction {
    let buses = u32::from_le_bytes([0, secondary, subordinate, 0]);
    let port = with(FakeFunction::root_port(device, vec![child]), bridge::BUSES, buses);
    with(port, bridge::MEMORY, 0x1230_1200).byte(header::COMMAND, 7)
}

fn scan(root: Vec<FakeFunction>) -> (Arc<FakeBus>, Topology) {
    let bus = FakeBus::new(Arc::new(SteppedClock::new()), root);
    let host = keeps();
    let topology = Topology::enumerate(bus.ecam(&host), &host);
    (bus, topology)
}

#[test]
fn numbers_addresses_and_windows_stay() {
    // Not the numbers that we would give: 5 before 3, and 4 left free.
    let (bus, topology) = scan(vec![
        port(1, 5, 6, with(nvme(0), header::BAR0, 0x1220_0004)),
        port(2, 3, 4, with(edu(0), header::BAR0, 0x1250_0000)),
    ]);
    assert_eq!(topology.problems(), []);
    let found: Vec<u16> = topology.functions().iter().map(|f| f.address.requester()).collect();
    assert_eq!(found, [0x0008, 0x0500, 0x0010, 0x0300]);
    assert_eq!(topology.functions()[0].header, Header::Bridge { secondary: 5, subordinate: 6 });
    let bar = topology.functions()[1].bars[0].expect("a BAR");
    assert_eq!((bar.bus, bar.cpu, bar.size), (Some(0x1220_0000), Some(0x1220_0000), 0x4000));
    assert_eq!(topology.functions()[3].placed(), Ok(()));
    assert_eq!(bus.peek32(0x0500, header::BAR0) & !0xf, 0x1220_0000);
    assert_eq!(bus.peek32(0x0300, header::BAR0) & !0xf, 0x1250_0000);
    assert_eq!(bus.peek32(0x0008, bridge::BUSES), 0x0006_0500);
    assert_eq!(bus.peek32(0x0008, bridge::MEMORY), 0x1230_1200);
    // Endpoints are deaf and mute, ports forward.
    let command = |bdf| bus.peek32(bdf, header::COMMAND) as u16 & 7;
    assert_eq!([command(0x0500), command(0x0300)], [0, 0]);
    assert_eq!([command(0x0008), command(0x0010)], [6, 6]);
}

#[test]
fn addresses_that_cannot_be_right_are_taken_away() {
    let at = |device, address| with(edu(device), header::BAR0, address);
    let (bus, topology) = scan(vec![
        // None, outside every window, half outside, shared, and right.
        at(1, 0),
        at(2, 0x4000_0000),
        at(3, 0x3ef0_0000),
        at(4, 0x1200_0000),
        at(5, 0x1200_0000),
        at(6, 0x1300_0000),
    ]);
    let unplaced = [1u16, 2, 3, 4, 5].map(|n| Error::Unplaced(Address::new(0, n << 3)));
    assert_eq!(topology.problems(), unplaced);
    for (index, function) in topology.functions().iter().enumerate() {
        assert_eq!(function.placed().is_ok(), index == 5, "{}", function.address);
        let register = bus.peek32(function.address.requester(), header::BAR0);
        assert_eq!(register & !0xf, if index == 5 { 0x1300_0000 } else { 0 });
    }
}

#[test]
fn small_bars_that_share_a_page_are_refused() {
    let small = |device, address| {
        with(FakeFunction::endpoint(device, 0, 0x1111_2222).bar32(0, 0x100), header::BAR0, address)
    };
    let (_, topology) =
        scan(vec![small(1, 0x1200_0000), small(2, 0x1200_0100), small(3, 0x1200_1000)]);
    let placed: Vec<bool> = topology.functions().iter().map(|f| f.placed().is_ok()).collect();
    assert_eq!(placed, [false, false, true]);
}

#[test]
fn numbers_that_cannot_be_right_are_not_followed() {
    let (_, topology) = scan(vec![
        port(1, 0, 0, edu(0)),
        port(2, 5, 4, edu(0)),
        port(3, 7, 7, with(edu(0), header::BAR0, 0x1250_0000)),
        port(4, 7, 9, nvme(0)),
    ]);
    let no_bus = [1u16, 2, 4].map(|n| Error::NoBus(Address::new(0, n << 3)));
    assert_eq!(topology.problems(), no_bus);
    let endpoints: Vec<u16> = topology
        .functions()
        .iter()
        .filter(|f| f.is_endpoint())
        .map(|f| f.address.requester())
        .collect();
    assert_eq!(endpoints, [0x0700]);
}
