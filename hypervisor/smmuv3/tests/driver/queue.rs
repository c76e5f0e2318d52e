//! The command queue: errors, completion, wrap.

use palisade_hal::{Asid, Iova, Ipa, Vmid};
use palisade_iommu::{DriverError, Invalidation, IommuDriver, StreamPolicy};
use palisade_smmuv3::IdRegisters;

use crate::fake::{Fault, QEMU, bare, bench, options, stage_two, stream};

const TLBI_VMALL: u8 = 0x28;
const SYNC: u8 = 0x46;

fn flush(vmid: u16) -> [Invalidation; 1] {
    [Invalidation::Vmid(Vmid::new(vmid))]
}

/// CERROR_ILL and a code of the future: the command is replaced by a CMD_SYNC, the error is
/// reported to its batch, and the next batch is fine.
#[test]
fn an_illegal_command_is_replaced_and_told() {
    for code in [1, 0x55] {
        let bench = bench(QEMU);
        bench.inject(Fault::Error { opcode: TLBI_VMALL, code, times: 1 });
        assert_eq!(bench.smmu.invalidate(&flush(1)), Err(DriverError::InvalidationTimeout));
        assert_eq!(bench.opcodes(), [SYNC, SYNC]);
        let state = bench.fake.state();
        assert_eq!(state.get(0x60), state.get(0x64), "acknowledged");
        drop(state);
        bench.smmu.invalidate(&flush(2)).unwrap();
    }
}

/// CERROR_ABT: fetched again after the acknowledgement.
#[test]
fn an_aborted_fetch_is_retried() {
    let bench = bench(QEMU);
    bench.inject(Fault::Error { opcode: TLBI_VMALL, code: 2, times: 3 });
    bench.smmu.invalidate(&flush(1)).unwrap();
    assert_eq!(bench.opcodes(), [TLBI_VMALL, SYNC]);
}

/// A fetch that always aborts: the instance dies after a bounded number of retries.
#[test]
fn an_aborting_queue_dies() {
    let bench = bench(QEMU);
    bench.inject(Fault::Error { opcode: TLBI_VMALL, code: 2, times: u32::MAX });
    assert_eq!(bench.smmu.invalidate(&flush(1)), Err(DriverError::Dead));
    assert!(!bench.smmu.is_alive());
    assert_eq!(bench.fake.state().get(0x20) & 1, 0, "everything aborts through GBPA");
    assert!(bench.writes(0x64) <= 10);
}

/// A device TLB that does not answer: told at the sync, the stream aborts, the rest goes on.
#[test]
fn a_device_tlb_that_does_not_answer() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 | 1 << 10, ..QEMU });
    let device = stream(5);
    let policy = StreamPolicy { ats: true, stalls: false };
    bench.smmu.attach(device, &stage_two(1), policy).unwrap();
    bench.smmu.attach(stream(6), &stage_two(1), policy).unwrap();
    bench.inject(Fault::Error { opcode: SYNC, code: 3, times: 1 });
    let batch = [Invalidation::Device {
        stream: device,
        substream: None,
        start: Default::default(),
        size: u64::MAX,
    }];
    assert_eq!(bench.smmu.invalidate(&batch), Err(DriverError::Timeout(device)));
    assert_eq!(bench.fake.ste(5)[0], 1);
    assert_eq!(bench.fake.ste(6)[0], 0xd);
    assert!(bench.smmu.is_alive());
}

/// CMD_ATC_INV is sent only to streams that may have a device TLB (else CERROR_ILL).
#[test]
fn no_device_tlb_no_command() {
    let bench = bench(QEMU);
    bench.smmu.attach(stream(1), &stage_two(1), StreamPolicy { ats: true, stalls: false }).unwrap();
    bench.clear();
    let batch = [Invalidation::Device {
        stream: stream(1),
        substream: None,
        start: Default::default(),
        size: 4096,
    }];
    bench.smmu.invalidate(&batch).unwrap();
    assert!(bench.opcodes().is_empty());
}

/// Service failure mode: dead, everything aborts.
#[test]
fn service_failure() {
    let bench = bench(QEMU);
    bench.fake.state().set(0x60, 1 << 8);
    assert_eq!(bench.smmu.invalidate(&flush(1)), Err(DriverError::Dead));
    assert!(!bench.smmu.is_alive());
    assert_eq!(bench.fake.state().get(0x20), 0);
}

/// Thousands of batches through a queue of eight entries: the wrap bit is kept.
#[test]
fn wraps() {
    let bench = bare(QEMU).bring_up(palisade_smmuv3::Options { cmdq_log2: 3, ..options() });
    for round in 0..2_000u16 {
        bench.smmu.invalidate(&flush(round % 200 + 1)).unwrap();
    }
    let state = bench.fake.state();
    let vmids: Vec<u64> =
        state.commands.iter().filter(|c| c[0] as u8 == TLBI_VMALL).map(|c| c[0] >> 32).collect();
    assert_eq!(vmids, (0..2_000).map(|round| round % 200 + 1).collect::<Vec<_>>());
}

