//! The driver on the model, one situation at a time: errata by SMMU_IIDR, devices with slow TLBs.
#![allow(missing_docs)]

use std::sync::Arc;

use palisade_hal::{PhysAddr, StreamId, Vmid};
use palisade_host::{Machine, ModelClock};
use palisade_iommu::{
    DriverError, Feature, Invalidation, IommuDriver, StageTwo, StreamPolicy, StreamState,
};
use palisade_mem::{Arena, Frames};
use palisade_smmu_model::{Features, Injection};
use palisade_smmuv3::{BringUpError, Options, Smmu, Unsupported};

const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };
const TRUSTED: StreamPolicy = StreamPolicy { ats: true, stalls: false };

type Driver = Smmu<ModelClock>;

fn bring_up(features: Features) -> (Arc<Machine>, Result<Driver, BringUpError>) {
    let arena = Arc::new(Arena::new(PhysAddr::new(0x8000_0000), 256));
    let machine = Machine::new(features, arena.clone(), 1, None);
    machine.set_quiet(true);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let options = Options { sync_micros: 3000, register_micros: 3000, ..Options::default() };
    let clock = ModelClock::new(machine.clone());
    let mmio = machine.mmio();
    let smmu = machine.run(|| Smmu::bring_up(mmio, &frames, clock, options));
    (machine, smmu)
}

fn two(vmid: u16) -> StageTwo {
    // T0SZ 24, SL0 1, write-back inner-shareable, 4K, PS 44 bits; the root is never walked.
    StageTwo { vmid: Vmid::new(vmid), table: PhysAddr::new(0x8000_0000), control: 0x4_3558 }
}

/// Parts whose invalidation is wrong with both stages get one at a time; the repaired revisions
/// get both; what cannot be driven is refused and its streams abort.
#[test]
fn errata_restrict_or_refuse_by_name() {
    let nested = [0b1011, 0, 0, 0, 0, 0, 0, 0];
    for (iidr, allowed) in [
        (0x43b, true),
        (0x4830_043b, false),
        (0x4831_143b, false),
        (0x4832_043b, true),
        (0x4870_043b, false),
        (0x4871_043b, false),
        (0x4871_143b, true),
    ] {
        let (machine, smmu) = bring_up(Features { iidr, ..Features::default() });
        let smmu = smmu.unwrap();
        machine.run(|| {
            assert_eq!(smmu.capabilities().nested, allowed, "{iidr:#x}");
            smmu.attach(StreamId::new(1), &two(1), POLICY).unwrap();
            let own = smmu.attach_nested(StreamId::new(1), &two(1), POLICY, &nested);
            let refused = Err(DriverError::Unsupported(Feature::Nested));
            assert_eq!(own, if allowed { Ok(StreamState::Nested) } else { refused }, "{iidr:#x}");
        });
    }
    let (machine, smmu) = bring_up(Features { iidr: 0x34c, ..Features::default() });
    assert_eq!(smmu.err(), Some(BringUpError::Unsupported(Unsupported::PageOne)));
    assert!(machine.with_model(|model| model.mmio_read(0x44, 4)) >> 20 & 1 == 1, "GBPA aborts");
}

/// A device that takes longer than a CMD_SYNC may, and one that the root complex gives up: its
/// stream is dead, the SMMU lives, and another's invalidation is confirmed.
#[test]
fn a_slow_device_tlb_costs_its_own_stream_only() {
    let (slow, other) = (StreamId::new(5), StreamId::new(6));
    for injection in [Injection::SlowAtc(5, 20_000), Injection::AtcTimeout(5)] {
        for detach in [false, true] {
            let (machine, smmu) = bring_up(Features::default());
            let smmu = smmu.unwrap();
            machine.run(|| {
                smmu.attach(slow, &two(1), TRUSTED).unwrap();
                smmu.attach(other, &two(2), TRUSTED).unwrap();
                machine.with_model(|model| model.inject(injection));
                let start = Default::default();
                let item = |stream| Invalidation::Device {
                    stream,
                    substream: None,
                    start,
                    size: u64::MAX,
                };
                let error = if detach { smmu.detach(slow) } else { smmu.invalidate(&[item(slow)]) };
                assert_eq!(error, Err(DriverError::Timeout(slow)), "{injection:?}");
                assert!(smmu.is_alive());
                smmu.invalidate(&[Invalidation::Vmid(Vmid::new(2)), item(other)]).unwrap();
                assert_eq!(smmu.stream_state(slow), StreamState::Abort);
                assert_eq!(smmu.stream_state(other), StreamState::Stage2);
                smmu.detach(other).unwrap();
            });
        }
    }
}
