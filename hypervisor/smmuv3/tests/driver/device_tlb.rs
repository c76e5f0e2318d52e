//! Devices with a TLB of their own: what they may hold, and what becomes of the SMMU when one is
//! slow (§3.9, §4.5.1, §4.7.3).

use palisade_hal::{StreamId, Vmid};
use palisade_iommu::{
    DefaultSubstream, DriverError, Invalidation, IommuDriver, PhysicalView, StreamPolicy,
    StreamState,
};
use palisade_smmuv3::{IdRegisters, Options};

use crate::fake::{Bench, Fault, QEMU, bare, bench, options, stage_two, stream};

const CFGI_STE: u8 = 0x03;
const ATC_INV: u8 = 0x40;
const SYNC: u8 = 0x46;
const ATS: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 10 | 1 << 19, idr1: QEMU.idr1 | 5 << 6, ..QEMU };
const TRUSTED: StreamPolicy = StreamPolicy { ats: true, stalls: false };
/// More turns than a CMD_SYNC's deadline has.
const SLOW: u32 = 5_000;

fn whole(stream: StreamId) -> Invalidation {
    Invalidation::Device { stream, substream: None, start: Default::default(), size: u64::MAX }
}

/// Streams 5 and 6 of VMs 1 and 2, both with ATS.
fn two_devices(options: Options) -> Bench {
    let bench = bare(ATS).bring_up(options);
    for (number, vmid) in [(5, 1), (6, 2)] {
        bench.smmu.attach(stream(number), &stage_two(vmid), TRUSTED).unwrap();
    }
    bench.clear();
    bench
}

/// The slow device's stream is dead, the SMMU is not, and nobody else lost anything.
fn only_the_slow_one_is_dead(bench: &Bench) {
    assert!(bench.smmu.is_alive());
    assert_eq!(bench.fake.ste(5)[0], 1, "its entry says abort");
    assert_eq!(bench.smmu.stream_state(stream(6)), StreamState::Stage2);
    // The next command of another VM waits for the device too, and is then confirmed.
    bench.smmu.invalidate(&[Invalidation::Vmid(Vmid::new(2))]).unwrap();
    let commands = bench.fake.state().commands.clone();
    let forgotten = commands.contains(&[5 << 32 | 0x03, 1]);
    assert!(forgotten, "the SMMU was told of the abort entry as soon as it took commands");
    bench.smmu.detach(stream(6)).unwrap();
    bench.smmu.attach(stream(6), &stage_two(3), TRUSTED).unwrap();
    let error = bench.smmu.attach(stream(5), &stage_two(1), TRUSTED);
    assert_eq!(error, Err(DriverError::Timeout(stream(5))));
}

#[test]
fn a_slow_device_dies_alone_when_it_is_invalidated() {
    let bench = two_devices(options());
    bench.inject(Fault::SlowDevice { stream: 5, turns: SLOW });
    let batch = [Invalidation::Vmid(Vmid::new(1)), whole(stream(5))];
    assert_eq!(bench.smmu.invalidate(&batch), Err(DriverError::Timeout(stream(5))));
    only_the_slow_one_is_dead(&bench);
}

#[test]
fn a_slow_device_dies_alone_when_it_is_detached() {
    let bench = two_devices(options());
    bench.inject(Fault::SlowDevice { stream: 5, turns: SLOW });
    assert_eq!(bench.smmu.detach(stream(5)), Err(DriverError::Timeout(stream(5))));
    only_the_slow_one_is_dead(&bench);
}

#[test]
fn a_slow_device_dies_alone_when_its_entry_changes() {
    let bench = two_devices(options());
    bench.inject(Fault::SlowDevice { stream: 5, turns: SLOW });
    let words = [1 | 4 << 1, 0, 0, 0, 0, 0, 0, 0];
    let nested = bench.smmu.attach_nested(stream(5), &stage_two(1), TRUSTED, &words);
    assert_eq!(nested, Err(DriverError::Timeout(stream(5))));
    only_the_slow_one_is_dead(&bench);
}

