//! Resets, their waits, and the proof of idleness.

use crate::common::{Machine, edu, machine, nvme};
use palisade_hal::Env;
use palisade_pci::fake::{Event, FakeFunction};
use palisade_pci::regs::{acs, express, extended, header};
use palisade_pci::{Address, Error, ResetMethod};

fn alone(_: usize) -> bool {
    false
}

fn reset(machine: &Machine, bdf: u16) -> Result<ResetMethod, Error> {
    let index = machine.index(bdf);
    let method = machine.topology.reset_method(index, &alone)?;
    let proof = machine.topology.reset(index, method, &*machine.clock)?;
    assert_eq!(proof.address(), Address::new(0, bdf));
    Ok(method)
}

#[test]
fn the_best_reset_is_taken() {
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![nvme(0).power(false)]),
        FakeFunction::root_port(2, vec![edu(0)]),
        FakeFunction::root_port(3, vec![edu(0).power(true)]),
        edu(4).power(false),
        edu(5).advanced(),
        edu(6),
        FakeFunction::bridge(7, 0, vec![edu(1), edu(2)]),
    ]);
    let method = |bdf| machine.topology.reset_method(machine.index(bdf), &alone);
    assert_eq!(method(0x0100), Ok(ResetMethod::FunctionLevel));
    let behind = |bdf| Ok(ResetMethod::SecondaryBus { bridge: machine.index(bdf) });
    assert_eq!(method(0x0200), behind(0x0010));
    assert_eq!(method(0x0300), behind(0x0018), "No_Soft_Reset resets nothing");
    assert_eq!(method(0x0020), Ok(ResetMethod::Power));
    assert_eq!(method(0x0028), Ok(ResetMethod::AdvancedFeatures));
    assert_eq!(method(0x0030), Err(Error::NoReset(Address::new(0, 0x0030))));
    assert_eq!(
        method(0x0408),
        Err(Error::ResetsOther { device: Address::new(0, 0x0408), other: Address::new(0, 0x0410) }),
        "another device is on the bus"
    );
    let index = machine.index(0x0408);
    assert!(machine.topology.reset_method(index, &|_| true).is_ok(), "unless it goes along");
}

#[test]
fn every_reset_resets_and_gives_the_addresses_back() {
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![nvme(0)]),
        FakeFunction::root_port(2, vec![edu(0)]),
        edu(4).power(false),
        edu(5).advanced(),
    ]);
    for bdf in [0x0100, 0x0200, 0x0020, 0x0028] {
        let before = machine.bus.peek32(bdf, header::BAR0);
        assert_ne!(before & !0xf, 0);
        let start = machine.clock.now();
        reset(&machine, bdf).expect("resets");
        assert_eq!(machine.bus.resets(bdf), 1, "{bdf:#x}");
        assert!(machine.clock.now() - start >= 100_000, "100 ms of wait");
        assert_eq!(machine.bus.peek32(bdf, header::BAR0), before);
        let command = machine.bus.peek32(bdf, header::COMMAND) as u16;
        assert_eq!(command & (header::COMMAND_MASTER | header::COMMAND_MEMORY), 0);
    }
}

#[test]
fn a_whole_bus_comes_back() {
    let machine = machine(vec![FakeFunction::bridge(1, 0, vec![edu(1), edu(2)])]);
    let index = machine.index(0x0108);
    let method = machine.topology.reset_method(index, &|_| true).expect("together");
    let other = machine.bus.peek32(0x0110, header::BAR0);
    let proof = machine.topology.reset(index, method, &*machine.clock).expect("resets");
    assert!(!proof.pending_known(), "a conventional device cannot tell");
    assert_eq!(machine.bus.resets(0x0110), 1);
    assert_eq!(machine.bus.peek32(0x0110, header::BAR0), other);
}

#[test]
fn slow_devices_are_waited_for_and_dead_ones_given_up() {
    let slow = machine(vec![nvme(1).reset_takes(700_000)]);
    assert!(reset(&slow, 0x0008).is_ok());
    let dead = machine(vec![nvme(1).reset_takes(u64::MAX)]);
    assert_eq!(reset(&dead, 0x0008), Err(Error::NotReady(Address::new(0, 0x0008))));
    assert!(dead.clock.now() < 3_000_000, "with a deadline");
}

#[test]
fn an_impostor_is_noticed() {
    let machine = machine(vec![nvme(1).changes_to(0x6666_1b36)]);
    assert_eq!(reset(&machine, 0x0008), Err(Error::Changed(Address::new(0, 0x0008))));
}

#[test]
fn bus_mastering_must_go_off() {
    let machine = machine(vec![nvme(1).stuck_master()]);
    assert_eq!(reset(&machine, 0x0008), Err(Error::BusMaster(Address::new(0, 0x0008))));
    assert_eq!(machine.bus.resets(0x0008), 0);
}

