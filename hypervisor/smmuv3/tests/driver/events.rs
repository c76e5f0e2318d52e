//! Events, overflow, storms, page requests, global errors.

use palisade_iommu::{
    DriverError, FaultKind, FaultRecord, Feature, IommuDriver, Response, StreamPolicy,
};
use palisade_smmuv3::{IdRegisters, Options};

use crate::fake::{
    Bench, EVENTQ_BASE, EVENTQ_CONS, EVENTQ_PROD, Fault, PRIQ_BASE, PRIQ_PROD, QEMU, bare, bench,
    options, stage_two, stream,
};

fn event(bench: &Bench, number: u32, address: u64) {
    let record = [u64::from(number) << 32 | 0x10, 1 << 39 | 2 << 40, address, address & !0xfff];
    bench.fake.produce(EVENTQ_BASE, EVENTQ_PROD, &record);
}

fn drain(bench: &Bench, budget: usize) -> (Vec<FaultRecord>, palisade_iommu::Drained) {
    let mut seen = Vec::new();
    let drained = bench.smmu.drain_events(&mut |fault| seen.push(*fault), budget);
    (seen, drained)
}

#[test]
fn records_are_decoded_in_order_and_freed() {
    let bench = bench(QEMU);
    for at in 0..5 {
        event(&bench, 8, 0x1000 * at);
    }
    let (seen, drained) = drain(&bench, 100);
    assert_eq!(seen.len(), 5);
    assert!(!drained.more && !drained.overflowed);
    for (at, fault) in seen.iter().enumerate() {
        assert_eq!((fault.kind, fault.stream), (FaultKind::Translation, stream(8)));
        assert_eq!(fault.address, 0x1000 * at as u64);
    }
    assert_eq!(bench.fake.state().get(EVENTQ_CONS), 5);
    assert_eq!(drain(&bench, 100).0, []);
}

/// The budget bounds the work of one call, and the rest is told.
#[test]
fn the_budget_is_kept() {
    let bench = bench(QEMU);
    for at in 0..10 {
        event(&bench, 8, at);
    }
    let (seen, drained) = drain(&bench, 4);
    assert_eq!((seen.len(), drained.more), (4, true));
    let (seen, drained) = drain(&bench, 6);
    assert_eq!((seen.len(), drained.more), (6, false));
}

/// Overflow: told once, acknowledged last by copying the flag to CONS, draining goes on.
#[test]
fn overflow_is_told_and_acknowledged() {
    let bench = bench(QEMU);
    for lap in 0..2u64 {
        event(&bench, 8, 0x1000);
        let prod = bench.fake.state().get(EVENTQ_PROD);
        let flag = if lap == 0 { 1 << 31 } else { 0 };
        bench.fake.state().set(EVENTQ_PROD, prod & 0x7fff_ffff | flag);
        let (seen, drained) = drain(&bench, 100);
        assert_eq!((seen.len(), drained.overflowed), (1, true));
        assert_eq!(bench.fake.state().get(EVENTQ_CONS), (lap + 1) | flag);
        assert!(!drain(&bench, 100).1.overflowed);
    }
}

/// Every write of CONS carries the acknowledgement, or it would be an overflow anew.
#[test]
fn the_acknowledgement_stays() {
    let bench = bench(QEMU);
    event(&bench, 8, 0x1000);
    let prod = bench.fake.state().get(EVENTQ_PROD);
    bench.fake.state().set(EVENTQ_PROD, prod | 1 << 31);
    assert!(drain(&bench, 100).1.overflowed);
    bench.clear();
    event(&bench, 8, 0x2000);
    let (seen, drained) = drain(&bench, 100);
    assert_eq!((seen.len(), drained.overflowed), (1, false));
    let state = bench.fake.state();
    let written: Vec<u64> = state
        .accesses
        .iter()
        .filter(|&&(write, at, _)| write && at == EVENTQ_CONS)
        .map(|&(_, _, value)| value)
        .collect();
    assert_eq!(written, [2 | 1 << 31]);
}