#[test]
fn a_slow_device_dies_alone_when_its_guest_invalidates_it() {
    let bench = two_devices(options());
    bench.inject(Fault::SlowDevice { stream: 5, turns: SLOW });
    let streams = |number, nth| (nth == 0).then(|| stream(number));
    let words = [[5 << 32 | u64::from(ATC_INV), 52]];
    let error = bench.smmu.cache_invalidate(Vmid::new(1), &streams, &words);
    assert_eq!(error, Err((0, DriverError::Timeout(stream(5)))));
    only_the_slow_one_is_dead(&bench);
}

/// The queue is full of what waits: the next one waits for room as well.
#[test]
fn others_wait_for_room_too() {
    let bench = two_devices(Options { cmdq_log2: 3, ..options() });
    bench.inject(Fault::SlowDevice { stream: 5, turns: SLOW });
    // Five of eight entries, three with the abort entry's.
    let batch = [Invalidation::Vmid(Vmid::new(1)), whole(stream(5))];
    assert_eq!(bench.smmu.invalidate(&batch), Err(DriverError::Timeout(stream(5))));
    std::thread::scope(|scope| {
        for vmid in 2..6 {
            let smmu = &bench.smmu;
            let flush = move || smmu.invalidate(&[Invalidation::Vmid(Vmid::new(vmid))]);
            scope.spawn(move || flush().unwrap());
        }
    });
    only_the_slow_one_is_dead(&bench);
}

/// Two devices in one batch: the one that is slow is known, the other is spared.
#[test]
fn the_slow_one_of_two_is_known() {
    for slow in [5, 6] {
        let bench = two_devices(options());
        bench.inject(Fault::SlowDevice { stream: slow, turns: SLOW });
        let error = bench.smmu.invalidate(&[whole(stream(5)), whole(stream(6))]);
        assert_eq!(error, Err(DriverError::Timeout(stream(slow))));
        assert_eq!(bench.smmu.stream_state(stream(slow)), StreamState::Abort);
        assert_eq!(bench.smmu.stream_state(stream(11 - slow)), StreamState::Stage2);
    }
    let bench = two_devices(options());
    bench.smmu.invalidate(&[whole(stream(5)), whole(stream(6))]).unwrap();
    assert_eq!(bench.opcodes(), [ATC_INV, SYNC, ATC_INV, SYNC]);
}

/// CERROR_ATC_INV_SYNC may come back at the same CMD_SYNC as long as the device takes (§4.7.3).
#[test]
fn a_sync_that_fails_many_times_is_no_dead_queue() {
    let bench = two_devices(options());
    bench.inject(Fault::Error { opcode: SYNC, code: 3, times: 50 });
    assert_eq!(bench.smmu.invalidate(&[whole(stream(5))]), Err(DriverError::Timeout(stream(5))));
    only_the_slow_one_is_dead(&bench);
}

/// A device that never completes holds the others up as long as PCIe allows, and no longer.
#[test]
fn patience_has_an_end() {
    let bench = two_devices(Options { device_micros: 20_000, ..options() });
    bench.inject(Fault::SlowDevice { stream: 5, turns: u32::MAX });
    assert_eq!(bench.smmu.invalidate(&[whole(stream(5))]), Err(DriverError::Timeout(stream(5))));
    assert!(bench.smmu.is_alive());
    let other = bench.smmu.invalidate(&[Invalidation::Vmid(Vmid::new(2))]);
    assert_eq!(other, Err(DriverError::Dead));
    assert_eq!(bench.fake.state().get(0x20) & 1, 0, "everything aborts");
}

/// A CMD_SYNC that is late without a device is what it was: an SMMU that may be stuck.
#[test]
fn a_late_sync_behind_no_device_is_a_time_out() {
    let bench = two_devices(options());
    bench.inject(Fault::Late { opcode: SYNC, turns: 2_500 });
    let late = bench.smmu.invalidate(&[Invalidation::Vmid(Vmid::new(1)), whole(stream(5))]);
    assert_eq!(late, Err(DriverError::InvalidationTimeout));
    assert_eq!(bench.smmu.stream_state(stream(5)), StreamState::Stage2, "not to blame");
}

