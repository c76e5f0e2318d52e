//! Properties of the guest interface:
//! 1. What a guest names is looked up among its own; anything else is `NOT_FOUND`.
//! 2. A call that fails leaves everything as it was.
//! 3. No sequence of calls, with any arguments and with memory changing under them, panics,
//!    reaches beyond the VM, or makes the core do what would be dangerous on hardware.
//! 4. Faults of the guest's own making reach its ring; what does not fit is counted.

#![allow(missing_docs)]

mod stalls;
mod storm;

use std::sync::{Arc, Mutex};

use palisade_abi::{
    BindFlags, DeviceFlags, FAULT_BYTES, FaultFlags, FaultRecord, InvalidationRecord,
    RING_HEADER_BYTES, RING_MAGIC, RingHeader, Status, call, unpack_widths,
};
use palisade_hal::{Ipa, PhysAddr, StreamId, SubstreamId};
use palisade_iommu::fake::{self, Call, FakeDriver, Reach};
use palisade_iommu::{
    Access, Condition, DeviceId, DeviceInfo, DriverError, FaultClass, FaultKind,
    FaultRecord as Raw, Invalidation, IommuDriver, Iommus, Owner, PhysicalView, StreamPolicy,
    StreamState,
};

use palisade_vm::hypercall::{
    GuestRam, Kept, OutsideRam, Service, ServiceDevice, ServiceFootprint,
};

const RAM: u64 = 0x4000_0000;
const BYTES: u64 = 0x10_0000;
const ROOT: u64 = RAM + 0x1_0000;
const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 32;

struct Ram(Mutex<(Vec<u8>, Option<Random>)>);

impl Ram {
    fn range(start: Ipa, bytes: usize) -> Result<std::ops::Range<usize>, OutsideRam> {
        let offset = start.get().checked_sub(RAM).ok_or(OutsideRam(start))?;
        let end = offset.checked_add(bytes as u64).ok_or(OutsideRam(start))?;
        if end > BYTES { Err(OutsideRam(start)) } else { Ok(offset as usize..end as usize) }
    }

    fn word(&self, ipa: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(Ipa::new(ipa), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn put(&self, ipa: u64, bytes: &[u8]) {
        self.write(Ipa::new(ipa), bytes).unwrap();
    }
}

impl GuestRam for Ram {
    fn contains(&self, start: Ipa, bytes: u64) -> bool {
        usize::try_from(bytes).is_ok_and(|bytes| Self::range(start, bytes).is_ok())
    }
    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, to.len())?;
        let mut ram = self.0.lock().unwrap();
        let (bytes, hostile) = &mut *ram;
        to.copy_from_slice(&bytes[range.clone()]);
        // Another vCPU writes right after, so a second read of the same would differ.
        if let Some(random) = hostile {
            bytes[range.start] = random.next() as u8;
        }
        Ok(())
    }
    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam> {
        let range = Self::range(start, from.len())?;
        self.0.lock().unwrap().0[range].copy_from_slice(from);
        Ok(())
    }
    // As a memory whose tables have run out beyond its first half.
    fn give_up(&self, start: Ipa, bytes: u64) -> Result<(), Kept> {
        let range = Self::range(start, bytes as usize)?;
        if range.end as u64 > BYTES / 2 { Err(Kept::NoMemory) } else { Ok(()) }
    }
}

/// A generator of its own (xorshift), so that a seed means the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct House {
    iommus: Arc<Iommus>,
    driver: Arc<FakeDriver>,
    ram: Arc<Ram>,
    service: Service,
    owner: Owner,
}

/// Device 8 (stream 0x10) and 16 (stream 0x20) are the VM's, 0x30 is another VM's.
fn house() -> House {
    house_with(StreamPolicy { ats: false, stalls: true })
}

