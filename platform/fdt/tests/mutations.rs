//! Corrupted blobs: whatever a byte is turned into, reading ends without a
//! panic, with a board or with a typed error.

use std::panic::{AssertUnwindSafe, catch_unwind};

use palisade_fdt::{FaultKind, MAX_SIZE, Tree, board, compact, validate};

const GIC3: &[u8] = include_bytes!("virt-gic3.dtb");
const GIC2: &[u8] = include_bytes!("virt-gic2.dtb");

/// Reads everything that can be read; answers whether a board came of it.
fn read(bytes: &[u8]) -> bool {
    let Ok(tree) = Tree::new(bytes) else { return false };
    let _ = tree.device("/pl031@9010000", 0x8005);
    match board(&tree) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn must_not_panic(bytes: &[u8], what: &str) -> bool {
    match catch_unwind(AssertUnwindSafe(|| read(bytes))) {
        Ok(read) => read,
        Err(_) => panic!("{what}: the reader panicked"),
    }
}

#[test]
fn the_originals_are_readable() {
    assert!(read(GIC3) && read(GIC2));
}

#[test]
fn every_truncation() {
    for length in 0..GIC3.len() {
        assert!(!must_not_panic(&GIC3[..length], &format!("cut to {length}")));
    }
}

/// Flips bits in every byte; answers how many of the blobs were refused.
fn flipped(mask: u8) -> usize {
    let mut bytes = GIC3.to_vec();
    let mut refused = 0;
    for at in 0..bytes.len() {
        bytes[at] ^= mask;
        refused += usize::from(!must_not_panic(&bytes, &format!("byte {at:#x} ^ {mask:#x}")));
        bytes[at] ^= mask;
    }
    refused
}

#[test]
fn every_byte_inverted() {
    // A validator that accepted everything would be no validator.
    assert!(flipped(0xff) > GIC3.len() / 4);
}

#[test]
fn every_lowest_bit_flipped() {
    assert!(flipped(0x01) > GIC3.len() / 16);
}

#[test]
fn every_word_replaced() {
    let mut bytes = GIC2.to_vec();
    for at in (0..bytes.len() - 4).step_by(4) {
        let old: [u8; 4] = bytes[at..at + 4].try_into().expect("four");
        for new in [0u32, 0xffff_ffff] {
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            must_not_panic(&bytes, &format!("word {at:#x} is {new:#x}"));
        }
        bytes[at..at + 4].copy_from_slice(&old);
    }
}

#[test]
fn random_damage() {
    // xorshift64*, fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    };
    for round in 0..800 {
        let mut bytes = if round % 2 == 0 { GIC3.to_vec() } else { GIC2.to_vec() };
        for _ in 0..1 + random() % 6 {
            let at = random() as usize % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => {
                    let to = random() as usize % bytes.len();
                    let length = (random() as usize % 64).min(bytes.len() - at.max(to));
                    bytes.copy_within(at..at + length, to);
                }
                _ => {
                    let end = (at + random() as usize % 32).min(bytes.len());
                    bytes[at..end].fill(0);
                }
            }
        }
        must_not_panic(&bytes, &format!("round {round}"));
        let mut compacted = bytes.clone();
        let _ = compact(&mut compacted);
        must_not_panic(&compacted, &format!("round {round}, compacted"));
    }
}

#[test]
fn oversized_is_refused_before_it_is_walked() {
    let mut bytes = GIC3.to_vec();
    bytes[4..8].copy_from_slice(&(MAX_SIZE as u32 + 1).to_be_bytes());
    bytes.resize(MAX_SIZE + 1, 0);
    assert_eq!(validate(&bytes).map_err(|fault| fault.kind), Err(FaultKind::Oversized));
}

#[test]
fn atags_are_no_device_tree() {
    // ATAG_CORE: size 5 words, tag 0x54410001.
    let atags = [5u32, 0x5441_0001, 0, 0, 0, 0, 0].map(u32::to_le_bytes).concat();
    assert_eq!(validate(&atags).map_err(|fault| fault.kind), Err(FaultKind::Magic));
}

#[test]
fn deleted_entries_are_refused_until_compacted() {
    let mut bytes = GIC3.to_vec();
    // Turn the first property (after the root's BEGIN_NODE and empty name) into
    // NOPs, as firmware does.
    let structure = u32::from_be_bytes(bytes[8..12].try_into().expect("four")) as usize;
    let at = structure + 8;
    let length = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().expect("four")) as usize;
    for word in 0..(12 + length.next_multiple_of(4)) / 4 {
        bytes[at + 4 * word..at + 4 * word + 4].copy_from_slice(&4u32.to_be_bytes());
    }
    assert_eq!(validate(&bytes).map_err(|fault| fault.kind), Err(FaultKind::Nop));
    compact(&mut bytes).expect("walks");
    validate(&bytes).expect("clean now");
    let tree = Tree::new(&bytes).expect("valid");
    assert!(tree.node("/cpus/cpu@3").is_some(), "the last node is still there");
}