/// From a guest's own entry to one with ATS: at no instant do the guest's tables and EATS meet.
#[test]
fn a_guests_own_entry_never_has_ats() {
    let nested = [0b1011 | 0x4000_0000, 0, 0, 0, 0, 0, 0, 0];
    let plain = |bench: &Bench| bench.smmu.attach(stream(5), &stage_two(1), TRUSTED).unwrap();
    let contexts = |bench: &Bench| {
        let (two, zero) = (stage_two(1), DefaultSubstream::Zero);
        bench.smmu.attach_contexts(stream(5), Some(&two), zero, TRUSTED).unwrap();
    };
    for change in [&plain as &dyn Fn(&Bench), &contexts] {
        let bench = bench(ATS);
        bench.smmu.create_contexts(stream(5), 0, &PhysicalView).unwrap();
        bench.smmu.attach_nested(stream(5), &stage_two(1), TRUSTED, &nested).unwrap();
        let own = bench.fake.ste(5);
        bench.fake.state().watch_ste = Some(5);
        change(&bench);
        let seen = bench.fake.state().seen_stes.clone();
        assert!(seen.len() > 1);
        for ste in &seen {
            let same_tables = (ste[0] ^ own[0]) & !1 == 0;
            assert!(!(same_tables && ste[1] >> 28 & 3 != 0), "{ste:x?}");
        }
        assert_eq!(seen.last().unwrap()[1] >> 28 & 3, 1, "ATS in the end");
        // EATS comes alone, when all else is in force.
        let [.., before, last] = seen.as_slice() else { unreachable!() };
        assert_eq!(before[1] ^ last[1], 1 << 28);
        assert_eq!((before[0], &before[2..]), (last[0], &last[2..]));
    }
}

/// An entry that bypasses lets nothing of the translations before it live on.
#[test]
fn a_device_forgets_when_its_stream_bypasses() {
    let bench = two_devices(options());
    bench.smmu.attach_identity(stream(5)).unwrap();
    assert!(bench.opcodes().ends_with(&[CFGI_STE, SYNC, ATC_INV, SYNC]));
    bench.clear();
    bench.smmu.detach(stream(5)).unwrap();
    assert!(!bench.opcodes().contains(&ATC_INV), "it had none");
}

/// A device whose own ATS is off, after a reset, is sent nothing and granted nothing.
#[test]
fn ats_follows_the_device() {
    let bench = two_devices(options());
    let eats = || bench.fake.ste(5)[1] >> 28 & 3;
    assert_eq!(eats(), 1);
    bench.smmu.set_device_tlb(stream(5), false).unwrap();
    assert_eq!(eats(), 0);
    bench.smmu.invalidate(&[whole(stream(5))]).unwrap();
    // Nor does another entry give it back.
    bench.smmu.attach(stream(5), &stage_two(1), TRUSTED).unwrap();
    let words = [0b1011 | 0x4000_0000, 0, 0, 0, 0, 0, 0, 0];
    bench.smmu.attach_nested(stream(5), &stage_two(1), TRUSTED, &words).unwrap();
    bench.smmu.set_device_tlb(stream(5), false).unwrap();
    bench.smmu.attach(stream(5), &stage_two(1), TRUSTED).unwrap();
    assert_eq!(eats(), 0);
    assert!(!bench.opcodes().contains(&ATC_INV));
    bench.smmu.set_device_tlb(stream(5), true).unwrap();
    assert_eq!(eats(), 1);
    bench.smmu.invalidate(&[whole(stream(5))]).unwrap();
    assert!(bench.opcodes().contains(&ATC_INV));
    // Off when it goes: nothing is sent, and the next owner starts as ever.
    bench.smmu.set_device_tlb(stream(5), false).unwrap();
    bench.clear();
    bench.smmu.detach(stream(5)).unwrap();
    assert!(!bench.opcodes().contains(&ATC_INV));
    bench.smmu.attach(stream(5), &stage_two(1), TRUSTED).unwrap();
    assert_eq!(eats(), 1);
}

/// Being told changes nothing for a stream without the grant.
#[test]
fn the_devices_word_is_no_grant() {
    let bench = bench(ATS);
    bench.smmu.attach(stream(7), &stage_two(1), StreamPolicy::default()).unwrap();
    let before = bench.fake.ste(7);
    for on in [true, false, true] {
        bench.smmu.set_device_tlb(stream(7), on).unwrap();
        assert_eq!(bench.fake.ste(7), before);
    }
    bench.clear();
    bench.smmu.invalidate(&[whole(stream(7))]).unwrap();
    assert!(bench.opcodes().is_empty());
}