fn house_with(policy: StreamPolicy) -> House {
    let iommus = Arc::new(Iommus::new(2, 16));
    let driver = FakeDriver::new();
    for stream in [0x10, 0x20, 0x30] {
        let info = DeviceInfo {
            id: DeviceId::new(stream),
            name: "device".into(),
            iommu: Some(1),
            streams: vec![StreamId::new(stream)],
            isolation: None,
        };
        iommus.add_device(info).unwrap();
    }
    iommus.register(fake::registration(1, driver.clone())).map_err(|r| r.error).unwrap();
    let owner = iommus.owners().open(0).unwrap();
    let other = iommus.owners().open(1).unwrap();
    let domain = iommus.paging_domain(owner, PhysAddr::new(0x9000_0000), 0).unwrap();
    let theirs = iommus.paging_domain(other, PhysAddr::new(0xa000_0000), 0).unwrap();
    let ram = Arc::new(Ram(Mutex::new((vec![0; BYTES as usize], None))));
    let view = Arc::new(PhysicalView);
    let service = Service::new(iommus.clone(), owner, ram.clone(), view, 39, 16);
    for (stream, number) in [(0x10, Some(8)), (0x20, Some(16)), (0x30, None)] {
        let group = iommus.group_of(DeviceId::new(stream)).unwrap();
        let domain = if number.is_some() { &domain } else { &theirs };
        iommus.assign(&group, domain, policy).unwrap();
        if let Some(number) = number {
            let streams = vec![StreamId::new(stream)];
            service.add_device(ServiceDevice { number, group, streams, policy });
        }
    }
    driver.take_calls();
    House { iommus, driver, ram, service, owner }
}

impl House {
    fn call(&self, function: u32, arguments: &[u64]) -> (Status, [u64; 3]) {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let [status, x1, x2, x3] = self.service.handle(function, all);
        (Status::from_register(status).unwrap(), [x1, x2, x3])
    }

    fn does(&self, function: u32, arguments: &[u64]) -> Status {
        self.call(function, arguments).0
    }

    fn footprint(&self) -> (ServiceFootprint, palisade_iommu::Footprint, fake::Snapshot) {
        (self.service.footprint(), self.iommus.footprint(), self.driver.snapshot())
    }

    fn reach(&self, stream: u32, substream: u32) -> Reach {
        self.driver.transaction(StreamId::new(stream), Some(SubstreamId::new(substream)))
    }
}

fn root_of(reach: Reach) -> Option<u64> {
    match reach {
        Reach::Through(cached) => Some(cached.root),
        _ => None,
    }
}

#[test]
fn discovery() {
    let house = house();
    assert_eq!(house.call(call::VERSION, &[]), (Status::Success, [0x1_0001, 0, 0]));
    assert_eq!(house.service.handle(call::UID, [0; 6])[0], 0x521c_6f7a);
    for function in call::BASE..call::BASE + call::CALLS {
        assert_eq!(house.does(call::FEATURES, &[u64::from(function)]), Status::Success);
    }
    for function in [u64::from(call::BASE + call::CALLS), 0x8400_0000, u64::MAX] {
        assert_eq!(house.does(call::FEATURES, &[function]), Status::NotSupported);
    }
    assert_eq!(house.does(call::BASE + 99, &[]), Status::NotSupported);
    let (status, [flags, widths, granules]) = house.call(call::DEVICE_INFO, &[8]);
    assert_eq!(status, Status::Success);
    let wanted = DeviceFlags::CONTEXTS | DeviceFlags::STREAM_ENTRY | DeviceFlags::STALLS;
    assert_eq!(flags, wanted);
    assert_eq!(unpack_widths(widths), (8, 16, 39));
    assert_eq!(granules, 1 << 12 | 1 << 14 | 1 << 16);
}

#[test]
fn another_vms_device_is_no_device() {
    let house = house();
    let before = house.footprint();
    for device in [0x30, 0x11, 0, u64::MAX] {
        for (function, arguments) in [
            (call::DEVICE_INFO, vec![device]),
            (call::CONTEXTS_ENABLE, vec![device, 4, 0]),
            (call::STAGE1_DISABLE, vec![device]),
            (call::BIND, vec![device, 0, ROOT, TCR, 0xff, 1]),
            (call::UNBIND, vec![device, 0]),
            (call::STREAM_ENTRY, vec![device, RAM]),
            (call::COMMANDS, vec![device, RAM, 1]),
            (call::RESUME, vec![device, 1, 0]),
        ] {
            assert_eq!(house.does(function, &arguments), Status::NotFound, "{function:#x}");
        }
    }
    assert_eq!(house.footprint(), before);
    assert_eq!(house.driver.take_calls(), [], "the hardware was not asked");
}

