//! Damaged tables: whatever a byte is turned into, reading ends without a panic, with a board or
//! with a typed error, and within a bound.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{Memory, RSDP, firmware, sum, virt};
use palisade_acpi::{Fault, Physical, tree};
use palisade_board::{MAX_CPUS, MAX_MEMORY, MAX_NOTES, MAX_PCIE, MAX_SMMUS};

/// How many in the ordinary mode.
const ROUNDS: u64 = 60_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// What firmware gets wrong, more often than anything else.
    fn number(&mut self) -> u32 {
        match self.next() % 6 {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << self.below(32),
            3 => self.next() as u32 & 0xff,
            4 => (1u32 << self.below(32)).wrapping_sub(1),
            _ => self.next() as u32,
        }
    }
}

/// What became of the machines.
#[derive(Default)]
struct Tally {
    boards: u64,
    noted: u64,
    errors: std::collections::BTreeMap<&'static str, u64>,
}

fn look(memory: &Memory, what: &str, tally: &mut Tally) {
    let boards = tally.boards;
    let read = AssertUnwindSafe(|| {
        common::read(memory, |board| match board {
            Ok(board) => {
                assert!(board.memory.len() <= MAX_MEMORY && board.cpus.len() <= MAX_CPUS);
                assert!(board.pcie.len() <= MAX_PCIE && board.smmus.len() <= MAX_SMMUS);
                assert!(board.notes.len() <= MAX_NOTES);
                board.notes.iter().for_each(|note| assert!(!note.to_string().is_empty()));
                // What can be read can be written down, or is refused by name. Every fourth.
                if boards.is_multiple_of(4)
                    && let Ok(blob) = tree(&board)
                {
                    let tree = palisade_fdt::Tree::new(&blob).expect("a valid tree");
                    let back = palisade_fdt::board(&tree).expect("readable");
                    assert_eq!((back.cpus, back.smmus), (board.cpus, board.smmus));
                }
                Ok(board.notes.len())
            }
            Err(error) => {
                assert!(error.to_string().starts_with("ACPI "), "{error}");
                Err(match error.fault {
                    Fault::Missing => "missing",
                    Fault::Unreadable(_) => "unreadable",
                    Fault::Signature => "signature",
                    Fault::Checksum => "checksum",
                    Fault::Length(_) => "length",
                    Fault::TooMany(_) => "too many",
                    Fault::Revision(_) => "revision",
                    Fault::Value(_) => "value",
                })
            }
        })
    });
    match catch_unwind(read) {
        Ok(Ok(notes)) => {
            tally.boards += 1;
            tally.noted += u64::from(notes != 0);
        }
        Ok(Err(fault)) => *tally.errors.entry(fault).or_default() += 1,
        Err(_) => panic!("{what}: the reader panicked"),
    }
}

/// Damages a piece of memory, and makes its sum right again more often than not: what is
/// checksummed is not yet true.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.next() % 6 {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => {
                let at = at & !3;
                let number = random.number().to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            3 => {
                let to = random.below(bytes.len());
                let length = random.below(64).min(bytes.len() - at.max(to));
                bytes.copy_within(at..at + length, to);
            }
            4 => bytes.truncate(at.max(1)),
            _ => {
                let number = random.number().to_le_bytes();
                if bytes.len() >= 8 {
                    bytes[4..8].copy_from_slice(&number);
                }
            }
        }
    }
    let length = bytes.len();
    if !random.next().is_multiple_of(8) && length >= 36 {
        if bytes.starts_with(b"RSD PTR ") {
            sum(&mut bytes[..20], 8);
            sum(bytes, 32);
        } else {
            if !random.next().is_multiple_of(8) {
                bytes[4..8].copy_from_slice(&(length as u32).to_le_bytes());
            }
            sum(bytes, 9);
        }
    }
}