/// A batch longer than the queue goes in pieces that fit.
#[test]
fn a_long_request_is_cut_to_the_queue() {
    let id = IdRegisters { idr3: 0, ..QEMU };
    let bench = bare(id).bring_up(palisade_smmuv3::Options { cmdq_log2: 3, ..options() });
    let batch = [Invalidation::StageTwo {
        vmid: Vmid::new(1),
        start: Ipa::new(0x4000_0000),
        size: 64 << 12,
        granule: 4096,
        leaf: None,
    }];
    bench.smmu.invalidate(&batch).unwrap();
    let opcodes = bench.opcodes();
    assert_eq!(opcodes.iter().filter(|&&opcode| opcode == 0x2a).count(), 64);
    assert_eq!(opcodes.last(), Some(&SYNC));
}

/// Completion by message: the sync writes its cookie, and no register is polled.
#[test]
fn completion_by_message() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 | 1 << 13, ..QEMU });
    let mut looks = 0;
    for round in 0..600 {
        bench.clear();
        bench.smmu.invalidate(&flush(1)).unwrap();
        let state = bench.fake.state();
        // PROD, and CONS only when the queue seems full.
        assert!(state.accesses.len() <= 2, "round {round}");
        looks += state.accesses.iter().filter(|access| !access.0).count();
        let sync = state.commands.last().unwrap();
        assert_eq!(sync[0] >> 12 & 3, 1, "CS = message");
    }
    assert!(looks <= 2 * 600 / 256 + 1, "{looks}");
}

/// Cookies never repeat while a queue's worth of them is under way.
#[test]
fn cookies_are_unique() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 | 1 << 13, ..QEMU });
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        bench.smmu.invalidate(&flush(1)).unwrap();
    }
    for command in &bench.fake.state().commands {
        if command[0] as u8 == SYNC {
            assert!(seen.insert(command[0] >> 32));
        }
    }
    assert_eq!(seen.len(), 1_000);
}

/// A message that is lost is made up for by CMDQ_CONS.
#[test]
fn a_lost_message_is_no_time_out() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 | 1 << 13, ..QEMU });
    bench.fake.state().lose_messages = true;
    bench.smmu.invalidate(&flush(1)).unwrap();
}

/// A queue that cannot work: CONS runs ahead of PROD.
#[test]
fn impossible_indexes_are_death() {
    let bench = bench(QEMU);
    bench.inject(Fault::Stop { opcode: TLBI_VMALL });
    bench.fake.state().set(0x9c, 0x77);
    assert_eq!(bench.smmu.invalidate(&flush(1)), Err(DriverError::Dead));
}

/// Several cores at once: every batch is complete when its call returns, and none is lost.
#[test]
fn several_cores() {
    let bench = bare(QEMU).bring_up(palisade_smmuv3::Options { cmdq_log2: 4, ..options() });
    std::thread::scope(|scope| {
        for core in 0..4u16 {
            let bench = &bench;
            scope.spawn(move || {
                for round in 0..200u16 {
                    let vmid = 1 + core * 1000 + round;
                    bench.smmu.invalidate(&flush(vmid)).unwrap();
                    let state = bench.fake.state();
                    let at = state
                        .commands
                        .iter()
                        .rposition(|c| c[0] == u64::from(vmid) << 32 | u64::from(TLBI_VMALL))
                        .expect("consumed before the call returned");
                    assert!(state.commands[at..].iter().any(|c| c[0] as u8 == SYNC));
                }
            });
        }
    });
    let tlbis = bench.opcodes().iter().filter(|&&opcode| opcode == TLBI_VMALL).count();
    assert_eq!(tlbis, 800);
}

/// A stage 1 SMMU has no VMIDs: the field is 0, and stage 2's commands are never sent.
#[test]
fn a_stage_1_smmu_gets_stage_1_commands() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 & !1, ..QEMU });
    let (vmid, asid) = (Vmid::new(7), Asid::new(9));
    let (start, granule) = (Iova::new(0x1000), 4096);
    let batch = [
        Invalidation::Vmid(vmid),
        Invalidation::StageTwo { vmid, start: Ipa::new(0), size: 4096, granule, leaf: None },
        Invalidation::Asid { vmid, asid },
        Invalidation::StageOne { vmid, asid, start, size: 4096, granule, leaf: None },
    ];
    bench.smmu.invalidate(&batch).unwrap();
    let commands = bench.fake.state().commands.clone();
    assert_eq!(commands[0], [0x10, 0]);
    assert_eq!(commands[1], [9 << 48 | 0x11, 0]);
    assert_eq!(commands[2], [9 << 48 | 0x12, 0x1000]);
    assert_eq!(commands.len(), 4);
}

/// A stage 2 SMMU gets no stage 1 command (CERROR_ILL, §4.4.2).
#[test]
fn a_stage_2_smmu_gets_stage_2_commands() {
    let bench = bench(IdRegisters { idr0: QEMU.idr0 & !2, ..QEMU });
    let vmid = Vmid::new(7);
    let batch = [
        Invalidation::Vmid(vmid),
        Invalidation::StageOneOf(vmid),
        Invalidation::Asid { vmid, asid: Asid::new(1) },
        Invalidation::Contexts(stream(1)),
    ];
    bench.smmu.invalidate(&batch).unwrap();
    assert_eq!(bench.opcodes(), [TLBI_VMALL, SYNC]);
}