#[test]
fn a_device_goes_by_a_processs_tables_from_bind_to_unbind() {
    let house = house();
    assert_eq!(house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]), Status::NotFound);
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]), Status::Success);
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]), Status::Busy);
    let enabled = house.footprint();
    assert_eq!(house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]), Status::Success);
    assert_eq!(root_of(house.reach(0x10, 1)), Some(ROOT));
    // The same address space again, on another substream; other tables under its ASID never.
    assert_eq!(house.does(call::BIND, &[8, 2, ROOT, TCR, 0xff, 7]), Status::Success);
    assert_eq!(house.does(call::BIND, &[8, 3, ROOT + 0x1000, TCR, 0xff, 7]), Status::Busy);
    assert_eq!(house.does(call::BIND, &[8, 2, ROOT, TCR, 0xff, 8]), Status::Busy);
    assert_eq!(house.does(call::UNBIND, &[8, 3]), Status::NotFound);
    // To another process without a moment of the bad descriptor.
    let rebind = 9 | BindFlags::REBIND;
    assert_eq!(house.does(call::BIND, &[8, 2, ROOT + 0x2000, TCR, 0xff, rebind]), Status::Success);
    assert_eq!(root_of(house.reach(0x10, 2)), Some(ROOT + 0x2000));
    assert_eq!(root_of(house.reach(0x10, 1)), Some(ROOT));
    assert_eq!(house.does(call::UNBIND, &[8, 1]), Status::Success);
    assert_eq!(house.reach(0x10, 1), Reach::Quiet);
    assert_eq!(house.does(call::UNBIND, &[8, 2]), Status::Success);
    assert_eq!(house.service.footprint(), enabled.0);
    assert_eq!(house.does(call::STAGE1_DISABLE, &[8]), Status::Success);
    assert_eq!(root_of(house.driver.transaction(StreamId::new(0x10), None)), Some(0x9000_0000));
    assert_eq!(house.driver.core_faults(), Vec::<String>::new());
}

#[test]
fn malformed_bindings_are_refused_one_by_one() {
    let house = house();
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]), Status::Success);
    let before = house.footprint();
    let outside = RAM + BYTES;
    for (arguments, status) in [
        ([8, 16, ROOT, TCR, 0xff, 7], Status::Invalid),
        ([8, 1 << 32, ROOT, TCR, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT + 8, TCR, 0xff, 7], Status::Invalid),
        ([8, 1, outside, TCR, 0xff, 7], Status::Outside),
        ([8, 1, 0x9000_0000, TCR, 0xff, 7], Status::Outside),
        ([8, 1, !63, TCR, 0xff, 7], Status::Outside),
        ([8, 1, ROOT, TCR | 1 << 7, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR & !0x3f | 15, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR & !0x3f | 40, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR | 3 << 14, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR | 7 << 32, 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR & !(2 << 12), 0xff, 7], Status::Invalid),
        ([8, 1, ROOT, TCR, 0xff, 0], Status::Invalid),
        ([8, 1, ROOT, TCR, 0xff, 7 | 1 << 40], Status::Invalid),
    ] {
        assert_eq!(house.does(call::BIND, &arguments), status, "{arguments:x?}");
        // A prepared place is memory of the table and no binding.
        assert_eq!(house.footprint(), before, "{arguments:x?}");
    }
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[16, 11, 0]), Status::Invalid);
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[16, 10, 0]), Status::NotSupported);
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[16, 4, 3]), Status::Invalid);
}

#[test]
fn an_address_space_that_goes_leaves_its_bindings_to_be_undone() {
    let house = house();
    house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]);
    house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]);
    house.reach(0x10, 1);
    assert_eq!(house.does(call::EXIT, &[8]), Status::NotFound);
    assert_eq!(house.does(call::EXIT, &[7]), Status::Success);
    assert_eq!(house.reach(0x10, 1), Reach::Quiet);
    assert_eq!(house.does(call::BIND, &[8, 2, ROOT, TCR, 0xff, 7]), Status::Busy);
    house.driver.take_calls();
    assert_eq!(house.does(call::UNBIND, &[8, 1]), Status::Success);
    assert_eq!(house.driver.take_calls(), [], "which costs nothing");
    assert_eq!(house.does(call::BIND, &[8, 2, ROOT, TCR, 0xff, 7]), Status::Success);
}