#[test]
fn pending_transactions_hold_the_proof_back() {
    let machine = machine(vec![nvme(1)]);
    let at = machine.topology.functions()[0].express.expect("express").offset;
    let status = at + express::DEVICE_STATUS;
    machine.bus.poke(0x0008, status, express::PENDING as u8);
    assert_eq!(reset(&machine, 0x0008), Err(Error::Pending(Address::new(0, 0x0008))));
    machine.bus.poke(0x0008, status, 0);
    assert!(reset(&machine, 0x0008).is_ok());
}

#[test]
fn the_reset_comes_after_bus_mastering_is_off() {
    let machine = machine(vec![nvme(1)]);
    let config = machine.topology.ecam().config(Address::new(0, 0x0008));
    config.write16(header::COMMAND, header::COMMAND_MASTER);
    reset(&machine, 0x0008).expect("resets");
    let events: Vec<Event> = machine.bus.events().into_iter().map(|(_, event)| event).collect();
    assert_eq!(
        events,
        [Event::Master(0x0008, true), Event::Master(0x0008, false), Event::Reset(0x0008)]
    );
}

#[test]
fn silence_is_no_reset() {
    let machine = machine(vec![edu(1)]);
    let proof = machine.topology.silence(0, &*machine.clock).expect("quiet");
    assert!(!proof.pending_known());
    assert_eq!(machine.bus.resets(0x0008), 0);
}

#[test]
fn a_bridge_on_the_bus_is_why_it_is_not_reset() {
    let inner = FakeFunction::bridge(3, 0, vec![edu(1)]);
    let machine = machine(vec![FakeFunction::bridge(1, 0, vec![edu(2), inner])]);
    let refused = machine.topology.reset_method(machine.index(0x0110), &|_| true);
    let (device, bridge) = (Address::new(0, 0x0110), Address::new(0, 0x0118));
    assert_eq!(refused, Err(Error::ResetsBridge { device, bridge }));
    let behind = machine.topology.reset_method(machine.index(0x0208), &alone);
    assert_eq!(behind, Ok(ResetMethod::SecondaryBus { bridge: machine.index(0x0118) }));
}

#[test]
fn the_payload_size_of_the_link_comes_back() {
    // 256 bytes, as firmware agreed with the port above; a reset falls back to 128 (7.5.3.4).
    let set = |function: FakeFunction| function.express(0, false).device_control(1 << 5);
    let machine = machine(vec![
        FakeFunction::root_port(1, vec![set(edu(0))]),
        FakeFunction::root_port(2, vec![set(edu(0).power(false))]),
    ]);
    for bdf in [0x0100, 0x0200] {
        let at = machine.topology.functions()[machine.index(bdf)].express.expect("express").offset;
        reset(&machine, bdf).expect("resets");
        let control = machine.bus.peek32(bdf, at + express::DEVICE_CONTROL) as u16;
        assert_eq!(control & express::PAYLOAD, 1 << 5, "{bdf:#x}");
    }
}

#[test]
fn what_keeps_a_function_apart_is_on_again_after_a_reset() {
    let acs_of = |function: FakeFunction| function.acs(acs::ISOLATING_FUNCTION);
    let machine = machine(vec![FakeFunction::root_port(
        1,
        vec![acs_of(nvme(0).multi_function()), acs_of(FakeFunction::endpoint(0, 1, 0x1111_2222))],
    )]);
    let control = || machine.bus.peek32(0x0100, extended::START + 4) >> 16;
    assert_eq!(control() as u16, acs::ISOLATING_FUNCTION);
    reset(&machine, 0x0100).expect("resets");
    assert_eq!(control() as u16, acs::ISOLATING_FUNCTION, "off after the reset");
    // One whose ACS went for good is not proven idle.
    machine.bus.poke(0x0100, extended::START + 4, 0);
    assert_eq!(reset(&machine, 0x0100), Err(Error::NotApart(Address::new(0, 0x0100))));
}

/// An owner that resets its device on its way out does not take it from the next one.
#[test]
fn a_device_in_the_middle_of_a_reset_is_waited_for() {
    let slow = FakeFunction::endpoint(0, 0, 0x0010_1b36).express(0, true).reset_takes(90_000);
    let machine = machine(vec![FakeFunction::root_port(1, vec![slow])]);
    let index = machine.index(0x0100);
    let function = &machine.topology.functions()[index];
    let config = machine.topology.ecam().config(function.address);
    let at = function.express.expect("express").offset + express::DEVICE_CONTROL;
    config.write16(at, express::INITIATE_FLR);
    assert!(!config.present());
    let proof = machine.topology.reset(index, ResetMethod::FunctionLevel, &*machine.clock);
    assert_eq!(proof.map(|proof| proof.address()), Ok(function.address));
}
