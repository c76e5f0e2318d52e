//! Context-descriptor tables that the hypervisor owns.

use palisade_hal::{Asid, StreamId, SubstreamId};
use palisade_iommu::{
    Argument, Context, DefaultSubstream, DriverError, Feature, IommuDriver, PhysicalView,
    StreamPolicy, StreamState,
};
use palisade_smmuv3::IdRegisters;

use crate::fake::{Bench, Fault, QEMU, bench, stage_two, stream};

const CFGI_CD: u8 = 0x05;
const SYNC: u8 = 0x46;
const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };

/// 16-bit substreams with two-level tables.
const SUBSTREAMS: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 19, idr1: QEMU.idr1 | 16 << 6, ..QEMU };

fn context(asid: u16, table: u64) -> Context {
    Context {
        asid: Asid::new(asid),
        table,
        // T0SZ 16, write-back inner-shareable, 4K, IPS 44 bits.
        tcr: 16 | 1 << 8 | 1 << 10 | 3 << 12 | 4 << 32,
        mair: 0xff44,
        stalls: false,
        record: true,
        private: true,
        quiet: false,
    }
}

fn quiet() -> Context {
    Context { quiet: true, record: false, ..context(0, 0) }
}

/// The CD of a substream, found as hardware finds it.
fn cd(bench: &Bench, stream: u32, substream: u32) -> [u64; 8] {
    let ste = bench.fake.ste(stream);
    let pointer = ste[0] & 0x000f_ffff_ffff_ffc0;
    let first = if ste[0] >> 4 & 3 == 0 {
        pointer + u64::from(substream) * 64
    } else {
        let l1cd = bench.fake.word(pointer + u64::from(substream >> 10) * 8);
        assert_eq!(l1cd & 1, 1, "no leaf");
        (l1cd & !0xfff) + u64::from(substream & 0x3ff) * 64
    };
    std::array::from_fn(|word| bench.fake.word(first + 8 * word as u64))
}

fn prepared(bits: u8) -> (Bench, StreamId, SubstreamId) {
    let bench = bench(SUBSTREAMS);
    let (device, process) = (stream(4), SubstreamId::new(3));
    bench.smmu.create_contexts(device, bits, &PhysicalView).unwrap();
    bench.smmu.prepare_context(device, process, &PhysicalView).unwrap();
    bench.smmu.attach_contexts(device, None, DefaultSubstream::Zero, POLICY).unwrap();
    (bench, device, process)
}

#[test]
fn stage_1_alone_and_nested() {
    let (bench, device, _) = prepared(5);
    assert_eq!(bench.smmu.stream_state(device), StreamState::Stage1);
    let ste = bench.fake.ste(4);
    assert_eq!((ste[0] & 0x3f, ste[0] >> 59), (0b1011, 5));
    assert_eq!(ste[1] & 0xff, 0b1101_0110, "S1DSS 2, write-back, inner shareable");
    assert_eq!(ste[2] & 0xffff, 0, "no VM's VMID");
    bench
        .smmu
        .attach_contexts(device, Some(&stage_two(9)), DefaultSubstream::Bypass, POLICY)
        .unwrap();
    assert_eq!(bench.smmu.stream_state(device), StreamState::Nested);
    let nested = bench.fake.ste(4);
    assert_eq!((nested[0] & 0xf, nested[1] & 3, nested[2] & 0xffff), (0xf, 1, 9));
}

