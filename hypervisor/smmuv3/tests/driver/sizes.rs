//! Address sizes (§3.4, §5.2): what the SMMU cannot reach is refused by name.

use std::collections::BTreeSet;

use palisade_hal::PhysAddr;
use palisade_iommu::{
    Argument, DefaultSubstream, DriverError, IommuDriver, PhysicalView, StageTwo, StreamPolicy,
};
use palisade_smmuv3::{BringUpError, IdRegisters, Smmu};

use crate::fake::{QEMU, bare_at, bench, options, stage_two, stream};

const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };
/// 32 bits of output, MSIs, page requests, substreams.
const NARROW: IdRegisters = IdRegisters {
    idr0: QEMU.idr0 | 1 << 13 | 1 << 16 | 1 << 19,
    idr1: QEMU.idr1 | 8 << 11 | 16 << 6,
    idr5: QEMU.idr5 & !7,
    ..QEMU
};
const LIMIT: u64 = 1 << 32;

/// Memory on both sides of the limit, more and more of it below: whatever does not fit is named,
/// and given back; what is told to the SMMU is in its reach.
#[test]
fn tables_and_queues_are_in_reach_or_refused_by_name() {
    let mut named = BTreeSet::new();
    let mut up = 0;
    for below in 0..64 {
        let bare = bare_at(NARROW, LIMIT - (below << 12), below + 1024);
        let before = bare.frames.footprint();
        match Smmu::bring_up(bare.mmio(), &bare.frames, bare.clock(), options()) {
            Ok(smmu) => {
                up += 1;
                for register in [0x80, 0x90, 0xa0, 0xc0] {
                    let base = bare.fake.state().get(register) & 0x00ff_ffff_ffff_ffc0;
                    assert!(base < LIMIT, "{register:#x}: {base:#x}");
                }
                // And later: second levels, context tables.
                let mut refused = false;
                for number in (0..0x1000).step_by(0x100) {
                    match smmu.prepare(stream(number)) {
                        Ok(()) => assert_eq!(bare.fake.ste(number)[0], 1),
                        Err(error) => {
                            let beyond = DriverError::Argument(Argument::OutputSize);
                            assert_eq!(error, beyond);
                            refused = true;
                        }
                    }
                }
                assert!(refused, "there are not so many frames below");
                let contexts = smmu.create_contexts(stream(1), 10, &PhysicalView);
                assert_eq!(contexts, Err(DriverError::Argument(Argument::OutputSize)));
            }
            Err(BringUpError::OutputSize(what)) => {
                named.insert(what);
                assert_eq!(bare.frames.footprint(), before);
                assert_eq!(bare.fake.state().get(0x80), 0, "nothing was told");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(up > 0, "{named:?}");
    assert!(named.contains("stream table") && named.contains("command queue"), "{named:?}");
}

/// S2T0SZ: at least MAX(16, 64 - IAS), where IAS is OAS, or 40 with AArch32 tables (§3.4, §5.2).
#[test]
fn stage_2_takes_no_more_than_the_intermediate_size() {
    // PS 0: 32 bits.
    let two = |t0sz: u32| StageTwo {
        control: 0x0_3540 | t0sz,
        table: PhysAddr::new(0x9000_0000),
        ..stage_two(1)
    };
    let small = IdRegisters { idr5: QEMU.idr5 & !7 | 1, ..QEMU };
    let both = IdRegisters { idr0: small.idr0 | 1 << 2, ..small };
    let large = IdRegisters { idr5: QEMU.idr5 & !7 | 5, ..QEMU };
    for (id, least) in [(small, 28), (both, 24), (QEMU, 20), (large, 16)] {
        let bench = bench(id);
        for t0sz in 0..64 {
            let expected = if (least..=39).contains(&t0sz) {
                Ok(())
            } else {
                Err(DriverError::Argument(Argument::T0sz))
            };
            assert_eq!(bench.smmu.attach(stream(1), &two(t0sz), POLICY), expected, "{t0sz}");
        }
    }
}

/// A context's root lies inside what its IPS and the SMMU have (§5.4).
#[test]
fn a_contexts_root_is_in_reach() {
    let id = IdRegisters { idr5: QEMU.idr5 & !7 | 1, ..NARROW };
    let bench = bench(id);
    let process = palisade_hal::SubstreamId::new(1);
    bench.smmu.create_contexts(stream(1), 5, &PhysicalView).unwrap();
    bench.smmu.prepare_context(stream(1), process, &PhysicalView).unwrap();
    bench.smmu.attach_contexts(stream(1), None, DefaultSubstream::Zero, POLICY).unwrap();
    let write = |ips: u64, table: u64| {
        let context = palisade_iommu::Context {
            asid: palisade_hal::Asid::new(1),
            table,
            tcr: 16 | 1 << 8 | 1 << 10 | 3 << 12 | ips << 32,
            mair: 0xff44,
            stalls: false,
            record: true,
            private: true,
            quiet: false,
        };
        bench.smmu.write_context(stream(1), process, Some(&context))
    };
    let root = Err(DriverError::Argument(Argument::Root));
    assert_eq!(write(5, 1 << 36), root, "beyond the SMMU");
    assert_eq!(write(0, 1 << 32), root, "beyond IPS");
    assert_eq!(write(7, 0x1000), Err(DriverError::Argument(Argument::Ips)));
    write(5, 0xf_ffff_f000).unwrap();
    write(0, 0xffff_f000).unwrap();
}
