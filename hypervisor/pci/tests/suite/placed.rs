//! BARs in the windows of a host: all of them serve, each for what suits it.

use palisade_board::{PcieHost, Range, Space, Window};
use palisade_pci::fake::FakeFunction;
use palisade_pci::regs::{bridge, header};
use palisade_pci::{Error, Function, Room};

use crate::common::{Machine, host, machine_on};

const MIB: u64 = 1 << 20;
/// What is added to an address of the bus where the CPU sees it, for each window another.
const SHIFT: u64 = 0x1_0000_0000_0000;

/// A host with these windows: kind, prefetchable, address on the bus, bytes.
fn with(windows: &[(Space, bool, u64, u64)]) -> PcieHost {
    let each = windows.iter().zip(1..).map(|(&(space, prefetchable, bus, bytes), number)| {
        let cpu = Range::new(bus + number * SHIFT, bytes).expect("range");
        Window { space, prefetchable, bus, cpu }
    });
    PcieHost { windows: each.collect(), ..host() }
}

fn device(slot: u8) -> FakeFunction {
    FakeFunction::endpoint(slot, 0, 0x1111_2222)
}

/// Which window each BAR of a function is in, from 1 on; 0 for none.
fn windows(machine: &Machine, bdf: u16) -> Vec<u64> {
    let function: &Function = &machine.topology.functions()[machine.index(bdf)];
    let window = |bar: &palisade_pci::Bar| bar.cpu.map_or(0, |cpu| cpu / SHIFT);
    function.bars.iter().flatten().map(window).collect()
}

/// What a bridge forwards as 32-bit memory.
fn forwarded(machine: &Machine, bdf: u16) -> (u64, u64) {
    let memory = u64::from(machine.bus.peek32(bdf, bridge::MEMORY));
    ((memory & 0xfff0) << 16, memory & 0xfff0_0000 | 0xf_ffff)
}

#[test]
fn every_window_of_a_kind_serves() {
    use Space::{Memory32, Memory64};
    let host = with(&[
        (Memory32, false, 0x1000_0000, 2 * MIB),
        (Memory32, false, 0x2000_0000, 64 * MIB),
        (Memory64, false, 0x80_0000_0000, 16 * MIB),
        (Memory64, false, 0x90_0000_0000, 1 << 32),
    ]);
    let root = vec![
        device(3).bar32(0, 0x10_0000).bar32(1, 0x20_0000),
        device(4).bar64(0, 32 * MIB, true).bar64(2, MIB, false),
        // What is behind one bridge is in one window of each kind: the second has room for both.
        FakeFunction::root_port(1, vec![device(0).bar32(0, 0x40_0000).bar32(1, 0x1000)]),
        FakeFunction::root_port(2, vec![device(0).bar64(0, 1 << 28, true).bar32(2, 0x1000)]),
    ];
    let machine = machine_on(host, root);
    assert_eq!(machine.topology.problems(), []);
    assert_eq!(windows(&machine, 0x0018), [2, 1], "the larger one fills the first");
    assert_eq!(windows(&machine, 0x0020), [4, 3]);
    assert_eq!(windows(&machine, 0x0100), [2, 2]);
    assert_eq!(windows(&machine, 0x0200)[0], 4);
    for port in [0x0008, 0x0010] {
        let (start, end) = forwarded(&machine, port);
        let whole = |first: u64, bytes: u64| first <= start && end < first + bytes;
        assert!(whole(0x1000_0000, 2 * MIB) || whole(0x2000_0000, 64 * MIB), "between windows");
    }
}