#[test]
fn linear_and_two_level_tables() {
    for (bits, format) in [(0, 0), (5, 0), (10, 0), (11, 2), (16, 2)] {
        let bench = bench(SUBSTREAMS);
        let device = stream(4);
        bench.smmu.create_contexts(device, bits, &PhysicalView).unwrap();
        bench.smmu.attach_contexts(device, None, DefaultSubstream::Terminate, POLICY).unwrap();
        let ste = bench.fake.ste(4);
        assert_eq!((ste[0] >> 4 & 3, ste[0] >> 59), (format, u64::from(bits)));
        let last = SubstreamId::new((1 << bits) - 1);
        assert_eq!(
            bench.smmu.write_context(device, last, Some(&context(1, 0x9000_0000))).is_ok(),
            format == 0,
            "a leaf must be prepared first"
        );
        bench.clear();
        bench.smmu.prepare_context(device, last, &PhysicalView).unwrap();
        if format == 2 {
            let commands = bench.fake.state().commands.clone();
            assert_eq!(commands[0][0], 4 << 32 | u64::from(last.get()) << 12 | 5);
            assert_eq!(commands[0][1], 0, "Leaf = 0: the L1CD may be cached as invalid");
        }
        bench.smmu.write_context(device, last, Some(&context(7, 0x9000_0000))).unwrap();
        let live = cd(&bench, 4, last.get());
        assert_eq!((live[0] >> 48, live[1]), (7, 0x9000_0000));
        let beyond = SubstreamId::new(1 << bits);
        assert_eq!(
            bench.smmu.prepare_context(device, beyond, &PhysicalView),
            Err(DriverError::Argument(Argument::Substream))
        );
    }
    let bench = bench(QEMU);
    assert_eq!(
        bench.smmu.create_contexts(stream(1), 1, &PhysicalView),
        Err(DriverError::Unsupported(Feature::Substreams))
    );
}

/// Quiesced: valid, walks off, nothing recorded, the ASID that nothing is cached under.
#[test]
fn quiesce_is_valid_and_translates_nothing() {
    let (bench, device, process) = prepared(5);
    bench.smmu.write_context(device, process, Some(&context(7, 0x9000_0000))).unwrap();
    bench.clear();
    bench.smmu.write_context(device, process, Some(&quiet())).unwrap();
    let words = cd(&bench, 4, 3);
    assert_eq!(words[0] >> 31 & 1, 1, "V");
    assert_eq!(words[0] >> 14 & 1, 1, "EPD0");
    assert_eq!(words[0] >> 44 & 3, 0, "S and R");
    assert_eq!((words[0] >> 48, words[1]), (0, 0));
    assert_eq!(bench.opcodes(), [CFGI_CD, SYNC, CFGI_CD, SYNC]);
}

/// Rebinding to another process, straight or through a quiet context, never shows an invalid CD.
#[test]
fn rebinding_is_never_a_bad_cd() {
    for through_quiet in [false, true] {
        let (bench, device, process) = prepared(5);
        bench.smmu.write_context(device, process, Some(&context(7, 0x9000_0000))).unwrap();
        // The fake looks at the CD at each CFGI_CD, as hardware would fetch it again.
        bench.fake.state().watch_cd = Some((4, 3));
        if through_quiet {
            bench.smmu.write_context(device, process, Some(&quiet())).unwrap();
        }
        let next = Context { mair: 0x44ff, ..context(8, 0xa000_0000) };
        bench.smmu.write_context(device, process, Some(&next)).unwrap();
        let words = cd(&bench, 4, 3);
        assert_eq!((words[0] >> 48, words[1], words[3]), (8, 0xa000_0000, 0x44ff));
        let seen = bench.fake.state().seen_cds.clone();
        assert!(!seen.is_empty());
        for image in seen {
            assert_eq!(image[0] >> 31 & 1, 1, "{image:x?}");
            let walks = image[0] >> 14 & 1 == 0;
            let old = (image[0] >> 48, image[1]) == (7, 0x9000_0000);
            let new = (image[0] >> 48, image[1]) == (8, 0xa000_0000);
            assert!(!walks || old || new, "a mixture translates: {image:x?}");
        }
    }
}

#[test]
fn clearing_and_destroying() {
    let (bench, device, process) = prepared(16);
    bench.smmu.write_context(device, process, Some(&context(7, 0x9000_0000))).unwrap();
    bench.smmu.write_context(device, process, None).unwrap();
    assert_eq!(cd(&bench, 4, 3), [0; 8]);
    assert_eq!(
        bench.smmu.destroy_contexts(device, &PhysicalView),
        Err(DriverError::State(device)),
        "its entry uses it"
    );
    bench.smmu.detach(device).unwrap();
    let before = bench.frames.footprint();
    bench.clear();
    bench.smmu.destroy_contexts(device, &PhysicalView).unwrap();
    assert!(bench.opcodes().contains(&0x06), "CFGI_CD_ALL before the memory is reused");
    let after = bench.frames.footprint();
    assert_eq!(before.dma - after.dma, 16 + 1);
    assert_eq!(after.free - before.free, 16 + 1);
    assert_eq!(bench.smmu.destroy_contexts(device, &PhysicalView), Err(DriverError::State(device)));
}