#[test]
fn invalidations_are_checked_bounded_and_batched() {
    let house = house();
    house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]);
    house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]);
    house.driver.take_calls();
    for (arguments, status) in [
        ([6, 0, 0x1000, 0], Status::NotFound),
        ([1 << 16 | 7, 0, 0x1000, 0], Status::NotFound),
        ([7, 0x2000, 0x1000, 0], Status::Invalid),
        ([7, 0x800, 0x1000, 0], Status::Invalid),
        ([7, 0, 0x2000, 0x2000], Status::Invalid),
        ([7, 0, 0x1000, 0x20_0000], Status::Invalid),
    ] {
        assert_eq!(house.does(call::INVALIDATE, &arguments), status, "{arguments:x?}");
    }
    assert_eq!(house.driver.take_calls(), []);
    // A long range goes in parts, each of one command and one synchronisation.
    let (mut at, end, mut calls) = (0x1000, 0x1000 + 5 * call::MAX_RANGE / 2, 0);
    while at < end {
        let (status, [next, ..]) = house.call(call::INVALIDATE, &[7, at, end, 0x1000]);
        assert_eq!((status, house.driver.take_calls().len()), (Status::Success, 2));
        assert!(next > at && next - at <= call::MAX_RANGE);
        (at, calls) = (next, calls + 1);
    }
    assert_eq!((at, calls), (end, 3));
    let (_, [next, ..]) = house.call(call::INVALIDATE, &[7, 0, u64::MAX, 0]);
    assert_eq!(next, u64::MAX);
    assert!(matches!(
        house.driver.take_calls()[..],
        [Call::Invalidate(Invalidation::Asid { .. }), Call::Sync]
    ));
    // One call for many.
    for n in 0..4u64 {
        let (start, end) = (n * 0x1000, (n + 1) * 0x1000);
        let asid = if n == 3 { 6 } else { 7 };
        let record = InvalidationRecord { asid, start, end, leaf: 0x1000 };
        house.ram.put(RAM + n * 32, &record.to_bytes());
    }
    house.driver.take_calls();
    assert_eq!(house.call(call::INVALIDATE_BATCH, &[RAM, 3]), (Status::Success, [3, 0, 0]));
    let range = |call: &Call| matches!(call, Call::Invalidate(Invalidation::StageOne { .. }));
    let sent = house.driver.take_calls();
    assert!(sent[..3].iter().all(range) && sent[3..] == [Call::Sync], "one batch: {sent:?}");
    assert_eq!(house.call(call::INVALIDATE_BATCH, &[RAM, 4]), (Status::NotFound, [3, 0, 0]));
    assert_eq!(house.driver.take_calls(), sent, "what came before the wrong one is done");
    // Of a batch that fails nothing counts as done.
    house.driver.fail_after(0, DriverError::InvalidationTimeout);
    assert_eq!(house.call(call::INVALIDATE_BATCH, &[RAM, 3]), (Status::Hardware, [0, 0, 0]));
    assert_eq!(house.does(call::INVALIDATE_BATCH, &[RAM, 65]), Status::Invalid);
    assert_eq!(house.does(call::INVALIDATE_BATCH, &[RAM + BYTES, 1]), Status::Outside);
    assert_eq!(house.does(call::INVALIDATE_BATCH, &[u64::MAX - 7, 64]), Status::Outside);
}

#[test]
fn a_guests_own_entry_and_commands() {
    let house = house();
    assert_eq!(house.does(call::COMMANDS, &[8, RAM, 1]), Status::Busy);
    for (config, code) in [(0u64, 0), (4, 2), (5, 3)] {
        house.ram.put(RAM, &(1 | config << 1).to_le_bytes());
        assert_eq!(house.call(call::STREAM_ENTRY, &[8, RAM]), (Status::Success, [code, 0, 0]));
    }
    let before = house.footprint();
    house.ram.put(RAM, &(1u64 | 6 << 1).to_le_bytes());
    assert_eq!(house.does(call::STREAM_ENTRY, &[8, RAM]), Status::Refused);
    assert_eq!(house.does(call::STREAM_ENTRY, &[8, RAM + BYTES - 32]), Status::Outside);
    assert_eq!(house.does(call::STREAM_ENTRY, &[8, RAM + 4]), Status::Invalid);
    assert_eq!(house.does(call::CONTEXTS_ENABLE, &[8, 4, 0]), Status::Busy);
    assert_eq!(house.footprint(), before);

    house.ram.put(RAM, &0x10u64.to_le_bytes());
    house.ram.put(RAM + 16, &(0x06u64 | 16 << 32).to_le_bytes());
    assert_eq!(house.call(call::COMMANDS, &[8, RAM, 2]), (Status::Success, [2, 0, 0]));
    // A CMD_SYNC is not a guest's, nor is the stream of another VM, whatever it is called.
    house.ram.put(RAM + 32, &0x46u64.to_le_bytes());
    assert_eq!(house.call(call::COMMANDS, &[8, RAM, 3]), (Status::Refused, [2, 0, 0]));
    house.ram.put(RAM + 16, &(0x06u64 | 0x30 << 32).to_le_bytes());
    assert_eq!(house.call(call::COMMANDS, &[8, RAM, 3]), (Status::Refused, [1, 0, 0]));
    assert_eq!(house.does(call::COMMANDS, &[8, RAM, 65]), Status::Invalid);
    assert_eq!(house.does(call::COMMANDS, &[8, RAM + BYTES - 16, 2]), Status::Outside);
    assert_eq!(house.does(call::STAGE1_DISABLE, &[8]), Status::Success);
}

