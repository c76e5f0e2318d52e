//! The orchestration on fakes: a VM is built, restarted, stopped, given devices, deprived of
//! them and ended, on a board that QEMU describes, over a fake bus, a fake SMMU and a fake GIC.
//!
//! 1. Whatever step fails, the machine is as it was before: frames, owners, devices, wires.
//! 2. What is not confirmed is never free.
extern crate std;

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Once as OnlyOnce;
use std::thread::JoinHandle;

use palisade_board::{BoardInfo, PowerManager, Range};
use palisade_bundle::{Device, File, Place, Requester, Vm as Manifest};
use palisade_fdt::Tree;
use palisade_gic::{AnyGic, FakeCall, FakeGic, KICK_SGI, Version};
use palisade_hal::cpu::Counter;
use palisade_hal::fake::SteppedClock;
use palisade_hal::{Env, PhysAddr, StreamId};
use palisade_iommu::fake::FakeDriver;
use palisade_iommu::{
    Access, Condition, DriverError, FaultClass, FaultKind, FaultRecord, Footprint as Ids,
    IommuDriver, Iommus, Registration, StreamState,
};
use palisade_mem::{Arena, Footprint, Frames};
use palisade_pci::fake::{FakeBus, FakeFunction};
use palisade_pci::{Address, Topology};
use palisade_vm::Life;
use palisade_vm::passthrough::{Bus, Holder, Passthrough, PlainBook};
use palisade_vm::vcpu::Outcome;
use spin::Once;

use crate::machine::instances::Machine;
use crate::machine::{formats, interrupts, pcie};
use crate::operator::faults;
use crate::vms::build::build;
use crate::vms::built::BuiltVm;
use crate::vms::end::end;
use crate::vms::hotplug::{self, HotplugError};
use crate::vms::plain;
use crate::vms::rebuild::{RestartError, rebuild, request_restart};
use crate::vms::system::System;

const TREE: &[u8] = include_bytes!("../../../../platform/fdt/tests/virt-gic3.dtb");
const MIB: u64 = 1 << 20;
const NVME: u16 = 0x0100;
const SECOND: u16 = 0x0200;
/// Frames of the machine: enough for two VMs.
const FRAMES: u64 = 16384;

