//! Bus numbers, windows, BARs, interrupts.

use crate::common::{edu, host, machine, machine_on, nvme};
use palisade_board::Space;
use palisade_pci::fake::FakeFunction;
use palisade_pci::regs::{ats, bridge, express, extended, header, sriov};
use palisade_pci::{Error, Header, MAX_FUNCTIONS, Room};

/// Ports 1 and 2 with a switch behind 2: 00:00 host bridge, 01:00 nvme, 02 switch
/// up, 03 its inner bus, 04 and 05 behind its two downstream ports.
fn tree() -> Vec<FakeFunction> {
    let down = |device, child| FakeFunction::bridge(device, 0, vec![child]).express(6, false);
    let switch =
        FakeFunction::bridge(0, 0, vec![down(0, edu(0)), down(1, nvme(0))]).express(5, false);
    vec![
        FakeFunction::endpoint(0, 0, 0x0008_1b36),
        FakeFunction::root_port(1, vec![nvme(0)]),
        FakeFunction::root_port(2, vec![switch]),
        edu(3),
    ]
}

#[test]
fn buses_are_numbered_depth_first() {
    let machine = machine(tree());
    assert_eq!(machine.topology.problems(), []);
    let found: Vec<u16> =
        machine.topology.functions().iter().map(|f| f.address.requester()).collect();
    assert_eq!(
        found,
        [0x0000, 0x0008, 0x0100, 0x0010, 0x0200, 0x0300, 0x0400, 0x0308, 0x0500, 0x0018]
    );
    let buses = |bdf| machine.topology.functions()[machine.index(bdf)].header;
    assert_eq!(buses(0x0008), Header::Bridge { secondary: 1, subordinate: 1 });
    assert_eq!(buses(0x0010), Header::Bridge { secondary: 2, subordinate: 5 });
    assert_eq!(buses(0x0200), Header::Bridge { secondary: 3, subordinate: 5 });
    assert_eq!(buses(0x0308), Header::Bridge { secondary: 5, subordinate: 5 });
    assert_eq!(machine.bus.peek32(0x0010, bridge::BUSES), 0x0005_0200);
}

#[test]
fn every_bar_has_pages_of_its_own_inside_its_bridges_windows() {
    let machine = machine(tree());
    let mut ranges = Vec::new();
    for (index, function) in machine.topology.functions().iter().enumerate() {
        function.placed().expect("room enough");
        for bar in function.bars.iter().flatten() {
            let start = bar.cpu.expect("placed");
            assert_eq!(start % bar.size.max(4096), 0, "natural alignment and whole pages");
            ranges.push((start, start + bar.size.max(4096)));
            let register = machine.bus.peek32(function.address.requester(), 0x10);
            assert_eq!(u64::from(register & !0xf), bar.bus.expect("placed") & 0xffff_ffff);
            for (_, above) in machine.topology.bridges(index) {
                let at = above.address.requester();
                let low = machine.bus.peek32(at, bridge::MEMORY);
                let base = u64::from(low & 0xfff0) << 16;
                let limit = u64::from(low & 0xfff0_0000) | 0xf_ffff;
                assert!(
                    base <= start && start + bar.size - 1 <= limit,
                    "outside a bridge's window"
                );
            }
        }
    }
    ranges.sort_unstable();
    assert_eq!(ranges.len(), 4);
    for pair in ranges.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "BARs overlap");
    }
}

#[test]
fn windows_of_siblings_do_not_overlap() {
    let machine = machine(tree());
    let window = |bdf| {
        let low = machine.bus.peek32(bdf, bridge::MEMORY);
        (u64::from(low & 0xfff0) << 16, u64::from(low & 0xfff0_0000) | 0xf_ffff)
    };
    let (one, two) = (window(0x0008), window(0x0010));
    assert!(one.1 < two.0 || two.1 < one.0);
    let inner = [window(0x0300), window(0x0308)];
    assert!(inner.iter().all(|inner| two.0 <= inner.0 && inner.1 <= two.1));
}