/// A create that fails leaves no frame behind.
#[test]
fn a_failed_create_leaves_the_footprint() {
    struct Refusing;
    impl palisade_iommu::ContextView for Refusing {
        fn publish(
            &self,
            _: palisade_hal::PhysAddr,
            _: usize,
            _: usize,
        ) -> Result<u64, DriverError> {
            Err(DriverError::NoMemory)
        }
        fn withdraw(&self, _: u64, _: usize) -> Result<(), DriverError> {
            Ok(())
        }
    }
    let bench = bench(SUBSTREAMS);
    for bits in [5, 16] {
        let before = bench.frames.footprint();
        assert_eq!(
            bench.smmu.create_contexts(stream(4), bits, &Refusing),
            Err(DriverError::NoMemory)
        );
        assert_eq!(bench.frames.footprint(), before);
        assert_eq!(
            bench.smmu.attach_contexts(stream(4), None, DefaultSubstream::Zero, POLICY),
            Err(DriverError::State(stream(4)))
        );
    }
}

/// Memory that the SMMU may still read is not reused.
#[test]
fn an_unconfirmed_destroy_quarantines() {
    let (bench, device, _) = prepared(5);
    bench.smmu.detach(device).unwrap();
    let before = bench.frames.footprint();
    bench.inject(Fault::Stop { opcode: 0x06 });
    assert!(bench.smmu.destroy_contexts(device, &PhysicalView).is_err());
    let after = bench.frames.footprint();
    assert_eq!(after.quarantined, before.quarantined + 1);
    assert_eq!(after.free, before.free);
}

#[test]
fn context_arguments() {
    let (bench, device, process) = prepared(5);
    let good = context(7, 0x9000_0000);
    for (bad, error) in [
        (Context { tcr: good.tcr & !0x3f | 12, ..good }, DriverError::Argument(Argument::T0sz)),
        (Context { tcr: good.tcr | 3 << 14, ..good }, DriverError::Argument(Argument::Granule)),
        (Context { table: 0x9000_0008, ..good }, DriverError::Argument(Argument::Root)),
        (Context { tcr: good.tcr | 7 << 32, ..good }, DriverError::Argument(Argument::Ips)),
        (
            Context { tcr: good.tcr | 1 << 39, ..good },
            DriverError::Unsupported(Feature::HardwareUpdate),
        ),
        (Context { stalls: true, ..good }, DriverError::Unsupported(Feature::Stall)),
    ] {
        assert_eq!(bench.smmu.write_context(device, process, Some(&bad)), Err(error));
    }
    assert_eq!(cd(&bench, 4, 3), [0; 8]);
}

/// Stall model 2: every CD stalls and records, a quiesced one too.
#[test]
fn forced_stalls() {
    let id = IdRegisters { idr0: SUBSTREAMS.idr0 & !(3 << 24) | 2 << 24, ..SUBSTREAMS };
    let bench = bench(id);
    let (device, process) = (stream(4), SubstreamId::new(0));
    bench.smmu.create_contexts(device, 2, &PhysicalView).unwrap();
    bench.smmu.attach_contexts(device, None, DefaultSubstream::Zero, POLICY).unwrap();
    for context in [context(1, 0x9000_0000), quiet()] {
        bench.smmu.write_context(device, process, Some(&context)).unwrap();
        assert_eq!(cd(&bench, 4, 0)[0] >> 44 & 3, 3, "S and R");
    }
    assert_eq!(bench.fake.ste(4)[1] >> 27 & 1, 0, "S1STALLD is illegal here");
}
