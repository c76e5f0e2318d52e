//! Chapters 4 and 7.1: commands, their errors, their completion.

use crate::bench::{Bench, CMDQ};
use palisade_smmu_model::{DriverFault, Features, Filtered, Injection, Interrupt, StallModel};

const ILL: u32 = 1;
const ABT: u32 = 2;
const ATC: u32 = 3;

/// 4.1.3: whatever the features do not offer is CERROR_ILL, and the queue recovers.
#[test]
fn commands_the_features_do_not_offer_are_illegal() {
    let everything = Features::default();
    let cases: &[(Features, [u64; 2])] = &[
        (everything.clone(), [0x00, 0]),
        (everything.clone(), [0x07, 0]),
        (everything.clone(), [0x18, 0]),
        (everything.clone(), [0x31, 0]),
        (everything.clone(), [0x50, 0]),
        (everything.clone(), [0x70, 0]),
        (everything.clone(), [0x90, 0]),
        (Features { hyp: false, ..everything.clone() }, [0x20, 0]),
        (Features { hyp: false, ..everything.clone() }, [0x22, 0]),
        (Features { stage1: false, ..everything.clone() }, [0x10, 0]),
        (Features { stage1: false, ..everything.clone() }, [0x05, 0]),
        (Features { stage2: false, ..everything.clone() }, [0x28, 0]),
        (Features { stage2: false, ..everything.clone() }, [0x2a, 0]),
        (Features { ats: false, ..everything.clone() }, [0x40, 0]),
        (Features { pri: false, ..everything.clone() }, [0x41, 0]),
        (Features { stall: StallModel::TerminateOnly, ..everything.clone() }, [0x44, 0]),
        (Features { stall: StallModel::TerminateOnly, ..everything.clone() }, [0x45, 0]),
        // SSec = 1, a reserved CS, a reserved PRI response, ATC_INV beyond the whole space.
        (everything.clone(), [0x03 | 1 << 10, 1]),
        (everything.clone(), [0x46 | 3 << 12, 0]),
        (everything.clone(), [0x41, 3 << 12]),
        (everything.clone(), [0x40, 53]),
        // TG without anything to say; range fields without RIL.
        (everything.clone(), [0x2a | 1 << 32, 1 << 10]),
        (Features { ril: false, ..everything.clone() }, [0x2a | 1 << 32 | 3 << 12, 1 << 10]),
        // 16K with TTL = 1 is as TTL = 0.
        (everything.clone(), [0x2a | 1 << 32, 2 << 10 | 1 << 8]),
    ];
    for (i, (features, command)) in cases.iter().enumerate() {
        let mut bench = Bench::new(features.clone(), i as u64);
        bench.refused(*command, ILL);
        let faults = bench.model.take_driver_faults();
        assert!(
            matches!(faults[..], [DriverFault::IllegalCommand { .. }]),
            "{command:x?}: {faults:x?}"
        );
        bench.sync();
        bench.clean();
    }
}

#[test]
fn errors_stop_the_queue_until_acknowledged() {
    let mut bench = Bench::new(Features::default(), 7);
    bench.model.inject(Injection::AbortCommandFetch);
    bench.refused([0x30, 0], ABT);
    bench.model.inject(Injection::RefuseCommand);
    bench.refused([0x30, 0], ILL);
    bench.model.inject(Injection::AtcTimeout(5));
    bench.command([0x40 | 5 << 32, 52]);
    bench.refused([0x46, 0], ATC);
    bench.clean();
}

/// 4.7.3: SIG_NONE, SIG_IRQ by wire and by MSI, SIG_SEV.
#[test]
fn sync_signals() {
    let mut bench = Bench::new(Features::default(), 8);
    bench.model.take_interrupts();
    bench.command([0x46 | 1 << 12, 0]);
    assert_eq!(bench.model.take_interrupts(), [Interrupt::Sync]);
    bench.command([0x46 | 2 << 12, 0]);
    assert_eq!(bench.model.take_interrupts(), [Interrupt::SyncEvent]);
    bench.command([0x46 | 1 << 12 | 0x1234_5678 << 32, 0x9004]);
    assert_eq!(bench.memory.get(0x9000) >> 32, 0x1234_5678);
    assert_eq!(bench.model.take_interrupts(), []);
}

#[test]
fn a_lost_sync_hangs_the_queue_or_loses_the_msi() {
    let mut bench = Bench::new(Features::default(), 9);
    bench.model.inject(Injection::LoseSync);
    bench.command([0x46 | 1 << 12 | 7 << 32, 0x9000]);
    assert_eq!(bench.memory.get(0x9000), 0);
    bench.model.inject(Injection::LoseSync);
    bench.publish([0x46, 0]);
    let before = bench.read32(0x9c);
    bench.model.run(500);
    assert_eq!(bench.read32(0x9c), before);
    bench.model.inject(Injection::ReleaseSync);
    bench.model.run(100);
    assert_ne!(bench.read32(0x9c), before);
}

/// 7.1: a queue that is told to hold more than it can is a driver's mistake.
#[test]
fn an_impossible_index_is_reported() {
    let mut bench = Bench::new(Features::default(), 10);
    let cons = bench.read32(0x9c);
    bench.write32(0x98, (cons + 17) & 31);
    assert!(matches!(
        bench.model.take_driver_faults()[..],
        [DriverFault::QueueIndex { what: "command", .. }]
    ));
}

#[test]
fn a_filter_can_drop_and_replace() {
    let mut bench = Bench::new(Features::default(), 11);
    let before = bench.model.counters();
    bench.model.set_command_filter(Some(Box::new(|command| match command[0] & 0xff {
        0x30 => Filtered::Drop,
        0x20 => Filtered::Replace([0x30, 0]),
        _ => Filtered::Pass,
    })));
    bench.command([0x30, 0]);
    bench.command([0x20, 0]);
    let after = bench.model.counters();
    assert_eq!(after.tlb_invalidations - before.tlb_invalidations, 1);
}

/// 4.1.2: the command queue wraps, and the wrap bit tells full from empty.
#[test]
fn the_queue_wraps() {
    let mut bench = Bench::new(Features::default(), 12);
    for _ in 0..100 {
        bench.command([0x30, 0]);
    }
    for _ in 0..16 {
        bench.publish([0x46, 0]);
    }
    bench.model.run(500);
    assert_eq!(bench.read32(0x98), bench.read32(0x9c));
    bench.clean();
    assert_eq!(bench.memory.get(CMDQ) & 0xff, 0x46);
}

/// 4.1.7: out-of-range parameters may do nothing.
#[test]
fn out_of_range_parameters_are_reported() {
    let mut bench = Bench::new(Features::minimal(), 13);
    bench.command([0x03 | 64 << 32, 1]);
    bench.command([0x28 | 0x100 << 32, 0]);
    let faults = bench.model.take_driver_faults();
    let what = |i: usize| match &faults[i] {
        DriverFault::OutOfRangeParameter { what, .. } => *what,
        other => panic!("{other:?}"),
    };
    assert_eq!((what(0), what(1)), ("StreamID", "VMID"));
}
