//! Devices change hands only through abort, drain, reset and proof. The bus is a fake hierarchy,
//! the IOMMU a fake driver that notes every call.

#[path = "passthrough/idle.rs"]
mod idle;
#[path = "passthrough/plug.rs"]
mod plug;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use palisade_board::{
    IdMap, IdMapEntry, Interrupt, InterruptMapEntry, PcieHost, Range, Space, Trigger, Window,
};
use palisade_bundle::{Device, Place, Requester};
use palisade_hal::fake::{Device as FakeDevice, SteppedClock, Width};
use palisade_hal::mmio::Mmio;
use palisade_hal::{PhysAddr, StreamId};
use palisade_iommu::fake::{Call, FakeDriver, registration};
use palisade_iommu::{
    Access, Capabilities, Condition, DeviceId, DeviceInfo, Domain, DriverError, FaultClass,
    FaultKind, FaultRecord, Invalidation, IommuDriver, Iommus, Owner, StreamState,
};
use palisade_pci::fake::{Event, FakeBus, FakeFunction};
use palisade_pci::regs::{acs, extended, header};
use palisade_pci::{Address, Ecam, Topology};
use palisade_vm::passthrough::{Bus, Passthrough, Refusal, Request};

const SMMU: u32 = 7;
const NVME: u16 = 0x0100;
const EDU: u16 = 0x0200;
/// Wherever a device may be that translates itself.
const DEVICES: [u16; 4] = [NVME, NVME + 1, EDU, 0x0020];

fn host(smmu: bool) -> PcieHost {
    let range = |base, size| Range::new(base, size).expect("range");
    let window =
        |space, bus, size| Window { space, prefetchable: false, bus, cpu: range(bus, size) };
    let lines = (0..16u32).map(|n| InterruptMapEntry {
        unit: (n / 4) << 11,
        pin: n % 4 + 1,
        interrupt: Interrupt { intid: 35 + (n / 4 + n % 4) % 4, trigger: Trigger::Level },
    });
    let line = IdMapEntry { input: 0, controller: SMMU, output: 0, length: 0x1_0000 };
    PcieHost {
        ecam: range(0x40_1000_0000, 0x1000_0000),
        segment: 0,
        first_bus: 0,
        last_bus: 255,
        windows: [window(Space::Memory32, 0x1000_0000, 0x2eff_0000)].into_iter().collect(),
        interrupt_mask: (0x1800, 7),
        interrupt_map: lines.collect(),
        iommu_map: IdMap { mask: None, entries: smmu.then_some(line).into_iter().collect() },
        msi_map: IdMap::default(),
        coherent: true,
        keep: false,
    }
}

struct Rig {
    clock: Arc<SteppedClock>,
    bus: Arc<FakeBus>,
    driver: Arc<FakeDriver>,
    iommus: Iommus,
    book: Passthrough,
    /// Set if a transfer ever went out while its stream did not abort.
    escaped: Arc<AtomicBool>,
    /// The state of the stream whenever ATS went off in its device.
    untranslated: Arc<Mutex<Vec<StreamState>>>,
    /// Set if ATS was on in a device whose stream is known to do without, or went off in one of
    /// which that was not known.
    disagreed: Arc<AtomicBool>,
}

/// The bus, with an eye on the ATS control of every device.
struct Watched {
    bus: Arc<FakeBus>,
    driver: Arc<FakeDriver>,
    untranslated: Arc<Mutex<Vec<StreamState>>>,
    disagreed: Arc<AtomicBool>,
}

/// The ATS Control Register's enable bit of a device whose first extended capability that is.
fn ats(bus: &FakeBus, bdf: u16) -> bool {
    bus.peek32(bdf, extended::START) as u16 == extended::ATS
        && bus.peek32(bdf, extended::START + 4) >> 31 != 0
}

