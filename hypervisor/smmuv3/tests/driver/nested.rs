//! What a guest may say, field by field and command by command.

use palisade_hal::{StreamId, Vmid};
use palisade_iommu::{DriverError, IommuDriver, Refusal, StreamPolicy, StreamState};
use palisade_smmuv3::IdRegisters;

use crate::fake::{QEMU, bare, bench, options, stage_two, stream};

const POLICY: StreamPolicy = StreamPolicy { ats: false, stalls: false };
const SUBSTREAMS: IdRegisters =
    IdRegisters { idr0: QEMU.idr0 | 1 << 19, idr1: QEMU.idr1 | 16 << 6, ..QEMU };

fn refused<T>(word: u8, reason: Refusal) -> Result<T, DriverError> {
    Err(DriverError::Refused { word, reason })
}

/// The guest's Config is mapped, never copied: its bypass is our stage 2.
#[test]
fn config_is_mapped() {
    for (config, valid, expected) in [
        (0b000, 1, StreamState::Abort),
        (0b101, 0, StreamState::Abort),
        (0b100, 1, StreamState::Stage2),
        (0b101, 1, StreamState::Nested),
    ] {
        let bench = bench(SUBSTREAMS);
        let words = [valid | config << 1 | 0x4000_0000, 0, 0, 0, 0, 0, 0, 0];
        let state = bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &words);
        assert_eq!(state, Ok(expected));
        assert_eq!(bench.smmu.stream_state(stream(1)), expected);
    }
    for config in [0b001, 0b010, 0b011, 0b110, 0b111] {
        let bench = bench(SUBSTREAMS);
        bench.smmu.attach(stream(1), &stage_two(3), POLICY).unwrap();
        let words = [1 | config << 1, 0, 0, 0, 0, 0, 0, 0];
        let state = bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &words);
        assert_eq!(state, refused(0, Refusal::Configuration));
        assert_eq!(bench.smmu.stream_state(stream(1)), StreamState::Stage2, "as it was");
    }
}

/// Every bit a guest can set: only the named stage 1 fields reach the physical entry.
#[test]
fn no_other_bit_passes() {
    let bench = bench(SUBSTREAMS);
    let minimal = [0b1011, 0, 0, 0, 0, 0, 0, 0];
    bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &minimal).unwrap();
    let base = bench.fake.ste(1);
    // S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH.
    let allowed = [0xf80f_ffff_ffff_fff0, 0xff, 0, 0, 0, 0, 0, 0];
    for word in 0..8 {
        for bit in 0..64 {
            if word == 0 && bit < 4 {
                continue;
            }
            let mut words = minimal;
            words[word] |= 1 << bit;
            if bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &words).is_err() {
                continue;
            }
            let ste = bench.fake.ste(1);
            for at in 0..8 {
                let changed = (ste[at] ^ base[at]) & !allowed[at];
                assert_eq!(changed, 0, "guest bit {bit} of word {word} changed word {at}");
            }
        }
    }
    assert_eq!(base[1] >> 28 & 3, 0, "EATS");
    assert_eq!(base[1] >> 19 & 1, 1, "MEV");
    assert_eq!(base[2] & 0xffff, 3, "VMID");
}

#[test]
fn malformed_tables_are_refused() {
    let bench = bench(SUBSTREAMS);
    let nested = |q0: u64, q1: u64| {
        let words = [0b1011 | q0, q1, 0, 0, 0, 0, 0, 0];
        bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &words)
    };
    assert_eq!(nested(17 << 59, 0), refused(0, Refusal::Field), "more substreams than there are");
    assert_eq!(nested(5 << 59 | 3 << 4, 0), refused(0, Refusal::Field), "reserved format");
    assert_eq!(nested(5 << 59 | 0x40, 0), refused(0, Refusal::Field), "misaligned table");
    assert_eq!(nested(1 << 41, 0), refused(0, Refusal::Field), "outside the IPA space");
    assert_eq!(nested(5 << 59 | 0x4000_0000, 3), refused(1, Refusal::Field), "reserved S1DSS");
    assert!(nested(5 << 59 | 0x4000_0000, 2).is_ok());
    assert!(nested(16 << 59 | 2 << 4 | 0x4000_0000, 0).is_ok());
}

/// Virtual stream 8 is one physical stream, 16 is two.
fn virtual_streams(number: u32, nth: usize) -> Option<StreamId> {
    let streams: &[u32] = match number {
        8 => &[0x108],
        16 => &[0x110, 0x111],
        _ => &[],
    };
    streams.get(nth).copied().map(StreamId::new)
}

/// Each command is rebuilt with the guest's VMID and the physical stream.
#[test]
fn commands_are_rebuilt() {
    let bench = bench(SUBSTREAMS);
    let vmid = Vmid::new(3);
    let other_vmid = 0x77 << 32;
    for (guest, physical) in [
        ([0x30, 0], [3 << 32 | 0x10, 0]),
        ([0x10 | other_vmid, 0], [3 << 32 | 0x10, 0]),
        ([0x11 | other_vmid | 5 << 48, 0], [5 << 48 | 3 << 32 | 0x11, 0]),
        ([0x12 | other_vmid | 5 << 48, 0x1000 | 1], [5 << 48 | 3 << 32 | 0x12, 0x1001]),
        ([0x13 | other_vmid, 0x1000], [3 << 32 | 0x13, 0x1000]),
        ([0x05 | 8 << 32 | 2 << 12, 1], [0x108 << 32 | 2 << 12 | 0x05, 1]),
        ([0x06 | 8 << 32, 0], [0x108 << 32 | 0x06, 0]),
        // A well-formed range: 4K, 3 + 1 pages.
        ([0x13 | 3 << 12, 0x1000 | 1 << 10], [3 << 32 | 0x13 | 3 << 12, 0x1000 | 1 << 10]),
    ] {
        bench.clear();
        assert_eq!(bench.smmu.cache_invalidate(vmid, &virtual_streams, &[guest]), Ok(1));
        assert_eq!(bench.fake.state().commands[0], physical, "{guest:x?}");
        assert_eq!(bench.opcodes().len(), 2, "one sync");
    }
}

