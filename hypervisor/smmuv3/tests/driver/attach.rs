//! Streams: attach, detach, state read back, and the fail-safe.

use palisade_hal::{PhysAddr, Vmid};
use palisade_iommu::{
    Argument, DefaultSubstream, DriverError, Feature, IommuDriver, PhysicalView, StageTwo,
    StreamPolicy, StreamState,
};
use palisade_smmuv3::IdRegisters;

use crate::fake::{Fault, QEMU, bench, stage_two, stream};

const CFGI_STE: u8 = 0x03;
const SYNC: u8 = 0x46;
const ABORT: [u64; 8] = [1, 0, 0, 0, 0, 0, 0, 0];
const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };

#[test]
fn stage_2_and_back() {
    let bench = bench(QEMU);
    let id = stream(0x10);
    bench.smmu.attach(id, &stage_two(7), POLICY).unwrap();
    assert_eq!(bench.smmu.stream_state(id), StreamState::Stage2);
    let ste = bench.fake.ste(0x10);
    assert_eq!(ste[0], 0xd);
    assert_eq!(ste[1], 1 << 19, "MEV, nothing else");
    assert_eq!(ste[2], 7 | 0x4_3558 << 32 | 1 << 51 | 1 << 54 | 1 << 58);
    assert_eq!(ste[3], 0x9000_0000);
    bench.smmu.detach(id).unwrap();
    assert_eq!(bench.smmu.stream_state(id), StreamState::Abort);
    assert_eq!(bench.fake.ste(0x10), ABORT);
    // Idempotent, without a command.
    bench.clear();
    bench.smmu.detach(id).unwrap();
    assert!(bench.opcodes().is_empty());
}

/// Every store is followed by CFGI_STE and CMD_SYNC, and a new second level by Leaf = 0.
#[test]
fn configuration_is_invalidated_and_synced() {
    let bench = bench(QEMU);
    bench.smmu.attach(stream(0x10), &stage_two(7), POLICY).unwrap();
    assert_eq!(bench.opcodes(), [CFGI_STE, SYNC, CFGI_STE, SYNC, CFGI_STE, SYNC]);
    let commands = bench.fake.state().commands.clone();
    assert_eq!(commands[0], [0x10 << 32 | 0x03, 0], "the L1STD was told of");
    assert_eq!(commands[2], [0x10 << 32 | 0x03, 1]);
    // The neighbour shares the second level.
    bench.clear();
    bench.smmu.attach(stream(0x11), &stage_two(7), POLICY).unwrap();
    assert_eq!(bench.opcodes(), [CFGI_STE, SYNC, CFGI_STE, SYNC]);
}

/// From one VM to another: silently by way of abort, and no field is a mixture.
#[test]
fn another_owner_by_way_of_abort() {
    let bench = bench(QEMU);
    let id = stream(1);
    bench.smmu.attach(id, &stage_two(1), POLICY).unwrap();
    let other = StageTwo { table: PhysAddr::new(0xa000_0000), ..stage_two(2) };
    bench.smmu.attach(id, &other, POLICY).unwrap();
    let ste = bench.fake.ste(1);
    assert_eq!(ste[2] & 0xffff, 2, "not 3: fields are set, never OR-ed");
    assert_eq!(ste[3], 0xa000_0000);
}