impl FakeDevice for Watched {
    fn read(&self, offset: u64, width: Width) -> u64 {
        self.bus.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let before = DEVICES.map(|bdf| ats(&self.bus, bdf));
        self.bus.write(offset, width, value);
        for (bdf, before) in DEVICES.into_iter().zip(before) {
            let (stream, on) = (StreamId::new(bdf.into()), ats(&self.bus, bdf));
            if before && !on {
                let state = self.driver.stream_state(stream);
                self.untranslated.lock().unwrap().push(state);
            }
            let aborts = self.driver.stream_state(stream) == StreamState::Abort;
            if before != on && !aborts && self.driver.device_tlb(stream) != on {
                self.disagreed.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn nvme() -> FakeFunction {
    FakeFunction::endpoint(0, 0, 0x0010_1b36).bar64(0, 0x4000, false).pin(1).express(0, true)
}

/// As QEMU's: no reset of its own, and one from above does not stop its engine.
fn edu() -> FakeFunction {
    FakeFunction::endpoint(0, 0, 0x11e8_1234).bar32(0, 0x10_0000).pin(1).survives_reset()
}

fn ports() -> Vec<FakeFunction> {
    vec![FakeFunction::root_port(1, vec![nvme()]), FakeFunction::root_port(2, vec![edu()])]
}

fn rig(root: Vec<FakeFunction>, driver: Option<Arc<FakeDriver>>) -> Rig {
    let board = host(driver.is_some());
    let seen: Arc<OnceLock<(Arc<FakeBus>, Arc<FakeDriver>)>> = Arc::default();
    let escaped = Arc::new(AtomicBool::new(false));
    let (looking, alarm, gone) = (seen.clone(), escaped.clone(), AtomicBool::new(false));
    let clock = Arc::new(SteppedClock::with_hook(move || {
        let Some((bus, driver)) = looking.get() else { return };
        if gone.load(Ordering::Relaxed) {
            return;
        }
        let transfer = bus.first_transfer();
        if let Some(requester) = transfer {
            gone.store(true, Ordering::Relaxed);
            let state = driver.stream_state(StreamId::new(requester.into()));
            alarm.store(state != StreamState::Abort, Ordering::Relaxed);
        }
    }));
    let known = driver.is_some();
    let driver = driver.unwrap_or_else(FakeDriver::new);
    let bus = FakeBus::new(clock.clone(), root);
    let (untranslated, disagreed) = (Arc::default(), Arc::<AtomicBool>::default());
    let watched = Watched {
        bus: bus.clone(),
        driver: driver.clone(),
        untranslated: Arc::clone(&untranslated),
        disagreed: disagreed.clone(),
    };
    let ecam = Ecam::new(Mmio::fake(Arc::new(watched), board.ecam.size()), &board);
    let topology = Arc::new(Topology::enumerate(ecam, &board));
    assert_eq!(topology.problems(), []);
    let iommus = Iommus::new(4, 16);
    for (index, function) in topology.functions().iter().enumerate() {
        if !function.is_endpoint() {
            continue;
        }
        let streams = topology.streams(index, &board).expect("one SMMU");
        iommus
            .add_device(DeviceInfo {
                id: DeviceId::new(function.address.number()),
                name: function.address.to_string(),
                iommu: streams.as_ref().map(|streams| streams.controller),
                streams: streams.iter().flat_map(|s| &s.ids).map(|id| StreamId::new(*id)).collect(),
                isolation: topology.isolation(index),
            })
            .expect("announced");
    }
    if known {
        let instance = registration(SMMU, driver.clone());
        iommus.register(instance).map_err(|rejected| rejected.error).expect("registered");
    }
    let _ = seen.set((bus.clone(), driver.clone()));
    let book = Passthrough::new(vec![Bus { host: board, topology }]);
    Rig { clock, bus, driver, iommus, book, escaped, untranslated, disagreed }
}

fn device(bdf: u16, guest: u16) -> Device<'static> {
    let place = Place::Pci(Requester { segment: 0, bdf });
    Device { place, guest, no_reset: false, settle_ms: 0, ats_trusted: false, stalls: false }
}

impl Rig {
    fn domain(&self, vm: u16) -> (Owner, Arc<Domain>) {
        let owner = self.iommus.owners().open(vm).expect("slot");
        let root = PhysAddr::new(0x4000_0000 + u64::from(vm) * 0x1000);
        (owner, self.iommus.paging_domain(owner, root, 0).expect("domain"))
    }

    /// Assigns and answers the addresses, or the refusal.
    fn assign(
        &self,
        vm: u16,
        domain: &Arc<Domain>,
        devices: &[Device<'_>],
    ) -> Result<Vec<Address>, Refusal> {
        let request = Request { vm, devices, present: &[], no_isolation: false };
        let assigned = self.book.assign(&request, domain, &self.iommus, &*self.clock)?;
        Ok(assigned.iter().map(|assigned| assigned.address).collect())
    }

    fn take_back(&self, vm: u16) -> Vec<(u16, Condition)> {
        let returned = self.book.take_back(vm, &self.iommus, &*self.clock);
        returned.iter().map(|r| (r.address.requester(), r.condition)).collect()
    }

    fn state(&self, bdf: u16) -> StreamState {
        self.driver.stream_state(StreamId::new(bdf.into()))
    }

    fn master(&self, bdf: u16, on: bool) {
        let topology = &self.book.buses()[0].topology;
        let config = topology.ecam().config(Address::new(0, bdf));
        config.write16(header::COMMAND, if on { header::COMMAND_MASTER } else { 0 });
    }
}

fn at(bdf: u16) -> Address {
    Address::new(0, bdf)
}

#[test]
fn a_device_is_reset_before_its_first_owner_and_after() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    assert_eq!(rig.assign(0, &domain, &[device(NVME, 8)]), Ok(vec![at(NVME)]));
    assert_eq!(rig.bus.resets(NVME), 1);
    assert_eq!(rig.state(NVME), StreamState::Stage2);
    rig.master(NVME, true);
    assert_eq!(rig.take_back(0), [(NVME, Condition::Free)]);
    assert_eq!(rig.bus.resets(NVME), 2);
    assert_eq!(rig.state(NVME), StreamState::Abort);
    assert_eq!(rig.bus.peek32(NVME, header::COMMAND) as u16 & header::COMMAND_MASTER, 0);
    // And the next one gets it.
    let (_, other) = rig.domain(1);
    assert_eq!(rig.assign(1, &other, &[device(NVME, 8)]), Ok(vec![at(NVME)]));
    assert_eq!(rig.driver.core_faults(), [] as [String; 0]);
}

#[test]
fn one_device_moves_while_the_others_stay() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let settling = Device { settle_ms: 200, ..device(EDU, 16) };
    rig.assign(0, &domain, &[device(NVME, 8), settling]).expect("assigned");
    rig.master(NVME, true);
    let take = |vm: u16, bdf: u16| {
        let all = rig.book.take_back_device(vm, at(bdf), &rig.iommus, &*rig.clock);
        all.iter().map(|r| (r.address.requester(), r.condition)).collect::<Vec<_>>()
    };
    assert_eq!(take(1, NVME), [], "not its own");
    assert_eq!(take(0, NVME), [(NVME, Condition::Free)]);
    assert_eq!((rig.state(NVME), rig.state(EDU)), (StreamState::Abort, StreamState::Stage2));
    assert_eq!(rig.bus.resets(EDU), 1, "untouched since it was assigned");
    let (_, other) = rig.domain(1);
    assert_eq!(rig.assign(1, &other, &[device(NVME, 8)]), Ok(vec![at(NVME)]));
    assert_eq!(rig.take_back(0), [(EDU, Condition::Free)]);
}

#[test]
fn only_a_device_that_nobody_owns_is_reset() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let reset = |bdf| rig.book.reset_unowned(at(bdf), &rig.iommus, &*rig.clock);
    assert_eq!(reset(NVME), Ok(true), "before its first owner");
    rig.assign(0, &domain, &[device(NVME, 8)]).expect("assigned");
    let resets = rig.bus.resets(NVME);
    assert_eq!(reset(NVME), Err(Refusal::Claimed { device: at(NVME), vm: 0 }));
    assert_eq!(rig.bus.resets(NVME), resets, "untouched");
    assert_eq!(rig.state(NVME), StreamState::Stage2);
    rig.take_back(0);
    rig.master(NVME, true);
    assert_eq!(reset(NVME), Ok(true));
    assert_eq!(rig.bus.resets(NVME), resets + 2);
    assert_eq!(rig.bus.peek32(NVME, header::COMMAND) as u16 & header::COMMAND_MASTER, 0);
    assert_eq!(reset(0x0700), Err(Refusal::Absent(at(0x0700))));
}

/// Neither its VM nor the next one lifts it; the operator's reset does.
#[test]
fn a_contained_device_is_the_operators_to_reset() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    rig.assign(0, &domain, &[device(NVME, 8)]).expect("assigned");
    rig.driver.set_event_budget(1);
    for address in [0x1000, 0x2000] {
        rig.driver.push_event(FaultRecord {
            kind: FaultKind::Translation,
            stream: StreamId::new(NVME.into()),
            substream: None,
            access: Access::default(),
            class: FaultClass::Input,
            stage2: true,
            stall: None,
            address,
            ipa: address,
            raw: [0; 4],
        });
    }
    let group = rig.iommus.group_of(DeviceId::new(NVME.into())).expect("its group");
    rig.iommus.drain(group.instance(), 64);
    assert_eq!(rig.state(NVME), StreamState::Abort);
    rig.book.reset(0, &rig.iommus, &*rig.clock).expect("its VM starts anew");
    assert_eq!(rig.state(NVME), StreamState::Abort);
    rig.take_back(0);
    let (_, other) = rig.domain(1);
    let assign = || rig.assign(1, &other, &[device(NVME, 8)]);
    assert_eq!(assign(), Err(Refusal::Contained(at(NVME))));
    assert_eq!(rig.book.reset_unowned(at(NVME), &rig.iommus, &*rig.clock), Ok(true));
    assert_eq!(assign(), Ok(vec![at(NVME)]));
    assert_eq!(rig.state(NVME), StreamState::Stage2);
}