#[test]
fn random_damage() {
    // Beside QEMU's, a machine with everything that is made by hand.
    let mut rich = common::virt_but(
        b"IORT",
        Some(common::iort(&[
            common::group(&[0]),
            common::smmu(0x5000_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
            common::smmu(0x5100_0000, 0, &[(0, 0xffff, 0, 0, 0)]),
            common::root(0, &[(0, 0x1ff, 0, 1, 0), (0x200, 0x3ff, 0x200, 2, 0)]),
            common::root(1, &[(0, 0x1_0000, 0, 2, 0)]),
            common::named("\\_SB_.ETH0", &[(0, 0, 3, 1, 1)]),
            common::rmr(&[(0x7000_0000, 0x1000)], &[(0, 0, 0x108, 1, 1)]),
        ])),
    );
    rich.retain(|table| &table[..4] != b"MCFG");
    rich.push(common::mcfg(&[(0x40_1000_0000, 0, 0, 255), (0x50_0000_0000, 1, 0, 255)]));
    let machines = [firmware(&virt()), firmware(&rich)];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        let mut memory = machines[usize::from(round % 2 != 0)].clone();
        let piece = random.below(memory.0.len());
        damage(&mut memory.0[piece].1, &mut random);
        look(&memory, &format!("round {round}"), &mut tally);
    }
    let refused: u64 = tally.errors.values().sum();
    assert_eq!(tally.boards + refused, ROUNDS);
    // A reader that accepted everything, or nothing, or knew no notes, would show nothing.
    assert!(tally.boards > ROUNDS / 5 && refused > ROUNDS / 5, "{} {refused}", tally.boards);
    assert!(tally.noted > ROUNDS / 20, "{}", tally.noted);
    let kinds: Vec<_> = tally.errors.keys().copied().collect();
    let all = [
        "checksum",
        "length",
        "missing",
        "revision",
        "signature",
        "too many",
        "unreadable",
        "value",
    ];
    assert_eq!(kinds, all);
}

#[test]
fn every_truncation_of_every_table() {
    let memory = firmware(&virt());
    let mut tally = Tally::default();
    for piece in 0..memory.0.len() {
        for length in 0..memory.0[piece].1.len() {
            let mut cut = memory.clone();
            cut.0[piece].1.truncate(length);
            look(&cut, &format!("piece {piece} cut to {length}"), &mut tally);
        }
    }
    assert_eq!(tally.boards, 0, "every one of them is read to its end");
}

/// Counts what the reader asks of memory: the work is bounded by what it is given.
struct Counted<'m>(&'m Memory, std::cell::Cell<u64>);

impl Physical for Counted<'_> {
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.1.set(self.1.get() + 1);
        self.0.bytes(address, length)
    }
}

#[test]
fn tables_that_name_each_other_end() {
    // An XSDT whose every entry is itself.
    let xsdt = RSDP + 0x1_0000;
    let entries: Vec<u8> = (0..256).flat_map(|_| xsdt.to_le_bytes()).collect();
    let mut memory = Memory::default();
    memory.0.push((xsdt, common::table(b"XSDT", &entries)));
    memory.0.push((RSDP, common::pointer(xsdt)));
    let counted = Counted(&memory, std::cell::Cell::new(0));
    palisade_acpi::Tables::new(&counted, RSDP).expect("empty, but well formed");
    assert_eq!(counted.1.get(), 2 + 2 + 256);
}

#[test]
fn the_largest_iort_is_read_in_time() {
    // As many mappings as a node may have, through an SMMU with as many: each pair is looked at.
    let ways: Vec<common::Map> = (0..512).map(|n| (n * 2, 0, n * 2, 1, 0)).collect();
    let onward: Vec<common::Map> = (0..512).map(|n| (n * 2, 0, n, 0, 0)).collect();
    let nodes =
        [common::group(&[0]), common::smmu(0x5000_0000, 0, &onward), common::root(0, &ways)];
    common::good(&common::virt_but(b"IORT", Some(common::iort(&nodes))), |board| {
        assert_eq!(board.pcie[0].iommu_map.entries.len(), palisade_board::MAX_ID_MAP);
        assert!(common::notes(&board).iter().any(|note| note.contains("more than 32")));
    });
}