/// Around the end of the ring many times.
#[test]
fn wraps() {
    let unlimited = Options { evtq_log2: 2, storm_events: u32::MAX, ..options() };
    let bench = bare(QEMU).bring_up(unlimited);
    for round in 0..1_000u64 {
        for at in 0..=(round % 4) {
            event(&bench, 8, round * 4 + at);
        }
        let (seen, _) = drain(&bench, 100);
        let addresses: Vec<u64> = seen.iter().map(|fault| fault.address).collect();
        let expected: Vec<u64> = (0..=(round % 4)).map(|at| round * 4 + at).collect();
        assert_eq!(addresses, expected);
    }
}

/// A device over its budget is named, once, for the core to contain; its neighbour's records still
/// come. No change of its entry gives it a new budget.
#[test]
fn a_storm_is_its_devices_alone() {
    let bench = bare(QEMU).bring_up(Options { storm_events: 20, ..options() });
    let policy = StreamPolicy::default();
    bench.smmu.attach(stream(8), &stage_two(1), policy).unwrap();
    bench.smmu.attach(stream(9), &stage_two(2), policy).unwrap();
    for at in 0..50 {
        event(&bench, 8, at);
    }
    event(&bench, 9, 0x9000);
    let (seen, drained) = drain(&bench, 1_000);
    assert_eq!(drained.storms.as_slice(), [stream(8)]);
    let of = |number| seen.iter().filter(|fault| fault.stream == stream(number)).count();
    assert_eq!((of(8), of(9)), (21, 1));
    assert_eq!(bench.smmu.dropped_records(), 29);
    event(&bench, 8, 0);
    let (seen, drained) = drain(&bench, 1_000);
    assert_eq!((seen.len(), drained.storms.len()), (0, 0), "said once");
    for (renewed, delivered) in [(false, 0), (true, 1)] {
        if renewed {
            bench.smmu.renew_budget(&[stream(8)]);
        }
        bench.smmu.attach(stream(8), &stage_two(1), policy).unwrap();
        event(&bench, 8, 1);
        assert_eq!(drain(&bench, 10).0.len(), delivered, "renewed: {renewed}");
        bench.smmu.detach(stream(8)).unwrap();
    }
}

/// Records that were lost count against whoever filled the queue, when all of it was read; its
/// neighbour, whose records were the first, is spared.
#[test]
fn an_overflow_is_over_budget() {
    let bench = bare(QEMU).bring_up(Options { evtq_log2: 6, ..options() });
    let policy = StreamPolicy::default();
    bench.smmu.attach(stream(8), &stage_two(1), policy).unwrap();
    bench.smmu.attach(stream(9), &stage_two(2), policy).unwrap();
    for at in 0..20 {
        event(&bench, 9, at);
    }
    for at in 0..44 {
        event(&bench, 8, at);
    }
    let prod = bench.fake.state().get(EVENTQ_PROD);
    bench.fake.state().set(EVENTQ_PROD, prod | 1 << 31);
    // The first part of the queue is the neighbour's alone.
    let (_, first) = drain(&bench, 16);
    assert!(first.overflowed && first.storms.is_empty());
    let mut storms = Vec::new();
    loop {
        let (_, drained) = drain(&bench, 16);
        storms.extend(drained.storms);
        if !drained.more {
            break;
        }
    }
    assert_eq!(storms, [stream(8)]);
}

/// Without any choice of the operator's, some hundreds of records a second are a storm.
#[test]
fn the_budget_is_in_the_hundreds() {
    let bench = bench(QEMU);
    bench.smmu.attach(stream(8), &stage_two(1), StreamPolicy::default()).unwrap();
    for at in 0..999 {
        event(&bench, 8, at);
    }
    let (_, drained) = drain(&bench, 2_000);
    assert_eq!(drained.storms.as_slice(), [stream(8)]);
}

/// Only the last request of a group is answered, with a refusal that names it.
#[test]
fn page_requests_are_denied() {
    let id = IdRegisters { idr0: QEMU.idr0 | 1 << 16, idr1: QEMU.idr1 | 8 << 11, ..QEMU };
    let bench = bench(id);
    let request =
        |last: u64, group: u64| [0x18 | 5 << 32 | last << 62 | 1 << 63, 0x4000_0000 | group];
    bench.fake.produce(PRIQ_BASE, PRIQ_PROD, &request(0, 7));
    bench.fake.produce(PRIQ_BASE, PRIQ_PROD, &request(1, 7));
    drain(&bench, 10);
    let commands = bench.fake.state().commands.clone();
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[0], [0x18 << 32 | 5 << 12 | 1 << 11 | 0x41, 7]);
}