/// Lets the fake bus's time pass beside that of the code under test.
struct Ticking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticking {
    fn new(clock: Arc<SteppedClock>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                clock.advance(1000);
                std::thread::sleep(core::time::Duration::from_micros(50));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

struct Rig {
    system: &'static System,
    driver: Arc<FakeDriver>,
    _bus: Arc<FakeBus>,
    _ticking: Ticking,
    _arena: Arena,
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn nvme() -> FakeFunction {
    FakeFunction::endpoint(0, 0, 0x0010_1b36).bar64(0, 0x4000, false).pin(1).express(0, true)
}

fn rig() -> Rig {
    let tree = leak(Tree::new(TREE).expect("valid"));
    let board: &'static BoardInfo<'static> = leak(palisade_fdt::board(tree).expect("readable"));
    let arena = Arena::new(PhysAddr::new(0x8000_0000), FRAMES);
    let frames = Frames::new(arena.map(), &[arena.range()]).expect("frames");
    let cpus = Arc::new(frames.register_agent("CPUs").expect("agent"));
    let iommus = Arc::new(Iommus::new(4, 8));
    static FORMATS: OnlyOnce = OnlyOnce::new();
    FORMATS.call_once(|| {
        formats::register(formats::SHIPPED, &frames, &cpus).expect("formats");
    });
    let driver = FakeDriver::new();
    let agent = frames.register_agent("SMMU").expect("agent");
    let phandle = board.smmus.first().expect("an SMMU").phandle;
    let instance = Registration { phandle, driver: driver.clone(), agent };
    iommus.register(instance).map_err(|rejected| rejected.error).expect("registered");
    let clock = Arc::new(SteppedClock::new());
    let root =
        vec![FakeFunction::root_port(1, vec![nvme()]), FakeFunction::root_port(2, vec![nvme()])];
    let bus = FakeBus::new(clock.clone(), root);
    let host = board.pcie.first().expect("a host");
    let topology = Arc::new(Topology::enumerate(bus.ecam(host), host));
    let devices = Passthrough::new(vec![Bus { host: host.clone(), topology }]);
    pcie::announce(&devices, &iommus);
    interrupts::reserve_all(board, devices.lines());
    let platform = PlainBook::new(devices.lines().clone());
    let gic = AnyGic::Fake(FakeGic::new(Version::V3, 4));
    let messages = Once::initialized(None);
    let machine = Machine { tree, board, frames, gic, cpus, iommus, devices, platform, messages };
    let system = leak(System::new(machine));
    system.set_names(vec!["a", "b"]);
    Rig { system, driver, _bus: bus, _ticking: Ticking::new(clock), _arena: arena }
}

fn pci(bdf: u16, guest: u16) -> Device<'static> {
    let place = Place::Pci(Requester { segment: 0, bdf });
    Device { place, guest, no_reset: false, settle_ms: 0, ats_trusted: false, stalls: false }
}

fn manifest(devices: &[Device<'static>]) -> &'static Manifest<'static> {
    leak(Manifest {
        name: "a",
        vcpus: 1,
        memory: 8 * MIB,
        kernel: File { name: "kernel", data: &[0x14; 4096] },
        initrd: None,
        firmware: false,
        bootargs: "",
        no_dma_isolation: false,
        virtual_smmu: false,
        readonly: [].into_iter().collect(),
        devices: devices.iter().copied().collect(),
    })
}

/// All that must be as before when something has failed.
fn standing(rig: &Rig) -> (Footprint, Ids, Vec<Option<Holder>>) {
    let machine = &rig.system.machine;
    let lines = (32..200).map(|line| machine.devices.lines().holder(line)).collect();
    (machine.frames.footprint(), machine.iommus.footprint(), lines)
}

fn lines_on(rig: &Rig) -> Vec<u32> {
    let AnyGic::Fake(gic) = &rig.system.machine.gic else { unreachable!() };
    let mut on = Vec::new();
    for call in gic.take_calls() {
        match call {
            FakeCall::Enable(line, true) => on.push(line),
            FakeCall::Enable(line, false) => on.retain(|known| *known != line),
            _ => {}
        }
    }
    on
}

fn state(rig: &Rig, bdf: u16) -> StreamState {
    rig.driver.stream_state(StreamId::new(bdf.into()))
}

fn built(rig: &Rig, devices: &[Device<'static>]) -> BuiltVm {
    build(&rig.system.machine, manifest(devices), 0, vec![1]).expect("built")
}

fn at(bdf: u16) -> Address {
    Address::new(0, bdf)
}

#[test]
fn the_hypervisors_own_is_no_vms() {
    let rig = rig();
    let machine = &rig.system.machine;
    // The board's UART, the SMMU's four lines and the PCIe host's four wires (QEMU's virt).
    for (lines, holder) in [
        (33..34, Holder::Hypervisor("UART")),
        (106..110, Holder::Hypervisor("SMMU")),
        (35..39, Holder::PcieHost),
    ] {
        for line in lines {
            assert_eq!(machine.devices.lines().holder(line), Some(holder), "{line}");
        }
    }
    // Whoever has the power manager's registers switches the machine off.
    let registers = Range::new(0xfe10_0000, 0x114).expect("range");
    let board = BoardInfo { power: Some(PowerManager { registers }), ..machine.board.clone() };
    assert!(plain::own(&board).contains(&registers));
}

#[test]
fn what_is_built_is_all_given_back_at_its_end() {
    let rig = rig();
    let before = standing(&rig);
    for _ in 0..2 {
        let vm = built(&rig, &[pci(NVME, 8)]);
        assert_eq!(state(&rig, NVME), StreamState::Stage2);
        assert_eq!(vm.pci.places().len(), 1);
        let wire = rig.system.machine.devices.rows().first().and_then(|row| row.wire);
        assert_eq!(lines_on(&rig), Vec::from_iter(wire), "its wire is on");
        vm.vm.stop(&rig.system.machine.gic);
        rig.system.set_vms(Vec::new());
        end(rig.system, &vm, Outcome::Off);
        assert!(vm.is_gone());
        assert_eq!(vm.standing().name(), "off");
        assert_eq!(state(&rig, NVME), StreamState::Abort);
        assert_eq!(lines_on(&rig), [] as [u32; 0], "and off again");
        let rows = rig.system.machine.devices.rows();
        assert!(rows.iter().all(|row| row.owner.is_none() && row.condition == Condition::Free));
        drop(vm);
        assert_eq!(standing(&rig), before);
    }
}

#[test]
fn a_build_whose_kth_driver_call_fails_leaves_nothing() {
    for calls in 0.. {
        let rig = rig();
        let (frames, ids, lines) = standing(&rig);
        rig.driver.fail_after(calls, DriverError::InvalidationTimeout);
        let made = build(&rig.system.machine, manifest(&[pci(NVME, 8)]), 0, vec![1]);
        if rig.driver.disarm() {
            assert!(made.is_ok() && calls > 0, "some call did fail");
            return;
        }
        let Err(error) = made else { panic!("call {calls} failed and nobody noticed") };
        assert_ne!(error.to_string(), "");
        let (frames_now, ids_now, lines_now) = standing(&rig);
        assert_eq!(lines_now, lines, "call {calls}");
        assert_eq!(ids_now.claimed, ids.claimed, "call {calls}");
        // What was not confirmed stays quarantined; nothing is lost beside it.
        assert_eq!(frames_now.free + frames_now.quarantined, frames.free, "call {calls}");
        assert_eq!(frames_now.leaked, 0, "call {calls}");
        assert_ne!(state(&rig, NVME), StreamState::Stage2, "call {calls}");
        assert_eq!(lines_on(&rig), [] as [u32; 0], "call {calls}");
        assert!(rig.system.machine.devices.rows().iter().all(|row| row.owner.is_none()));
    }
}

#[test]
fn a_build_that_is_refused_late_gives_its_devices_and_wires_back() {
    let rig = rig();
    let before = standing(&rig);
    // The device is plugged in and wired before the path is found not to be there.
    let path = Device { place: Place::Path("/nowhere@0"), ..pci(0, 0) };
    let refused = build(&rig.system.machine, manifest(&[pci(NVME, 8), path]), 0, vec![1]);
    let Err(error) = refused else { panic!("built") };
    assert!(error.to_string().contains("/nowhere@0"), "{error}");
    assert_eq!(standing(&rig), before);
    assert_eq!(lines_on(&rig), [] as [u32; 0]);
    assert_eq!(state(&rig, NVME), StreamState::Abort);
    // And so it is with images that do not fit.
    let devices = [pci(NVME, 8)].into_iter().collect();
    let empty = File { name: "kernel", data: &[] };
    let none = leak(Manifest { kernel: empty, devices, ..manifest(&[]).clone() });
    assert!(build(&rig.system.machine, none, 0, vec![1]).is_err());
    assert_eq!(standing(&rig), before);
    assert_eq!(lines_on(&rig), [] as [u32; 0]);
    // More memory than there is touches nothing.
    let huge = leak(Manifest { memory: 1 << 40, ..manifest(&[]).clone() });
    assert!(build(&rig.system.machine, huge, 0, vec![1]).is_err());
    assert_eq!(standing(&rig), before);
}

#[test]
fn a_guests_own_reset_keeps_its_devices_and_starts_again() {
    let rig = rig();
    let vm = built(&rig, &[pci(NVME, 8)]);
    let machine = &rig.system.machine;
    vm.boot(machine);
    assert_eq!(vm.standing().name(), "started");
    for _ in 0..20 {
        vm.vm.stop(&machine.gic);
        assert!(vm.restart(machine));
        assert_eq!(vm.vm.life(), Life::Running);
        assert_eq!(state(&rig, NVME), StreamState::Stage2);
    }
    assert!(machine.devices.rows().iter().all(|row| row.owner == Some(0)));
}

#[test]
fn a_storm_is_drained_in_bounded_turns_by_its_own_vms_core() {
    let rig = rig();
    let system = rig.system;
    let AnyGic::Fake(gic) = &system.machine.gic else { unreachable!() };
    system.set_vms(vec![built(&rig, &[pci(NVME, 8)])]);
    let vm = system.slots().first().expect("a slot").built();
    let iommus = &system.machine.iommus;
    let waiting = || {
        let mut count = 0;
        iommus.owners().take(vm.owner, &mut |_| count += 1);
        count
    };
    let storm = |events: u64| {
        for event in 0..events {
            rig.driver.push_event(FaultRecord {
                kind: FaultKind::Translation,
                stream: StreamId::new(NVME.into()),
                substream: None,
                access: Access { write: true, ..Access::default() },
                class: FaultClass::Input,
                stage2: true,
                stall: None,
                address: event << 12,
                ipa: event << 12,
                raw: [0; 4],
            });
        }
        gic.take_calls();
    };
    let left = || iommus.instances().iter().map(|one| iommus.drain(one, 64).records).sum::<usize>();
    let (kick, began) = (FakeCall::Sgi(1, KICK_SGI), Counter.now());
    // A single one: filed by a core of the VM, not by the one that took the interrupt.
    storm(1);
    faults::interrupt(system, began);
    assert_eq!(gic.take_calls(), [kick]);
    faults::kicked(system, 0);
    assert_eq!(waiting(), 1, "core 0 is not its own");
    storm(1);
    faults::interrupt(system, began);
    faults::kicked(system, 1);
    assert_eq!(waiting(), 0, "in its ring, or told that it has none");
    // A storm: one interrupt takes so many, the rest is its own core's.
    storm(600);
    faults::interrupt(system, began);
    assert!(gic.take_calls().contains(&kick));
    assert_eq!(left(), 64, "344 are left, and this took one turn of them");
    faults::interrupt(system, began);
    assert_eq!(gic.take_calls(), [kick], "the next interrupt is handed over whole");
    faults::kicked(system, 1);
    faults::kicked(system, 1);
    assert_eq!(left(), 0, "280 more, in two turns of its own core");
}

/// What each thread's code logged.
struct Listener;

std::thread_local! {
    static HEARD: core::cell::RefCell<Vec<alloc::string::String>> = core::cell::RefCell::default();
}

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        HEARD.with_borrow_mut(|heard| heard.push(record.args().to_string()));
    }
    fn flush(&self) {}
}

#[test]
fn a_guest_that_resets_in_a_loop_is_not_logged_without_limit() {
    let _ = log::set_logger(&Listener);
    log::set_max_level(log::LevelFilter::Info);
    let rig = rig();
    let vm = built(&rig, &[]);
    vm.boot(&rig.system.machine);
    HEARD.with_borrow_mut(Vec::clear);
    let began = std::time::Instant::now();
    for _ in 0..200 {
        vm.vm.stop(&rig.system.machine.gic);
        assert!(vm.restart(&rig.system.machine));
    }
    // Four a second, each of two lines, and one that sums up.
    let most = (began.elapsed().as_secs() as usize + 2) * 9;
    let lines = HEARD.with_borrow(Vec::len);
    assert!(lines > 0 && lines <= most, "{lines} lines, {most} at most");
}

#[test]
fn stop_and_start_go_through_ending() {
    let rig = rig();
    let system = rig.system;
    system.set_vms(vec![built(&rig, &[pci(NVME, 8)])]);
    let slot = system.slots().first().expect("a slot");
    let vm = slot.built();
    vm.boot(&system.machine);
    assert_eq!(request_restart(system, slot), Err(RestartError::Running));
    assert!(vm.stop(&system.machine));
    assert!(!vm.stop(&system.machine), "once");
    assert_eq!(vm.standing().name(), "ending");
    assert_eq!(request_restart(system, slot), Err(RestartError::Ending));
    // Its memory is another VM's concern: one more is to end, so that the machine stays on.
    assert!(system.one_more());
    end(system, &vm, Outcome::Off);
    assert_eq!(vm.standing().name(), "off");
    assert_eq!(request_restart(system, slot), Ok(()));
    assert_eq!(request_restart(system, slot), Err(RestartError::Requested));
    drop(vm);
    rebuild(system, slot);
    assert!(!slot.is_requested());
    assert_eq!(slot.built().standing().name(), "started");
    assert_eq!(state(&rig, NVME), StreamState::Stage2);
    // The last one: nothing keeps the machine on.
    slot.built().stop(&system.machine);
    end(system, &slot.built(), Outcome::Off);
    system.one_less();
    assert!(system.all_ended());
    assert_eq!(request_restart(system, slot), Err(RestartError::AllEnded));
    assert!(!slot.is_requested());
}

#[test]
fn a_rebuild_that_fails_leaves_the_ended_vm() {
    let rig = rig();
    let system = rig.system;
    system.set_vms(vec![built(&rig, &[pci(NVME, 8)])]);
    let slot = system.slots().first().expect("a slot");
    assert!(system.one_more());
    slot.built().stop(&system.machine);
    end(system, &slot.built(), Outcome::Off);
    let before = standing(&rig);
    assert_eq!(request_restart(system, slot), Ok(()));
    rig.driver.fail_after(0, DriverError::InvalidationTimeout);
    rebuild(system, slot);
    assert!(!slot.is_requested() && slot.built().is_gone());
    assert_eq!(standing(&rig).2, before.2);
    assert!(!system.all_ended());
}

#[test]
fn a_device_leaves_a_running_vm_and_comes_back() {
    let rig = rig();
    let system = rig.system;
    let machine = &system.machine;
    let vm = built(&rig, &[pci(NVME, 8)]);
    assert!(matches!(hotplug::detach(system, &vm, at(NVME)), Err(HotplugError::NotRunning(_))));
    vm.boot(machine);
    let wired = lines_on(&rig);
    assert_eq!(wired.len(), 1);
    assert!(matches!(hotplug::detach(system, &vm, at(SECOND)), Err(HotplugError::NotOwned(_))));
    hotplug::detach(system, &vm, at(NVME)).expect("detached");
    assert_eq!(state(&rig, NVME), StreamState::Abort);
    assert_eq!(vm.pci.places().len(), 0);
    let AnyGic::Fake(gic) = &machine.gic else { unreachable!() };
    assert!(gic.take_calls().contains(&FakeCall::Enable(wired[0], false)));
    assert_eq!(machine.devices.lines().holder(wired[0]), Some(Holder::PcieHost));
    hotplug::assign(system, &vm, at(NVME), 8).expect("assigned");
    assert_eq!(state(&rig, NVME), StreamState::Stage2);
    assert_eq!(lines_on(&rig), wired);
    assert!(matches!(hotplug::assign(system, &vm, at(SECOND), 8), Err(HotplugError::Bus(_))));
    assert!(matches!(hotplug::assign(system, &vm, at(NVME), 16), Err(HotplugError::Refused(_))));
    hotplug::assign(system, &vm, at(SECOND), 16).expect("a second one");
    assert_eq!(vm.pci.places().len(), 2);
}

#[test]
fn a_hot_plug_whose_kth_driver_call_fails_leaves_nothing() {
    for calls in 0.. {
        let rig = rig();
        let system = rig.system;
        let vm = built(&rig, &[pci(NVME, 8)]);
        vm.boot(&system.machine);
        let wired = lines_on(&rig);
        rig.driver.fail_after(calls, DriverError::InvalidationTimeout);
        let plugged = hotplug::assign(system, &vm, at(SECOND), 16);
        if rig.driver.disarm() {
            assert!(plugged.is_ok() && calls > 0, "some call did fail");
            return;
        }
        assert!(plugged.is_err(), "call {calls}");
        assert_eq!(vm.pci.places().len(), 1, "call {calls}");
        assert_ne!(state(&rig, SECOND), StreamState::Stage2, "call {calls}");
        assert_eq!(state(&rig, NVME), StreamState::Stage2, "the other stays");
        let AnyGic::Fake(gic) = &system.machine.gic else { unreachable!() };
        let touched =
            |call: &FakeCall| matches!(call, FakeCall::Enable(line, _) if wired.contains(line));
        assert!(!gic.take_calls().iter().any(touched), "call {calls}");
        let owned = system.machine.devices.rows();
        assert_eq!(owned.iter().filter(|row| row.owner.is_some()).count(), 1, "call {calls}");
    }
}

#[test]
fn an_unplug_whose_kth_driver_call_fails_frees_nothing_unconfirmed() {
    for calls in 0.. {
        let rig = rig();
        let system = rig.system;
        let vm = built(&rig, &[pci(NVME, 8)]);
        vm.boot(&system.machine);
        rig.driver.fail_after(calls, DriverError::InvalidationTimeout);
        let unplugged = hotplug::detach(system, &vm, at(NVME));
        assert_eq!(vm.pci.places().len(), 0, "call {calls}");
        assert_ne!(state(&rig, NVME), StreamState::Stage2, "call {calls}");
        if rig.driver.disarm() {
            assert!(unplugged.is_ok() && calls > 0, "some call did fail");
            return;
        }
        let Err(HotplugError::NotFree { condition, .. }) = unplugged else {
            panic!("call {calls}: {unplugged:?}");
        };
        assert_eq!(condition, Condition::Dead, "call {calls}");
        // The next owner does not get it either.
        let again = hotplug::assign(system, &vm, at(NVME), 8);
        assert!(format!("{again:?}").contains("Dead"), "call {calls}: {again:?}");
    }
}

#[test]
fn an_end_whose_kth_driver_call_fails_releases_nothing_unconfirmed() {
    for calls in 0.. {
        let rig = rig();
        let system = rig.system;
        let before = standing(&rig);
        let vm = built(&rig, &[pci(NVME, 8)]);
        vm.vm.stop(&system.machine.gic);
        assert!(!system.one_more(), "none is counted");
        system.set_vms(Vec::new());
        rig.driver.fail_after(calls, DriverError::InvalidationTimeout);
        end(system, &vm, Outcome::Off);
        let failed = !rig.driver.disarm();
        drop(vm);
        let now = standing(&rig);
        assert_eq!(now.2, before.2, "call {calls}: lines");
        assert_ne!(state(&rig, NVME), StreamState::Stage2, "call {calls}");
        assert_eq!(now.0.free + now.0.quarantined + now.0.leaked, before.0.free, "call {calls}");
        if !failed {
            assert_eq!(now, before);
            assert!(calls > 0, "some call did fail");
            return;
        }
    }
}