/// A device of two streams is configured by one entry, and its commands are for both.
#[test]
fn an_entry_of_its_own_is_every_streams() {
    let house = house();
    let (id, streams) = (DeviceId::new(0x40), vec![StreamId::new(0x40), StreamId::new(0x41)]);
    let info = DeviceInfo {
        id,
        name: "wide".into(),
        iommu: Some(1),
        streams: streams.clone(),
        isolation: None,
    };
    house.iommus.add_device(info).unwrap();
    let group = house.iommus.group_of(id).unwrap();
    let table = PhysAddr::new(0x9800_0000);
    let domain = house.iommus.paging_domain(house.owner, table, 0).unwrap();
    let policy = StreamPolicy::default();
    house.iommus.assign(&group, &domain, policy).unwrap();
    house.service.add_device(ServiceDevice { number: 24, group, streams: streams.clone(), policy });
    house.ram.put(RAM, &(1u64 | 5 << 1).to_le_bytes());
    let before = house.footprint();
    house.driver.fail_after(1, DriverError::NoMemory);
    assert_eq!(house.does(call::STREAM_ENTRY, &[24, RAM]), Status::NoMemory);
    assert_eq!(house.footprint(), before, "neither of them");
    assert_eq!(house.call(call::STREAM_ENTRY, &[24, RAM]), (Status::Success, [3, 0, 0]));
    for stream in streams {
        assert_eq!(house.driver.stream_state(stream), StreamState::Nested);
    }
    house.ram.put(RAM + 64, &(0x06u64 | 24 << 32).to_le_bytes());
    assert_eq!(house.call(call::COMMANDS, &[24, RAM + 64, 1]), (Status::Success, [1, 0, 0]));
    assert_eq!(house.does(call::STAGE1_DISABLE, &[24]), Status::Success);
}

#[test]
fn what_is_given_up_is_whole_pages_of_its_own_and_bounded() {
    let house = house();
    for (base, bytes, status) in [
        (RAM, 0, Status::Invalid),
        (RAM + 8, 4096, Status::Invalid),
        (RAM, 100, Status::Invalid),
        (RAM - 4096, 4096, Status::Outside),
        (RAM + BYTES - 4096, 8192, Status::Outside),
        (!4095, 4096, Status::Outside),
        (!4095, 8192, Status::Outside),
        (RAM + BYTES / 2, 4096, Status::NoMemory),
    ] {
        assert_eq!(house.does(call::GIVE_UP, &[base, bytes]), status, "{base:#x} {bytes:#x}");
    }
    let page = RAM + 0x3000;
    assert_eq!(house.call(call::GIVE_UP, &[page, 4096]), (Status::Success, [page + 4096, 0, 0]));
    // No farther than the next multiple of the unit, whatever is asked.
    let ram = Arc::new(Endless(Mutex::default()));
    let (iommus, view) = (house.iommus.clone(), Arc::new(PhysicalView));
    let service = Service::new(iommus, house.owner, ram.clone(), view, 39, 16);
    let (mut at, end) = (RAM + 0x1f_e000, RAM + 0x60_1000);
    while at < end {
        let [status, next, ..] = service.handle(call::GIVE_UP, [at, end - at, 0, 0, 0, 0]);
        assert_eq!(Status::from_register(status), Some(Status::Success));
        at = next;
    }
    let (unit, parts) = (call::GIVE_UP_UNIT, ram.0.lock().unwrap());
    let wanted = [(0x1f_e000, 0x2000), (unit, unit), (2 * unit, unit), (3 * unit, 0x1000)];
    assert_eq!(*parts, wanted.map(|(offset, bytes)| (RAM + offset, bytes)));
}