#[test]
fn a_vm_that_starts_anew_keeps_its_devices_but_not_their_state() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    rig.assign(0, &domain, &[device(NVME, 8)]).expect("assigned");
    rig.master(NVME, true);
    rig.book.reset(0, &rig.iommus, &*rig.clock).expect("as it was");
    assert_eq!(rig.bus.resets(NVME), 2);
    assert_eq!(rig.state(NVME), StreamState::Stage2);
    assert_eq!(rig.bus.peek32(NVME, header::COMMAND) as u16 & header::COMMAND_MASTER, 0);
    assert_eq!(rig.book.rows()[0].owner, Some(0));
}

#[test]
fn a_transfer_in_flight_drains_into_the_aborting_stream() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let settling = Device { settle_ms: 200, ..device(EDU, 8) };
    rig.assign(0, &domain, &[settling]).expect("assigned");
    rig.master(EDU, true);
    rig.bus.arm(EDU, 100_000);
    assert_eq!(rig.take_back(0), [(EDU, Condition::Free)]);
    let events: Vec<Event> = rig.bus.events().into_iter().map(|(_, event)| event).collect();
    let place = |wanted: Event| events.iter().rposition(|event| *event == wanted);
    let transfer = place(Event::Transfer(EDU));
    assert!(transfer.is_some(), "it went off before the reset could postpone it");
    assert!(transfer < place(Event::Master(EDU, false)), "while bus mastering was on");
    assert!(place(Event::Master(EDU, false)) < place(Event::Reset(EDU)));
    assert!(!rig.escaped.load(Ordering::Relaxed), "into a stream that aborts");
}