#[test]
fn arguments_are_checked_and_the_stream_stays() {
    let bench = bench(QEMU);
    let id = stream(1);
    let before = bench.fake.state().commands.len();
    for (bad, what) in [
        (StageTwo { vmid: Vmid::new(0), ..stage_two(1) }, Argument::Vmid),
        (StageTwo { control: 1 << 19, ..stage_two(1) }, Argument::Vtcr),
        (StageTwo { control: 0x4_3540 | 10, ..stage_two(1) }, Argument::T0sz),
        (StageTwo { control: 0x4_3558 | 3 << 14, ..stage_two(1) }, Argument::Granule),
        (StageTwo { control: 0x5_3558, ..stage_two(1) }, Argument::OutputSize),
        (StageTwo { table: PhysAddr::new(1 << 45), ..stage_two(1) }, Argument::OutputSize),
        (StageTwo { table: PhysAddr::new(0x9000_0008), ..stage_two(1) }, Argument::RootAlignment),
    ] {
        assert_eq!(bench.smmu.attach(id, &bad, POLICY), Err(DriverError::Argument(what)));
    }
    let outside = stream(0x1_0000);
    assert_eq!(
        bench.smmu.attach(outside, &stage_two(1), POLICY),
        Err(DriverError::UnknownStream(outside))
    );
    assert_eq!(bench.fake.state().commands.len(), before);
    assert_eq!(bench.smmu.stream_state(id), StreamState::Abort);
}

#[test]
fn no_stage_2_no_attach() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 & !1, ..QEMU });
    let error = bench.smmu.attach(stream(1), &stage_two(1), POLICY);
    assert_eq!(error, Err(DriverError::Unsupported(Feature::StageTwo)));
}

/// A sync that never ends: error, entry in memory says abort, the instance dies if the second
/// chance goes unanswered too, and SMMUEN = 0 leaves GBPA's abort.
#[test]
fn a_stuck_queue_is_never_success() {
    let bench = bench(QEMU);
    let id = stream(1);
    bench.smmu.attach(id, &stage_two(1), POLICY).unwrap();
    bench.inject(Fault::Stop { opcode: SYNC });
    assert_eq!(bench.smmu.detach(id), Err(DriverError::Dead));
    assert_eq!(bench.fake.ste(1)[0], 1, "the entry says abort whatever the SMMU knows");
    assert!(!bench.smmu.is_alive());
    assert_eq!(bench.fake.state().get(0x20) & 1, 0);
    assert!(bench.smmu.aborts_by_default());
    assert_eq!(bench.smmu.stream_state(id), StreamState::Abort);
    assert_eq!(bench.smmu.attach(id, &stage_two(1), POLICY), Err(DriverError::Dead));
}

/// A sync that comes after its deadline: the stream aborts for good, the rest goes on.
#[test]
fn a_late_sync_kills_the_device_only() {
    let bench = bench(QEMU);
    let (slow, other) = (stream(1), stream(2));
    bench.smmu.attach(slow, &stage_two(1), POLICY).unwrap();
    bench.smmu.attach(other, &stage_two(1), POLICY).unwrap();
    bench.inject(Fault::Late { opcode: SYNC, turns: 3_000 });
    assert_eq!(bench.smmu.detach(slow), Err(DriverError::Timeout(slow)));
    assert!(bench.smmu.is_alive());
    assert_eq!(bench.fake.ste(1)[0], 1);
    assert_eq!(
        bench.smmu.attach(slow, &stage_two(1), POLICY),
        Err(DriverError::Timeout(slow)),
        "a dead device is not given to anybody"
    );
    assert_eq!(bench.smmu.stream_state(other), StreamState::Stage2);
    bench.smmu.detach(other).unwrap();
}

/// The same while attaching: nothing new translates.
#[test]
fn a_late_sync_while_attaching_aborts() {
    for at in 0..3 {
        let bench = bench(QEMU);
        let id = stream(1);
        bench.smmu.prepare(id).unwrap();
        if at > 0 {
            bench.smmu.attach(id, &stage_two(1), POLICY).unwrap();
        }
        bench.inject(Fault::Late { opcode: CFGI_STE, turns: 3_000 });
        let next = StageTwo { table: PhysAddr::new(0xa000_0000), ..stage_two(2) };
        assert_eq!(bench.smmu.attach(id, &next, POLICY), Err(DriverError::Timeout(id)));
        assert_eq!(bench.smmu.stream_state(id), StreamState::Abort);
    }
}

