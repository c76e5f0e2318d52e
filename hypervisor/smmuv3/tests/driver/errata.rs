//! SMMUs with known errata, by SMMU_IIDR (§6.3.7).

use palisade_hal::{Asid, Ipa, SubstreamId, Vmid};
use palisade_iommu::{
    DefaultSubstream, DriverError, Feature, Invalidation, IommuDriver, PhysicalView, StreamPolicy,
    StreamState,
};
use palisade_smmuv3::{BringUpError, IdRegisters, Smmu, Unsupported};

use crate::fake::{Bench, QEMU, bare, options, stage_two, stream};

const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };
const ID: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 9 | 1 << 19, idr1: QEMU.idr1 | 16 << 6, ..QEMU };
const IIDR: u64 = 0x18;
const SYNC: u8 = 0x46;

fn part(iidr: u64) -> Bench {
    let bare = bare(ID);
    bare.fake.state().set(IIDR, iidr);
    bare.bring_up(options())
}

/// MMU-600 r1p0, MMU-700 r0p1 and r1p0: one stage at a time. Their repaired revisions and others:
/// both.
#[test]
fn no_nesting_where_invalidation_is_wrong_with_it() {
    for (iidr, nested) in [
        (0x4831_043b, false),
        (0x4832_043b, true),
        (0x4870_143b, false),
        (0x4871_043b, false),
        (0x4871_143b, true),
        (0, true),
    ] {
        let bench = part(iidr);
        assert_eq!(bench.smmu.capabilities().nested, nested, "{iidr:#x}");
        let refused = |nested_result: Result<(), DriverError>| {
            let unsupported = Err(DriverError::Unsupported(Feature::Nested));
            assert_eq!(nested_result, if nested { Ok(()) } else { unsupported }, "{iidr:#x}");
        };
        let smmu = &bench.smmu;
        // Each stage alone.
        smmu.attach(stream(1), &stage_two(1), POLICY).unwrap();
        smmu.create_contexts(stream(2), 5, &PhysicalView).unwrap();
        smmu.attach_contexts(stream(2), None, DefaultSubstream::Zero, POLICY).unwrap();
        // Both.
        let (two, zero) = (stage_two(1), DefaultSubstream::Zero);
        refused(smmu.attach_contexts(stream(2), Some(&two), zero, POLICY));
        let words = [0b1011 | 0x4000_0000, 0, 0, 0, 0, 0, 0, 0];
        refused(smmu.attach_nested(stream(1), &stage_two(1), POLICY, &words).map(|_| ()));
        refused(
            smmu.cache_invalidate(Vmid::new(1), &|_, _| None, &[[0x30, 0]])
                .map(|_| ())
                .map_err(|(_, error)| error),
        );
        // A guest's entry of one stage is fine on all of them.
        let words = [1 | 4 << 1, 0, 0, 0, 0, 0, 0, 0];
        let plain = smmu.attach_nested(stream(1), &stage_two(1), POLICY, &words);
        assert_eq!(plain, Ok(StreamState::Stage2));
    }
}

/// Every revision of MMU-700: a CMD_SYNC between commands of different kinds, none between those
/// of one kind.
#[test]
fn a_sync_between_kinds() {
    let (vmid, asid) = (Vmid::new(1), Asid::new(2));
    let range = Invalidation::StageTwo {
        vmid,
        start: Ipa::new(0x1000),
        size: 0x3000,
        granule: 4096,
        leaf: None,
    };
    let (device, substream) = (stream(1), SubstreamId::new(3));
    let batch = [
        Invalidation::Context { stream: device, substream },
        Invalidation::Contexts(device),
        Invalidation::All,
        range,
        range,
        Invalidation::Vmid(vmid),
        Invalidation::StageOneOf(vmid),
        Invalidation::Asid { vmid, asid },
    ];
    for iidr in [0x4870_043b, 0x4871_143b] {
        let bench = part(iidr);
        bench.smmu.invalidate(&batch).unwrap();
        let opcodes = bench.opcodes();
        for pair in opcodes.windows(2) {
            let apart = pair[0] == pair[1] || pair.contains(&SYNC);
            assert!(apart, "{opcodes:x?}");
        }
        assert!(!opcodes.windows(2).any(|pair| pair == [SYNC, SYNC]));
        assert_eq!(opcodes.last(), Some(&SYNC));
        let bound = bench.smmu.bound(&batch);
        assert!(opcodes.len() as u64 <= bound.commands, "{} {bound:?}", opcodes.len());
        assert_eq!(bench.fake.state().get(0x2c) >> 2 & 1, 1, "PTM: no broadcast maintenance");
    }
    let sound = part(0);
    sound.smmu.invalidate(&batch).unwrap();
    assert!(sound.opcodes().windows(2).any(|pair| pair == [0x05, 0x06]));
}

/// ThunderX2's register page 1 does not work: refused by name, and left aborting.
#[test]
fn what_cannot_be_driven_is_refused() {
    let bare = bare(ID);
    bare.fake.state().set(IIDR, 0x34c);
    let before = bare.frames.footprint();
    let error = Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()).err();
    assert_eq!(error, Some(BringUpError::Unsupported(Unsupported::PageOne)));
    assert_eq!(bare.fake.state().get(0x44) >> 20 & 1, 1);
    assert_eq!(bare.fake.state().get(0x20), 0);
    assert_eq!(bare.frames.footprint(), before);
}