#[test]
fn registers_that_reads_change_are_not_where_the_host_reads_ahead() {
    use Space::{Memory32, Memory64};
    let host = with(&[
        (Memory32, true, 0x1000_0000, 16 * MIB),
        (Memory64, true, 0x80_0000_0000, 1 << 32),
        (Memory32, false, 0x2000_0000, 16 * MIB),
    ]);
    let plain = |slot| device(slot).bar64(0, MIB, false).bar64(2, MIB, true).bar32(4, 0x1000);
    let port = FakeFunction::root_port(1, vec![plain(0)]);
    let machine = machine_on(host, vec![port, plain(2)]);
    assert_eq!(machine.topology.problems(), []);
    assert_eq!(windows(&machine, 0x0010), [3, 2, 3]);
    assert_eq!(windows(&machine, 0x0100), [3, 2, 3]);
}

#[test]
fn what_has_no_place_is_named_with_the_reason() {
    let host = with(&[
        (Space::Memory64, false, 0x80_0000_0000, 16 * MIB),
        (Space::Io, false, 0, 0x1_0000),
    ]);
    let closed = FakeFunction::root_port(3, vec![device(0).bar_io(0, 0x40)]).without_io();
    let root = vec![
        device(1).bar32(0, 0x1000),
        device(2).bar64(0, 64 * MIB, true),
        closed,
        device(4).odd_bar(0, 0, 0x7000_0000).bar64(2, MIB, true),
    ];
    let machine = machine_on(host, root);
    let named = |bdf, bar, why| {
        let device = machine.topology.functions()[machine.index(bdf)].address;
        Error::NoRoom { device, bar, why }
    };
    let wanted = [
        named(0x0008, 0, Room::NoWindow),
        named(0x0010, 0, Room::Full),
        named(0x0020, 0, Room::NoWindow),
        named(0x0100, 0, Room::Bridge),
    ];
    let mut found = machine.topology.problems().to_vec();
    found.sort_by_key(|problem| problem.address().requester());
    assert_eq!(found, wanted);
    assert_eq!(windows(&machine, 0x0020), [0, 1], "the rest works");
    let said = found[3].to_string();
    assert!(
        said.ends_with("BAR 0 has no address: a bridge above it does not forward such addresses")
    );
}

/// Each BAR of ports has a page of the CPU's to itself, and bridges forward no more.
#[test]
fn ports_have_pages_of_their_own() {
    let host =
        with(&[(Space::Memory32, false, 0x1000_0000, 16 * MIB), (Space::Io, false, 0, 0x1_0000)]);
    let card = |slot| device(slot).bar32(0, 0x2_0000).bar_io(1, 0x40);
    let root = vec![
        FakeFunction::root_port(1, vec![card(0)]),
        FakeFunction::root_port(2, vec![device(0).bar32(0, 0x1000)]),
        card(3),
    ];
    let machine = machine_on(host, root);
    assert_eq!(machine.topology.problems(), []);
    let port = |bdf| machine.topology.functions()[machine.index(bdf)].bars[1].expect("a BAR");
    let pages = [port(0x0100), port(0x0018)].map(|bar| bar.cpu.expect("placed") >> 12);
    assert!(pages[0] != pages[1]);
    for (bdf, bar) in [(0x0100, port(0x0100)), (0x0018, port(0x0018))] {
        let register = machine.bus.peek32(bdf, header::BAR0 + 4);
        assert_eq!(u64::from(register & !3), bar.bus.expect("placed"));
        assert_eq!(bar.bus.map(|bus| (bus & 0xfff, bus + 2 * SHIFT)), bar.cpu.map(|cpu| (0, cpu)));
    }
    let page = port(0x0100).bus.expect("placed") >> 8 & 0xf0;
    assert_eq!(u64::from(machine.bus.peek32(0x0008, bridge::IO) as u16), page | page << 8);
    assert_eq!(machine.bus.peek32(0x0010, bridge::IO) as u16, 0x00f0, "closed");
    let ports = |bdf| machine.bus.peek32(bdf, header::COMMAND) as u16 & header::COMMAND_IO;
    assert_eq!((ports(0x0008), ports(0x0010)), (header::COMMAND_IO, 0));
}