/// A name that stands for several streams is one command for each, and counts once.
#[test]
fn commands_reach_every_stream_of_a_name() {
    let bench = bench(SUBSTREAMS);
    let words = [[0x06 | 16 << 32, 0], [0x30, 0], [0x05 | 16 << 32 | 2 << 12, 1]];
    let done = bench.smmu.cache_invalidate(Vmid::new(3), &virtual_streams, &words);
    assert_eq!(done, Ok(3));
    let commands = bench.fake.state().commands.clone();
    let named: Vec<u64> = commands
        .iter()
        .filter(|command| matches!(command[0] as u8, 0x05 | 0x06))
        .map(|command| command[0] & !0xfff_f000)
        .collect();
    assert_eq!(
        named,
        [0x110 << 32 | 6, 0x111 << 32 | 6, 0x110 << 32 | 5, 0x111 << 32 | 5],
        "{commands:x?}"
    );
}

/// What is refused, and that what came before it is done.
#[test]
fn commands_are_refused_with_the_number_done() {
    let bench = bench(SUBSTREAMS);
    let good = [0x30, 0];
    for (bad, word, reason) in [
        ([0x28, 0], 0, Refusal::Opcode),
        ([0x2a, 0], 0, Refusal::Opcode),
        ([0x20, 0], 0, Refusal::Opcode),
        ([0x03 | 8 << 32, 1], 0, Refusal::Opcode),
        ([0x04, 31], 0, Refusal::Opcode),
        ([0x46, 0], 0, Refusal::Opcode),
        ([0x44 | 8 << 32, 0], 0, Refusal::Opcode),
        ([0xff, 0], 0, Refusal::Opcode),
        ([0x40 | 8 << 32, 0], 0, Refusal::Opcode),
        ([0x06 | 9 << 32, 0], 0, Refusal::Stream),
        ([0x06 | 8 << 32 | 1 << 10, 0], 0, Refusal::Field),
        ([0x05 | 8 << 32 | 1 << 31, 1], 0, Refusal::Field),
        // TG without range or level is reserved, and so is a level hint the address contradicts.
        ([0x13, 0x1000 | 1 << 10], 1, Refusal::Field),
        ([0x13, 0x1000 | 1 << 10 | 2 << 8], 1, Refusal::Field),
        ([0x13 | 1 << 12, 0x1000], 1, Refusal::Field),
    ] {
        bench.clear();
        let words = [good, good, bad, good];
        let result = bench.smmu.cache_invalidate(Vmid::new(3), &virtual_streams, &words);
        assert_eq!(result, Err((2, DriverError::Refused { word, reason })), "{bad:x?}");
        assert_eq!(bench.opcodes(), [0x10, 0x10, 0x46], "the first two are done and synced");
    }
}

/// Any words at all: an answer, never a panic, and never another VMID or stream.
#[test]
fn random_words() {
    let bench = bench(SUBSTREAMS);
    bench.smmu.prepare(stream(1)).unwrap();
    let mut state = 42u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let opcodes = [0x30, 0x10, 0x11, 0x12, 0x13, 0x05, 0x06, 0x40, 0x2a, 0x46];
        let low = opcodes[(next() % 10) as usize];
        let mut word = next() & !0xff | low;
        if next() % 2 == 0 {
            word = word & 0xffff_ffff | 8 << 32;
        }
        bench.clear();
        let _ = bench.smmu.cache_invalidate(Vmid::new(3), &virtual_streams, &[[word, next()]]);
        for command in &bench.fake.state().commands {
            match command[0] as u8 {
                0x10..=0x13 => assert_eq!(command[0] >> 32 & 0xffff, 3),
                0x05 | 0x06 => assert_eq!(command[0] >> 32, 0x108),
                0x46 => {}
                other => panic!("{other:#x} reached the queue"),
            }
        }
        let ste: [u64; 8] = std::array::from_fn(|_| next() & next());
        let _ = bench.smmu.attach_nested(stream(1), &stage_two(3), POLICY, &ste);
        let live = bench.fake.ste(1);
        assert!(matches!(live[0] >> 1 & 7, 0 | 6 | 7), "Config {live:x?}");
    }
}

/// An SMMU that a guest's tables and queues cannot be kept coherent for, or that does not nest, is
/// shown to no guest.
#[test]
fn only_a_coherent_smmu_that_nests_is_shown() {
    let shown = |idr0: u32| {
        let bench = bare(IdRegisters { idr0, ..QEMU }).bring_up(options());
        bench.smmu.guest_identity(39).is_some()
    };
    let (coherent, stage1) = (1 << 4, 1 << 1);
    assert!(shown(QEMU.idr0 | stage1 | 1));
    assert!(!shown((QEMU.idr0 | stage1 | 1) & !coherent));
    assert!(!shown((QEMU.idr0 | 1) & !stage1));
}