/// Stalls and device TLBs do not end with the entry: they are ended too.
#[test]
fn detach_ends_stalls_and_device_tlbs() {
    // Stall model 0, ATS.
    let id = IdRegisters { idr0: QEMU.idr0 & !(3 << 24) | 1 << 10, ..QEMU };
    let bench = bench(id);
    let device = stream(1);
    let policy = StreamPolicy { ats: true, stalls: false };
    bench.smmu.attach(device, &stage_two(1), policy).unwrap();
    assert_eq!(bench.fake.ste(1)[1] >> 28 & 3, 1, "EATS");
    bench.clear();
    bench.smmu.detach(device).unwrap();
    let opcodes = bench.opcodes();
    assert!(opcodes.ends_with(&[0x45, SYNC, 0x40, SYNC]), "{opcodes:x?}");
    assert_eq!(bench.fake.state().commands[opcodes.len() - 2], [1 << 32 | 0x40, 52]);
}

/// Whatever becomes of its stream, a device forgets what it translated by the old entry.
#[test]
fn a_devices_own_tlb_forgets_with_every_change_of_its_entry() {
    let id = IdRegisters { idr0: QEMU.idr0 | 1 << 10, idr1: QEMU.idr1 | 5 << 6, ..QEMU };
    let bench = bench(id);
    let device = stream(1);
    let policy = StreamPolicy { ats: true, stalls: false };
    let forgets = |change: &dyn Fn()| {
        bench.clear();
        change();
        let opcodes = bench.opcodes();
        opcodes.ends_with(&[0x40, SYNC])
            && bench.fake.state().commands[opcodes.len() - 2] == [1 << 32 | 0x40, 52]
    };
    let plain = || bench.smmu.attach(device, &stage_two(1), policy).unwrap();
    assert!(!forgets(&plain), "it had translated nothing");
    bench.smmu.create_contexts(device, 5, &PhysicalView).unwrap();
    let contexts = || {
        let two = stage_two(1);
        let zero = DefaultSubstream::Zero;
        bench.smmu.attach_contexts(device, Some(&two), zero, policy).unwrap();
    };
    assert!(forgets(&contexts), "IPAs are virtual addresses now");
    assert!(forgets(&plain), "and are IPAs again");
    // The guest's own entry: no ATS.
    let own = || {
        let words = [1 | 4 << 1, 0, 0, 0, 0, 0, 0, 0];
        bench.smmu.attach_nested(device, &stage_two(1), policy, &words).unwrap();
    };
    assert!(forgets(&own), "what is unmapped from now on it is not told of");
    assert!(!forgets(&plain), "it could translate nothing");
}

/// ATS is off unless the policy says otherwise and the SMMU has it.
#[test]
fn ats_stays_off() {
    let bench = bench(QEMU);
    bench.smmu.attach(stream(1), &stage_two(1), StreamPolicy { ats: true, stalls: false }).unwrap();
    assert_eq!(bench.fake.ste(1)[1] >> 28 & 3, 0);
}

/// Stall model 2 demands S2S = 1, and so no ATS.
#[test]
fn forced_stalls() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 & !(3 << 24) | 2 << 24 | 1 << 10, ..QEMU });
    bench.smmu.attach(stream(1), &stage_two(1), POLICY).unwrap();
    assert_eq!(bench.fake.ste(1)[2] >> 57 & 1, 1);
    assert!(
        bench
            .smmu
            .attach(stream(2), &stage_two(1), StreamPolicy { ats: true, stalls: true })
            .is_err()
    );
}

/// The posture is what memory says.
#[test]
fn posture_is_read_back() {
    let bench = bench(QEMU);
    bench.smmu.attach(stream(0x103), &stage_two(1), POLICY).unwrap();
    let mut seen = Vec::new();
    bench.smmu.for_each_entry(&mut |stream, state| seen.push((stream.get(), state)));
    assert_eq!(seen.len(), 256);
    for (number, state) in seen {
        let expected = if number == 0x103 { StreamState::Stage2 } else { StreamState::Abort };
        assert_eq!(state, expected, "{number:#x}");
    }
}