/// RAM everywhere, which notes what is given up.
struct Endless(Mutex<Vec<(u64, u64)>>);

impl GuestRam for Endless {
    fn contains(&self, _start: Ipa, _bytes: u64) -> bool {
        true
    }
    fn read(&self, _start: Ipa, _to: &mut [u8]) -> Result<(), OutsideRam> {
        Ok(())
    }
    fn write(&self, _start: Ipa, _from: &[u8]) -> Result<(), OutsideRam> {
        Ok(())
    }
    fn give_up(&self, start: Ipa, bytes: u64) -> Result<(), Kept> {
        self.0.lock().unwrap().push((start.get(), bytes));
        Ok(())
    }
}

fn raw(stream: u32, address: u64, stage2: bool) -> Raw {
    Raw {
        kind: FaultKind::Translation,
        stream: StreamId::new(stream),
        substream: Some(SubstreamId::new(1)),
        access: Access { write: true, ..Access::default() },
        class: FaultClass::Input,
        stage2,
        stall: None,
        address,
        ipa: 0,
        raw: [0; 4],
    }
}

#[test]
fn faults_of_the_guests_own_making_reach_its_ring() {
    let house = house();
    assert_eq!(house.does(call::FAULTS_POLL, &[]), Status::NotFound);
    for (base, bytes, status) in [
        (RAM + 8, 4096, Status::Invalid),
        (RAM, 100, Status::Invalid),
        (RAM, call::MAX_RING + 4096, Status::Invalid),
        (RAM + BYTES - 4096, 8192, Status::Outside),
        (RAM, 4096, Status::Success),
    ] {
        assert_eq!(house.does(call::FAULT_RING, &[base, bytes]), status);
    }
    let capacity = (4096 - RING_HEADER_BYTES as u64) / FAULT_BYTES as u64;
    assert_eq!(house.ram.word(RAM + RingHeader::MAGIC), RING_MAGIC);
    assert_eq!(house.ram.word(RAM + RingHeader::CAPACITY), capacity);
    // One of stage 1, one of stage 2, one of another VM.
    house.driver.push_event(raw(0x10, 0xdead_b000, false));
    house.driver.push_event(raw(0x10, 0xbeef_0000, true));
    house.driver.push_event(raw(0x30, 0xcafe_0000, false));
    assert_eq!(house.call(call::FAULTS_POLL, &[]), (Status::Success, [1, 0, 0]));
    let mut bytes = [0; FAULT_BYTES];
    house.ram.read(Ipa::new(RAM + RING_HEADER_BYTES as u64), &mut bytes).unwrap();
    let record = FaultRecord {
        kind: 0x10,
        flags: FaultFlags(FaultFlags::WRITE),
        device: 8,
        substream: 1,
        address: 0xdead_b000,
        stall_tag: 0,
    };
    assert_eq!(FaultRecord::from_bytes(&bytes), record);
    assert_eq!(house.ram.word(RAM + RingHeader::PRODUCER), 1);
    // A ring that is not read fills up; what comes then is counted.
    for n in 0..capacity + 4 {
        house.driver.push_event(raw(0x10, n, false));
        house.does(call::FAULTS_POLL, &[]);
    }
    assert_eq!(house.ram.word(RAM + RingHeader::PRODUCER), capacity);
    assert_eq!(house.ram.word(RAM + RingHeader::LOST), 5);
    // A consumer index ahead of everything is a full ring, not an invitation.
    house.ram.put(RAM + RingHeader::CONSUMER, &(capacity + 9).to_le_bytes());
    house.driver.push_event(raw(0x10, 1, false));
    assert_eq!(house.call(call::FAULTS_POLL, &[]), (Status::Success, [0, 6, 0]));
    house.ram.put(RAM + RingHeader::CONSUMER, &capacity.to_le_bytes());
    house.driver.push_event(raw(0x10, 0x77, false));
    assert_eq!(house.call(call::FAULTS_POLL, &[]), (Status::Success, [1, 6, 0]));
    assert_eq!(house.does(call::FAULT_RING, &[0, 0]), Status::Success);
    assert_eq!(house.does(call::FAULTS_POLL, &[]), Status::NotFound);
}

