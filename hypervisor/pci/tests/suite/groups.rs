//! Who is apart from whom.

use crate::common::{SMMU, edu, host, machine, machine_on, nvme};
use palisade_board::IdMapEntry;
use palisade_pci::fake::FakeFunction;
use palisade_pci::regs::acs;
use palisade_pci::{Address, Error};

#[test]
fn ports_with_acs_separate() {
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![nvme(0)]),
        FakeFunction::root_port(2, vec![edu(0)]),
        nvme(3),
    ]);
    for bdf in [0x0100, 0x0200, 0x0018] {
        assert_eq!(machine.topology.isolation(machine.index(bdf)), None, "{bdf:#x}");
        let streams = machine.topology.streams(machine.index(bdf), &machine.host);
        let streams = streams.expect("one SMMU").expect("behind it");
        assert_eq!((streams.controller, &streams.ids[..]), (SMMU, &[u32::from(bdf)][..]));
    }
}

#[test]
fn functions_of_one_device_without_acs_are_one() {
    let pair = |device, offered| {
        [0, 1].map(|f| {
            let function = FakeFunction::endpoint(device, f, 0x1111_2222).express(0, true);
            let function = if offered == 0 { function } else { function.acs(offered) };
            function.multi_function()
        })
    };
    let mut root = Vec::from(pair(1, 0));
    root.extend(pair(2, acs::ISOLATING_FUNCTION));
    let machine = machine(root);
    let isolation = |bdf| machine.topology.isolation(machine.index(bdf));
    assert!(isolation(0x0008).is_some());
    assert_eq!(isolation(0x0008), isolation(0x0009));
    assert_eq!(isolation(0x0010), None);
    assert_eq!(isolation(0x0011), None);
}

#[test]
fn whether_there_are_several_functions_is_not_asked_of_each() {
    // Only function 0's header has to say so (7.5.1.1.9); the others may leave the bit clear.
    let other = |acs| {
        let function = FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true);
        if acs { function.acs(acs::ISOLATING_FUNCTION) } else { function }
    };
    let isolated = || nvme(0).multi_function().acs(acs::ISOLATING_FUNCTION);
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![nvme(0).multi_function(), other(false)]),
        FakeFunction::root_port(2, vec![isolated(), other(false)]),
        FakeFunction::root_port(3, vec![isolated(), other(true)]),
        FakeFunction::root_port(4, vec![nvme(0).multi_function()]),
    ]);
    let isolation = |bdf| machine.topology.isolation(machine.index(bdf));
    for (zero, one) in [(0x0100, 0x0101), (0x0200, 0x0201)] {
        assert!(isolation(one).is_some(), "{one:#x} stands alone");
        assert_eq!(isolation(zero), isolation(one));
    }
    assert_ne!(isolation(0x0100), isolation(0x0200));
    assert_eq!((isolation(0x0300), isolation(0x0301)), (None, None), "each has ACS");
    assert_eq!(isolation(0x0400), None, "the bit is set, and there is no other");
}

#[test]
fn one_port_without_acs_opens_its_neighbours() {
    // What stands behind it may send straight into the devices behind the others.
    let down = |device, offered, child| {
        FakeFunction::bridge(device, 0, vec![child]).express(6, false).acs(offered)
    };
    let ports = vec![down(0, acs::ISOLATING, nvme(0)), down(1, 0, edu(0))];
    let switch = FakeFunction::bridge(0, 0, ports).express(5, false);
    let root = |function, offered| {
        FakeFunction::bridge(2, function, vec![nvme(0)]).express(4, false).acs(offered)
    };
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![switch]),
        root(0, acs::ISOLATING).multi_function(),
        root(1, acs::SOURCE_VALIDATION),
    ]);
    let isolation = |bdf| machine.topology.isolation(machine.index(bdf));
    // 01 switch, 02 its inner bus, 03 and 04 behind its ports, 05 and 06 behind 00:02.0 and .1.
    assert!(isolation(0x0300).is_some(), "beside a port without ACS");
    assert_eq!(isolation(0x0300), isolation(0x0400));
    assert!(isolation(0x0500).is_some(), "beside a function without ACS");
    assert_eq!(isolation(0x0500), isolation(0x0600));
    assert_ne!(isolation(0x0300), isolation(0x0500));
}

#[test]
fn a_switch_with_other_functions_is_one_with_them() {
    // Function 1 of the device whose function 0 is the switch's upstream port.
    let device = |offered| {
        let down = FakeFunction::bridge(0, 0, vec![edu(0)]).express(6, false).acs(acs::ISOLATING);
        let up = FakeFunction::bridge(0, 0, vec![down]).express(5, false).multi_function();
        let engine = FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true);
        vec![up.acs(offered), engine.acs(offered)]
    };
    let open = machine(vec![FakeFunction::root_port(1, device(acs::REQUEST_REDIRECT))]);
    let isolation = |bdf| open.topology.isolation(open.index(bdf));
    assert!(isolation(0x0101).is_some());
    assert_eq!(isolation(0x0101), isolation(0x0300), "what is behind the switch as well");
    let closed = machine(vec![FakeFunction::root_port(1, device(acs::ISOLATING_FUNCTION))]);
    assert_eq!(closed.topology.isolation(closed.index(0x0101)), None);
    assert_eq!(closed.topology.isolation(closed.index(0x0300)), None);
}