/// EVENTQ_ABT_ERR is acknowledged, and told as lost records; it is not fatal.
#[test]
fn an_aborted_record_is_acknowledged() {
    let bench = bench(QEMU);
    bench.fake.state().set(0x60, 1 << 2);
    assert!(drain(&bench, 10).1.overflowed);
    assert_eq!(bench.fake.state().get(0x64), 1 << 2);
    assert!(!drain(&bench, 10).1.overflowed);
    assert!(bench.smmu.is_alive());
}

/// SFM seen by the interrupt: the instance is dead and everything aborts.
#[test]
fn service_failure_by_interrupt() {
    let bench = bench(QEMU);
    bench.fake.state().set(0x60, 1 << 8);
    bench.smmu.check_global_errors();
    assert!(!bench.smmu.is_alive());
    assert_eq!(bench.fake.state().get(0x20), 0);
}

/// A PROD that no queue can have is caught up with and told, never followed.
#[test]
fn an_impossible_producer_is_not_followed() {
    let bench = bare(QEMU).bring_up(Options { evtq_log2: 2, ..options() });
    bench.fake.state().set(EVENTQ_PROD, 5);
    let (seen, drained) = drain(&bench, 100);
    assert_eq!((seen.len(), drained.overflowed), (0, true));
}

/// CMD_RESUME names stream and tag; what hardware does not offer becomes an abort (§4.7.1).
#[test]
fn stalls_are_answered() {
    let stalls = IdRegisters { idr0: QEMU.idr0 & !(3 << 24) & !(1 << 26), ..QEMU };
    let abort_only = IdRegisters { idr0: stalls.idr0 | 1 << 26, ..QEMU };
    for (id, response, action) in [
        (stalls, Response::Retry, 0b01),
        (stalls, Response::Abort, 0b10),
        (stalls, Response::Terminate, 0b00),
        (abort_only, Response::Terminate, 0b10),
    ] {
        let bench = bench(id);
        bench.smmu.resume(stream(8), 0xbeef, response).unwrap();
        let command = bench.fake.state().commands[0];
        assert_eq!(command, [8 << 32 | action << 12 | 0x44, 0xbeef]);
    }
    let bench = bench(QEMU);
    assert_eq!(
        bench.smmu.resume(stream(8), 1, Response::Retry),
        Err(DriverError::Unsupported(Feature::Stall))
    );
}

/// An answer that is not confirmed in time: the stream aborts for good, the SMMU lives.
#[test]
fn an_answer_that_times_out_kills_its_stream() {
    let stalls = IdRegisters { idr0: QEMU.idr0 & !(3 << 24) & !(1 << 26), ..QEMU };
    let bench = bench(stalls);
    let policy = StreamPolicy { ats: false, stalls: true };
    bench.smmu.attach(stream(8), &stage_two(1), policy).unwrap();
    bench.inject(Fault::Late { opcode: 0x46, turns: 3_000 });
    let answer = bench.smmu.resume(stream(8), 7, Response::Retry);
    assert_eq!(answer, Err(DriverError::Timeout(stream(8))));
    assert_eq!(bench.fake.ste(8)[0], 1);
    assert!(bench.smmu.is_alive());
    let again = bench.smmu.attach(stream(8), &stage_two(1), policy);
    assert_eq!(again, Err(DriverError::Timeout(stream(8))));
}

/// A stalled fault is delivered with its tag.
#[test]
fn a_stall_is_delivered_with_its_tag() {
    let bench = bench(QEMU);
    let record = [8u64 << 32 | 0x10, 1 << 31 | 0x77 | 1 << 39 | 2 << 40, 0x1000, 0x1000];
    bench.fake.produce(EVENTQ_BASE, EVENTQ_PROD, &record);
    assert_eq!(drain(&bench, 10).0[0].stall, Some(0x77));
}