#[test]
fn a_transfer_that_waits_for_bus_mastering_is_not_left_to_the_next_owner() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let settling = Device { settle_ms: 200, ..device(EDU, 8) };
    rig.assign(0, &domain, &[settling]).expect("assigned");
    // Armed, and then switched off by the guest.
    rig.master(EDU, true);
    rig.bus.arm(EDU, 10);
    rig.master(EDU, false);
    rig.clock.advance(1000);
    assert_eq!(rig.take_back(0), [(EDU, Condition::Free)]);
    let (_, other) = rig.domain(1);
    rig.assign(1, &other, &[settling]).expect("assigned");
    let before = rig.bus.events().len();
    rig.master(EDU, true);
    rig.clock.advance(1_000_000);
    let after = rig.bus.events();
    assert!(!after[before..].iter().any(|(_, event)| *event == Event::Transfer(EDU)));
    assert!(!rig.escaped.load(Ordering::Relaxed));
}

#[test]
fn the_control_experiment_without_settling_fails() {
    // What the settling time is for: without it the transfer outlives the change of hands.
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    rig.assign(0, &domain, &[device(EDU, 8)]).expect("assigned");
    rig.master(EDU, true);
    rig.bus.arm(EDU, 1_000_000);
    rig.take_back(0);
    let (_, other) = rig.domain(1);
    rig.assign(1, &other, &[device(EDU, 8)]).expect("assigned");
    rig.master(EDU, true);
    rig.clock.advance(1_000_000);
    assert!(rig.bus.events().iter().any(|(_, event)| *event == Event::Transfer(EDU)));
}

