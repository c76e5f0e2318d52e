//! The driver against a distributor that is an array of words.
use alloc::{sync::Arc, vec, vec::Vec};

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{
    fake::{Device, Width},
    mmio::Mmio,
};

use super::{GicV3, registers::*};
use crate::{Gic, GicError, Trigger};

/// Remembers the last store to every offset; RWP is never set unless `stuck`.
struct Words {
    words: Mutex<Vec<u64>>,
    stuck: bool,
}

impl Device for Words {
    fn read(&self, offset: u64, _: Width) -> u64 {
        match (self.stuck, offset) {
            (true, 0) => 1 << 31,
            _ => self.words.lock()[offset as usize],
        }
    }
    fn write(&self, offset: u64, _: Width, value: u64) {
        self.words.lock()[offset as usize] = value;
    }
}

fn device(bytes: u64, stuck: bool) -> (Arc<Words>, Mmio) {
    let words = Arc::new(Words { words: Mutex::new(Rank::Fake, vec![0; bytes as usize]), stuck });
    (words.clone(), Mmio::fake(words, bytes))
}

/// A distributor with 96 interrupts and redistributors for affinities 0, 1 and 0x100.
fn board() -> (Arc<Words>, Arc<Words>, GicV3) {
    let (gicd, distributor) = device(FRAME, false);
    gicd.words.lock()[4] = 2;
    let (gicr, redistributor) = device(6 * FRAME, false);
    for (index, affinity) in [0u64, 1, 0x100].into_iter().enumerate() {
        let last = u64::from(index == 2) << 4;
        gicr.words.lock()[index * 2 * FRAME as usize + 8] = affinity << 32 | last;
    }
    let gic = GicV3::new(distributor, vec![redistributor]).unwrap();
    (gicd, gicr, gic)
}

#[test]
fn a_distributor_that_never_settles_is_an_error() {
    let (_, distributor) = device(FRAME, true);
    assert_eq!(GicV3::new(distributor, vec![]).err(), Some(GicError::TimedOut(0)));
}

#[test]
fn a_core_finds_its_own_redistributor() {
    let (_, gicr, gic) = board();
    gic.init_cpu(0, 0x8000_0100).unwrap();
    palisade_hal::fake::cpu::set_affinity(0x100);
    gic.set_enabled(27, true).unwrap();
    let second_frame = 5 * FRAME as usize;
    assert_eq!(gicr.words.lock()[second_frame + 0x100], 1 << 27);
    assert_eq!(gic.init_cpu(1, 7), Err(GicError::NoRedistributor(7)));
}

#[test]
fn shared_interrupts_are_bounded_routed_and_configured() {
    let (gicd, _, gic) = board();
    gic.init_cpu(3, 1).unwrap();
    assert_eq!(gic.set_enabled(96, true), Err(GicError::NoSuchInterrupt(96)));
    assert_eq!(gic.route(40, 2), Err(GicError::NoSuchCore(2)));
    gic.route(40, 3).unwrap();
    gic.configure(40, Trigger::Edge, 0x80).unwrap();
    gic.set_enabled(40, true).unwrap();
    let words = gicd.words.lock();
    assert_eq!(words[0x6000 + 320], 1);
    assert_eq!(words[0xc08], 2 << 16);
    assert_eq!(words[0x400 + 40], 0x80);
    assert_eq!(words[0x104], 1 << 8);
    assert_eq!(words[0], 0x13, "affinity routing and group 1");
}