#[test]
fn a_stall_is_answered_once_and_only_if_it_was_told() {
    let house = house();
    let stalled = |tag, stage2| Raw { stall: Some(tag), ..raw(0x10, 0x1000, stage2) };
    let resumed = |house: &House| {
        let calls = house.driver.take_calls();
        calls.into_iter().filter(|call| matches!(call, Call::Resume(..))).collect::<Vec<_>>()
    };
    assert_eq!(house.does(call::FAULT_RING, &[RAM, 4096]), Status::Success);
    assert_eq!(house.does(call::RESUME, &[8, 3, 1]), Status::NotFound);
    assert_eq!(resumed(&house), []);
    house.driver.push_event(stalled(3, false));
    house.does(call::FAULTS_POLL, &[]);
    assert_eq!(house.does(call::RESUME, &[16, 3, 1]), Status::NotFound, "another device's");
    assert_eq!(house.does(call::RESUME, &[8, 3, 1]), Status::Success);
    assert_eq!(house.does(call::RESUME, &[8, 3, 1]), Status::NotFound, "once");
    assert_eq!(resumed(&house), [Call::Resume(0x10, 3)]);
    // What the guest is not told of, the hypervisor answers: stage 2, a full ring, no ring.
    house.driver.push_event(stalled(4, true));
    house.does(call::FAULTS_POLL, &[]);
    assert_eq!(resumed(&house), [Call::Resume(0x10, 4)]);
    house.ram.put(RAM + RingHeader::CONSUMER, &999u64.to_le_bytes());
    house.driver.push_event(stalled(5, false));
    house.does(call::FAULTS_POLL, &[]);
    assert_eq!(resumed(&house), [Call::Resume(0x10, 5)]);
    house.does(call::FAULT_RING, &[0, 0]);
    house.driver.push_event(stalled(6, false));
    house.iommus.drain(&house.iommus.instance(1).unwrap(), 8);
    house.service.pump(&mut |_| {});
    assert_eq!(resumed(&house), [Call::Resume(0x10, 6)]);
    // A log that is full, and a stream that nobody has.
    for n in 0..70 {
        house.driver.push_event(raw(0x10, n, false));
    }
    house.driver.push_event(stalled(7, false));
    house.driver.push_event(Raw { stream: StreamId::new(0x999), ..stalled(8, false) });
    house.iommus.drain(&house.iommus.instance(1).unwrap(), 128);
    assert_eq!(resumed(&house), [Call::Resume(0x10, 7), Call::Resume(0x999, 8)]);
}

#[test]
fn a_device_that_leaves_takes_its_bindings_along() {
    let house = house();
    house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]);
    house.does(call::CONTEXTS_ENABLE, &[16, 4, 2]);
    house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]);
    house.does(call::BIND, &[16, 1, ROOT, TCR, 0xff, 7]);
    let group = house.iommus.group_of(DeviceId::new(0x10)).unwrap();
    house.iommus.detach(&group).unwrap();
    house.service.remove_group(&group, true);
    assert_eq!(house.does(call::UNBIND, &[8, 1]), Status::NotFound);
    assert_eq!(root_of(house.reach(0x20, 1)), Some(ROOT), "the other goes on");
    assert_eq!(house.does(call::UNBIND, &[16, 1]), Status::Success);
    let footprint = house.service.footprint();
    assert_eq!((footprint.processes, footprint.bonds, footprint.space.asids), (0, 0, 0));
}

#[test]
fn hardware_that_does_not_answer_is_an_answer() {
    let house = house();
    house.does(call::CONTEXTS_ENABLE, &[8, 4, 2]);
    house.does(call::BIND, &[8, 1, ROOT, TCR, 0xff, 7]);
    house.driver.fail_after(0, DriverError::InvalidationTimeout);
    assert_eq!(house.does(call::INVALIDATE, &[7, 0, 0x1000, 0]), Status::Hardware);
    house.driver.kill();
    assert_eq!(house.does(call::UNBIND, &[8, 1]), Status::Hardware);
    assert_eq!(house.does(call::STAGE1_DISABLE, &[8]), Status::Hardware);
    let group = house.iommus.group_of(DeviceId::new(0x10)).unwrap();
    assert_eq!(group.condition(), Condition::Dead);
    assert_eq!(house.service.footprint().space.asids_lost, 1);
}