#[test]
fn wide_bars_go_to_the_high_window_where_the_bridges_let_them() {
    let wide = |device| FakeFunction::endpoint(device, 0, 0x1111_2222).bar64(4, 1 << 32, true);
    let small_prefetchable_window = FakeFunction::root_port(1, vec![wide(0)]);
    let machine = machine(vec![small_prefetchable_window, wide(2)]);
    for bdf in [0x0100, 0x0010] {
        let bar = machine.topology.functions()[machine.index(bdf)].bars[4].expect("a BAR");
        assert!(bar.cpu.expect("placed") >= 0x80_0000_0000);
    }
    let port = machine.bus.peek32(0x0008, bridge::PREFETCHABLE_BASE_UPPER);
    assert!(port >= 0x80, "the port forwards it");
}

#[test]
fn what_does_not_fit_is_named_and_the_rest_works() {
    let mut host = host();
    host.windows.retain(|window| window.space == Space::Memory32);
    let huge = FakeFunction::endpoint(1, 0, 0x1111_2222).bar64(0, 1 << 40, true);
    let machine = machine_on(host, vec![huge, edu(2)]);
    let huge = machine.topology.functions()[0].address;
    let named = Error::NoRoom { device: huge, bar: 0, why: Room::Full };
    assert_eq!(machine.topology.problems(), [named]);
    assert_eq!(machine.topology.functions()[0].placed(), Err(Error::Unplaced(huge)));
    assert_eq!(machine.topology.functions()[1].placed(), Ok(()));
}

#[test]
fn endpoints_are_left_deaf_and_mute_and_ports_open() {
    let machine = machine(tree());
    for function in machine.topology.functions() {
        let command = machine.bus.peek32(function.address.requester(), header::COMMAND) as u16;
        let on = header::COMMAND_MEMORY | header::COMMAND_MASTER;
        let expected = if function.is_endpoint() { 0 } else { on };
        assert_eq!(command & (on | header::COMMAND_IO), expected, "{}", function.address);
    }
}

#[test]
fn intx_is_swizzled_at_every_bridge() {
    let machine = machine(tree());
    let wire = |bdf| machine.topology.interrupt(machine.index(bdf), &machine.host).map(|i| i.intid);
    // Root slot 3 pin A: SPI 3 + 3; behind port 1: the port's slot, pin A.
    assert_eq!(wire(0x0018), Some(35 + 3));
    assert_eq!(wire(0x0100), Some(35 + 1));
    // 05:00 pin A, device 0; its port is device 1 of bus 3: pin B; the switch is
    // device 0; root slot 2 pin B.
    assert_eq!(wire(0x0500), Some(35 + 3));
    assert_eq!(wire(0x0400), Some(35 + 2));
    assert_eq!(wire(0x0000), None, "the host bridge has no pin");
}

#[test]
fn hostile_lists_end() {
    // A capability that points to itself, and one outside the list's space.
    let looped = edu(1).byte(0x34, 0x40).byte(0x40, 0x09).byte(0x41, 0x40).byte(0x06, 0x10);
    let outside = edu(2).byte(0x34, 0x04).byte(0x06, 0x10);
    let extended = nvme(3).byte(0x100, 0x42).byte(0x102, 0x01).byte(0x103, 0x10);
    let machine = machine(vec![looped, outside, extended]);
    let config = |bdf| {
        let index = machine.index(bdf);
        machine.topology.ecam().config(machine.topology.functions()[index].address)
    };
    assert_eq!(config(0x0008).capabilities().count(), 48);
    assert_eq!(config(0x0010).capabilities().count(), 0);
    assert!(config(0x0018).extended_capabilities().count() <= 96);
}