#[test]
fn refusals_come_before_anything_is_touched() {
    let mut root = ports();
    root.push(FakeFunction::endpoint(3, 0, 0x0008_1b36).byte(0x0b, 6));
    root.push(edu_at(4));
    let rig = rig(root, Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let refused = |devices: &[Device<'_>]| rig.assign(0, &domain, devices).expect_err("refused");
    assert_eq!(refused(&[device(NVME, 8), device(0x0900, 16)]), Refusal::Absent(at(0x0900)));
    assert_eq!(refused(&[device(0x0008, 8)]), Refusal::NotAssignable(at(0x0008)), "a port");
    assert_eq!(refused(&[device(0x0018, 8)]), Refusal::NotAssignable(at(0x0018)), "a host bridge");
    assert_eq!(
        refused(&[device(NVME, 8), device(0x0020, 16)]),
        Refusal::NoReset(palisade_pci::Error::NoReset(at(0x0020)))
    );
    assert_eq!(
        refused(&[device(NVME, 8), device(NVME, 16)]),
        Refusal::Claimed { device: at(NVME), vm: 0 }
    );
    assert_eq!(
        refused(&[device(NVME, 8), device(EDU, 8)]),
        Refusal::GuestAddress { device: at(EDU), guest: 8 }
    );
    assert_eq!(rig.bus.resets(NVME), 0);
    assert!(rig.book.rows().is_empty());
    let waived = Device { no_reset: true, ..device(0x0020, 16) };
    assert_eq!(rig.assign(0, &domain, &[waived]), Ok(vec![at(0x0020)]));
    assert_eq!(rig.bus.resets(0x0020), 0, "as the operator said");
    let (_, other) = rig.domain(1);
    assert_eq!(
        rig.assign(1, &other, &[waived]),
        Err(Refusal::Claimed { device: at(0x0020), vm: 0 })
    );
}

fn edu_at(device: u8) -> FakeFunction {
    FakeFunction::endpoint(device, 0, 0x11e8_1234).bar32(0, 0x10_0000)
}

#[test]
fn without_stage_2_nobody_gets_a_device() {
    let able = FakeDriver::new().capabilities();
    let lame = FakeDriver::with(palisade_iommu::Capabilities { stage2: false, ..able });
    let rig = rig(ports(), Some(lame));
    let (_, domain) = rig.domain(0);
    let refusal = rig.assign(0, &domain, &[device(NVME, 8)]).expect_err("refused");
    assert_eq!(refusal, Refusal::NoStageTwo { device: at(NVME), phandle: SMMU });
    assert!(refusal.to_string().starts_with("device 0000:01:00.0: SMMU 0x7 has no stage 2"));
    assert_eq!(rig.bus.resets(NVME), 0);
}

#[test]
fn without_an_smmu_it_takes_the_explicit_words() {
    let rig = rig(ports(), None);
    let (_, domain) = rig.domain(0);
    let refusal = rig.assign(0, &domain, &[device(NVME, 8)]).expect_err("refused");
    assert_eq!(refusal, Refusal::NoSmmu(at(NVME)));
    assert!(refusal.to_string().contains("no SMMU"));
    let devices = [device(NVME, 8), device(EDU, 16)];
    let request = Request { vm: 0, devices: &devices, present: &[], no_isolation: true };
    let assigned =
        rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).expect("as the manifest says");
    assert!(assigned.iter().all(|assigned| !assigned.isolated));
    assert!(rig.book.rows().iter().all(|row| !row.isolated && row.owner == Some(0)));
    // The one tells that nothing is pending; the other cannot, and nothing aborted meanwhile.
    assert_eq!(rig.take_back(0), [(NVME, Condition::Free), (EDU, Condition::Quarantined)]);
    let again = Request { vm: 0, devices: &devices[1..], present: &[], no_isolation: true };
    let refusal = rig.book.assign(&again, &domain, &rig.iommus, &*rig.clock).err();
    assert_eq!(refusal, Some(Refusal::Quarantined(at(EDU))));
}

#[test]
fn a_group_moves_whole_or_not_at_all() {
    let pair = vec![
        nvme().multi_function(),
        FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true).multi_function(),
    ];
    let rig = rig(vec![FakeFunction::root_port(1, pair)], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    assert_eq!(
        rig.assign(0, &domain, &[device(0x0100, 8)]),
        Err(Refusal::Split { device: at(0x0100), other: at(0x0101) })
    );
    assert!(rig.assign(0, &domain, &[device(0x0100, 8), device(0x0101, 9)]).is_ok());
    assert_eq!((rig.state(0x0100), rig.state(0x0101)), (StreamState::Stage2, StreamState::Stage2));
    assert_eq!(rig.take_back(0), [(0x0100, Condition::Free), (0x0101, Condition::Free)]);
    let separate = vec![
        nvme().multi_function().acs(acs::ISOLATING_FUNCTION),
        FakeFunction::endpoint(0, 1, 0x1111_2222)
            .express(0, true)
            .multi_function()
            .acs(acs::ISOLATING_FUNCTION),
    ];
    let rig = self::rig(vec![FakeFunction::root_port(1, separate)], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    assert!(rig.assign(0, &domain, &[device(0x0100, 8)]).is_ok());
}

#[test]
fn functions_of_one_device_do_not_go_to_two_vms() {
    // The second leaves the bit clear that says that there are several, as it may.
    let pair =
        vec![nvme().multi_function(), FakeFunction::endpoint(0, 1, 0x1111_2222).express(0, true)];
    let rig = rig(vec![FakeFunction::root_port(1, pair)], Some(FakeDriver::new()));
    let (_, first) = rig.domain(0);
    let (_, second) = rig.domain(1);
    let split = |device, other| Err(Refusal::Split { device: at(device), other: at(other) });
    assert_eq!(rig.assign(0, &first, &[device(0x0100, 8)]), split(0x0100, 0x0101));
    assert_eq!(rig.assign(1, &second, &[device(0x0101, 8)]), split(0x0101, 0x0100));
    assert_eq!(rig.bus.resets(0x0100) + rig.bus.resets(0x0101), 0);
    assert!(rig.assign(0, &first, &[device(0x0100, 8), device(0x0101, 9)]).is_ok());
}

#[test]
fn a_slot_that_no_scan_finds_is_refused() {
    let rig = rig(ports(), Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    for (guest, word) in [(0xffff, "no root port"), (0x0108, "device 0"), (0x000f, "function 0")] {
        let refusal = rig.assign(0, &domain, &[device(NVME, guest)]).expect_err("refused");
        assert!(matches!(refusal, Refusal::Hidden { .. }), "{refusal}");
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
    assert_eq!(rig.bus.resets(NVME), 0);
    // Beside a function 0 it is found: of the same manifest, or there already.
    assert!(rig.assign(0, &domain, &[device(NVME, 15), device(EDU, 8)]).is_ok());
    rig.take_back(0);
    let (_, domain) = rig.domain(1);
    let devices = [device(NVME, 15)];
    let request = Request { vm: 1, devices: &devices, present: &[8], no_isolation: false };
    assert!(rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).is_ok());
}

#[test]
fn behind_one_bridge_one_device_sends_messages() {
    // They carry the bridge's name, so that only one can be told by it.
    let behind = vec![edu_at(4), edu_at(5)];
    let bridge = FakeFunction::bridge(4, 0, behind).express(7, false);
    let mut root = ports();
    root.push(bridge);
    let rig = rig(root, Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let secondary = 0x0300;
    let devices = [device(secondary | 0x20, 8), device(secondary | 0x28, 16), device(NVME, 24)];
    let request = Request { vm: 0, devices: &devices, present: &[], no_isolation: false };
    let assigned = rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).expect("together");
    let messages: Vec<_> = assigned.iter().map(|one| (one.message, one.guest.messages)).collect();
    assert_eq!(messages, [(Some(secondary), true), (None, false), (Some(NVME), true)]);
    // And again for the next owner.
    rig.take_back(0);
    let (_, other) = rig.domain(1);
    let request = Request { vm: 1, ..request };
    let assigned = rig.book.assign(&request, &other, &rig.iommus, &*rig.clock).expect("together");
    assert_eq!(assigned[0].message, Some(secondary));
}

#[test]
fn a_device_that_does_not_come_back_is_dead() {
    let stubborn = FakeFunction::root_port(1, vec![nvme().reset_takes(500_000)]);
    let rig = rig(vec![stubborn], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    rig.assign(0, &domain, &[device(NVME, 8)]).expect("slow, but in time");
    // From now on its ID reads as another's.
    rig.bus.poke(NVME, 2, 0x66);
    assert_eq!(rig.take_back(0), [(NVME, Condition::Dead)]);
    assert_eq!(rig.state(NVME), StreamState::Abort);
    let (_, other) = rig.domain(1);
    assert_eq!(rig.assign(1, &other, &[device(NVME, 8)]), Err(Refusal::Dead(at(NVME))));
}

#[test]
fn a_device_translates_until_its_own_tlb_is_empty() {
    let rig = rig(vec![FakeFunction::root_port(1, vec![nvme().ats()])], Some(FakeDriver::new()));
    let (_, domain) = rig.domain(0);
    let trusted = Device { ats_trusted: true, ..device(NVME, 8) };
    rig.assign(0, &domain, &[trusted]).expect("assigned");
    // A VM that starts anew keeps its devices as its streams are.
    rig.book.reset(0, &rig.iommus, &*rig.clock).expect("as it was");
    assert!(translates(&rig, NVME), "the stream takes translations that the device lacks");
    assert!(!rig.disagreed.load(Ordering::Relaxed), "device and stream did not agree about ATS");
    rig.untranslated.lock().unwrap().clear();
    rig.take_back(0);
    let states = rig.untranslated.lock().unwrap().clone();
    assert_eq!(states.first(), Some(&StreamState::Abort), "invalidations met one without ATS");
}

#[test]
fn a_shared_wire_goes_to_the_first() {
    // Slots 1 and 5 of the root bus lead to one wire.
    let root = vec![
        FakeFunction::root_port(1, vec![nvme()]),
        FakeFunction::root_port(5, vec![nvme()]),
        FakeFunction::root_port(2, vec![nvme()]),
    ];
    let rig = rig(root, Some(FakeDriver::new()));
    let wires = |vm: u16, bdf: u16| {
        let (_, domain) = rig.domain(vm);
        let devices = [device(bdf, 8)];
        let request = Request { vm, devices: &devices, present: &[], no_isolation: false };
        let assigned =
            rig.book.assign(&request, &domain, &rig.iommus, &*rig.clock).expect("assigned");
        (assigned[0].guest.wired, assigned[0].wire.map(|(wire, guest)| (wire.intid, guest)))
    };
    // The guest sees both in slot 1, pin A.
    assert_eq!(wires(0, 0x0100), (true, Some((36, 36))));
    assert_eq!(wires(1, 0x0300), (false, None));
    assert_eq!(wires(2, 0x0200), (true, Some((37, 36))));
    rig.take_back(0);
    rig.take_back(1);
    assert_eq!(rig.book.rows().iter().filter(|row| row.wire.is_some()).count(), 1);
}

/// Whether the device has its ATS on.
fn translates(rig: &Rig, bdf: u16) -> bool {
    ats(&rig.bus, bdf)
}