#[test]
fn a_switch_port_without_acs_joins_the_whole_switch() {
    let down = |device, offered, child| {
        FakeFunction::bridge(device, 0, vec![child]).express(6, false).acs(offered)
    };
    let switch = |a, b| {
        let ports = vec![down(0, a, nvme(0)), down(1, b, edu(0))];
        FakeFunction::root_port(1, vec![FakeFunction::bridge(0, 0, ports).express(5, false)])
    };
    let good = machine(vec![switch(acs::ISOLATING, acs::ISOLATING)]);
    // 01 switch, 02 inner bus, 03 and 04 behind it.
    assert_eq!(good.topology.isolation(good.index(0x0300)), None);
    let bad = machine(vec![switch(acs::SOURCE_VALIDATION, acs::SOURCE_VALIDATION)]);
    let shared = bad.topology.isolation(bad.index(0x0300));
    assert!(shared.is_some());
    assert_eq!(shared, bad.topology.isolation(bad.index(0x0400)));
}

#[test]
fn a_root_port_without_acs_joins_what_is_behind_it() {
    let functions = vec![
        nvme(0).multi_function(),
        FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true).multi_function(),
    ];
    let machine = machine(vec![
        FakeFunction::bridge(1, 0, functions).express(4, false),
        FakeFunction::root_port(2, vec![edu(0)]),
    ]);
    let isolation = |bdf| machine.topology.isolation(machine.index(bdf));
    assert!(isolation(0x0100).is_some());
    assert_eq!(isolation(0x0100), isolation(0x0101));
    assert_eq!(isolation(0x0200), None);
}

#[test]
fn bridges_speak_in_other_names() {
    // A PCI Express to PCI bridge speaks as device 0 of its bus, a conventional
    // bridge as itself.
    let machine = machine(vec![
        FakeFunction::bridge(1, 0, vec![edu(4), edu(5)]).express(7, false),
        FakeFunction::bridge(2, 0, vec![edu(4)]),
    ]);
    let requesters = |bdf| machine.topology.requesters(machine.index(bdf)).to_vec();
    assert_eq!(requesters(0x0120), [0x0120, 0x0100]);
    assert_eq!(requesters(0x0220), [0x0220, 0x0010]);
    let isolation = |bdf| machine.topology.isolation(machine.index(bdf));
    assert!(isolation(0x0120).is_some());
    assert_eq!(isolation(0x0120), isolation(0x0128));
    let streams = machine.topology.streams(machine.index(0x0128), &machine.host);
    assert_eq!(&streams.expect("one SMMU").expect("behind it").ids[..], [0x0128, 0x0100]);
}

#[test]
fn aliases_that_lead_elsewhere_are_refused() {
    let mut host = host();
    host.iommu_map.entries.clear();
    host.iommu_map.entries.push(IdMapEntry { input: 0x0120, controller: 1, output: 0, length: 1 });
    host.iommu_map.entries.push(IdMapEntry { input: 0x0100, controller: 2, output: 0, length: 1 });
    let machine =
        machine_on(host, vec![FakeFunction::bridge(1, 0, vec![edu(4), edu(5)]).express(7, false)]);
    let split = Err(Error::SplitStreams(Address::new(0, 0x0120)));
    assert_eq!(machine.topology.streams(machine.index(0x0120), &machine.host), split);
    let split = Err(Error::SplitStreams(Address::new(0, 0x0128)));
    assert_eq!(
        machine.topology.streams(machine.index(0x0128), &machine.host),
        split,
        "itself outside every SMMU, its alias inside one"
    );
}

#[test]
fn no_map_no_smmu() {
    let mut host = host();
    host.iommu_map.entries.clear();
    let machine = machine_on(host, vec![edu(1)]);
    assert_eq!(machine.topology.streams(0, &machine.host), Ok(None));
}

#[test]
fn messages_carry_the_name_of_the_last_bridge() {
    let inner = FakeFunction::bridge(3, 0, vec![edu(6)]);
    let machine = machine(vec![
        FakeFunction::bridge(1, 0, vec![edu(4), edu(5), inner]).express(7, false),
        FakeFunction::root_port(2, vec![nvme(0)]),
        edu(3),
    ]);
    let message = |bdf| machine.topology.message_requester(machine.index(bdf));
    assert_eq!(message(0x0120), Some(0x0100), "the bridge's secondary bus, device 0");
    assert_eq!(message(0x0128), Some(0x0100));
    assert_eq!(message(0x0230), Some(0x0100), "through both bridges");
    assert_eq!(message(0x0300), Some(0x0300), "a port changes nothing");
    assert_eq!(message(0x0018), Some(0x0018));
}