#[test]
fn hostile_bars_are_left_out() {
    let odd = FakeFunction::endpoint(1, 0, 0x1111_2222)
        .odd_bar(0, 2, 0xffff_f000)
        .odd_bar(1, 6, 0xffff_f000)
        .odd_bar(2, 0xffff_ffff, 0)
        // 64-bit in the last register.
        .odd_bar(5, 4, 0xffff_f000);
    let machine = machine(vec![odd]);
    assert!(machine.topology.functions()[0].bars.iter().flatten().all(|bar| bar.size <= 1 << 32));
    assert!(machine.topology.functions()[0].bars[5].is_none());
}

#[test]
fn msix_outside_its_bar_does_not_count() {
    let good = nvme(1);
    let bad = FakeFunction::endpoint(2, 0, 0x1111_2222).bar32(0, 0x1000).msix(300, 0, 0x800, 0);
    let machine = machine(vec![good, bad]);
    assert_eq!(
        machine.topology.functions()[0].msix.map(|m| (m.vectors, m.offset)),
        Some((65, 0x2000))
    );
    assert_eq!(machine.topology.functions()[1].msix, None);
}

#[test]
fn phantom_functions_are_off() {
    let machine = machine(tree());
    let at = machine.topology.functions()[machine.index(0x0100)].express.expect("express").offset;
    let control = machine.bus.peek32(0x0100, at + express::DEVICE_CONTROL) as u16;
    assert_eq!(control & express::PHANTOM_ENABLE, 0);
}

#[test]
fn a_crowd_is_cut_off_and_named() {
    let full = |device| {
        let mut all: Vec<_> =
            (0..8).map(|f| FakeFunction::endpoint(device, f, 0x1111_2222)).collect();
        all[0] = FakeFunction::endpoint(device, 0, 0x1111_2222).multi_function();
        all
    };
    let mut root: Vec<_> = (0..31).flat_map(full).collect();
    root.push(FakeFunction::bridge(31, 0, (0..32).flat_map(full).collect()));
    let machine = machine(root);
    assert_eq!(machine.topology.functions().len(), MAX_FUNCTIONS);
    assert!(machine.topology.problems().iter().any(|p| matches!(p, Error::TooMany(_))));
}

#[test]
fn bridges_nested_too_deep_are_closed() {
    let mut chain = edu(0);
    for _ in 0..12 {
        chain = FakeFunction::bridge(0, 0, vec![chain]);
    }
    let machine = machine(vec![chain]);
    assert!(machine.topology.problems().iter().any(|p| matches!(p, Error::NoBus(_))));
    assert_eq!(machine.topology.functions().iter().filter(|f| f.is_endpoint()).count(), 0);
}

#[test]
fn what_firmware_left_on_goes_off() {
    let machine = machine(vec![nvme(1).ats_left_on().sriov()]);
    let control = |id, at: u16| {
        let config = machine.topology.ecam().config(machine.topology.functions()[0].address);
        config.read16(config.extended_capability(id).expect("there") + at)
    };
    assert_eq!(control(extended::SRIOV, sriov::CONTROL), 0, "virtual functions exist");
    assert_eq!(control(extended::ATS, ats::CONTROL), 0, "it translates by itself");
}

#[test]
fn a_function_beyond_the_limit_masters_nothing() {
    let mut root: Vec<_> = (0..MAX_FUNCTIONS as u16 / 8)
        .flat_map(|device| {
            (0..8).map(move |f| FakeFunction::endpoint(device as u8, f, 0x1111_2222))
        })
        .collect();
    root.iter_mut().for_each(|f| *f = std::mem::replace(f, edu(0)).multi_function());
    let mut behind = FakeFunction::endpoint(0, 0, 0x1111_2222);
    behind = behind.byte(header::COMMAND, header::COMMAND_MASTER as u8);
    root.truncate(MAX_FUNCTIONS - 1);
    root.push(FakeFunction::root_port(31, vec![behind]).at(31, 7));
    let machine = machine(root);
    assert!(machine.topology.problems().iter().any(|p| matches!(p, Error::TooMany(_))));
    assert_eq!(machine.bus.peek32(0x0100, header::COMMAND) as u16, header::COMMAND_INTX_OFF);
}
