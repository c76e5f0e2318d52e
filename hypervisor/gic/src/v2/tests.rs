//! The driver against registers that are an array of words.
use alloc::{sync::Arc, vec, vec::Vec};

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{
    fake::{Device, Width},
    mmio::Mmio,
};

use super::{GicV2, GicV2Regions};
use crate::{Ack, Gic, GicError, ListRegister, LrState};

struct Words(Mutex<Vec<u64>>);

impl Device for Words {
    fn read(&self, offset: u64, _: Width) -> u64 {
        self.0.lock()[offset as usize]
    }
    fn write(&self, offset: u64, _: Width, value: u64) {
        self.0.lock()[offset as usize] = value;
    }
}

fn device(bytes: u64) -> (Arc<Words>, Mmio) {
    let words = Arc::new(Words(Mutex::new(Rank::Fake, vec![0; bytes as usize])));
    (words.clone(), Mmio::fake(words, bytes))
}

#[test]
fn the_source_core_survives_from_acknowledge_to_end() {
    let (gicd, distributor) = device(0x1000);
    let (gicc, cpu) = device(0x2000);
    let (gich, control) = device(0x200);
    gicd.0.lock()[4] = 5;
    gicd.0.lock()[0x800] = 0x0202_0202;
    gich.0.lock()[4] = 3;
    let gic = GicV2::new(GicV2Regions { distributor, cpu, control }).unwrap();
    gic.init_cpu(1, 1).unwrap();
    assert_eq!(gic.list_registers(), 4);

    gicc.0.lock()[0xc] = 3 << 10 | 1;
    let ack = gic.acknowledge().unwrap();
    assert_eq!(ack.intid(), 1);
    gic.priority_drop(ack);
    gic.deactivate(ack);
    assert_eq!(gicc.0.lock()[0x10], 0xc01);
    assert_eq!(gicc.0.lock()[0x1000], 0xc01);
    gicc.0.lock()[0xc] = 1023;
    assert_eq!(gic.acknowledge(), None);

    gic.send_sgi(1, 4);
    assert_eq!(gicd.0.lock()[0xf00], 2 << 16 | 4);
    gic.send_sgi(0, 5);
    assert_eq!(gicd.0.lock()[0xf00], 2 << 16 | 4, "an unknown core is sent nothing");

    gic.route(40, 1).unwrap();
    assert_eq!(gicd.0.lock()[0x800 + 40], 2);
    assert_eq!(gic.route(400, 1), Err(GicError::NoSuchInterrupt(400)));

    let lr = ListRegister {
        intid: 33,
        priority: 0x80,
        state: LrState::Pending,
        ..ListRegister::default()
    };
    gic.write_lr(2, lr);
    assert_eq!(gic.read_lr(2), lr);
    gic.reset_virtual();
    assert_eq!(gic.read_lr(2), ListRegister::default());
}

#[test]
fn a_large_interrupt_number_of_version_three_is_kept_whole() {
    assert_eq!(Ack::from_raw(8192).intid(), 8192);
    assert_eq!(Ack::from_raw(0xc01).intid(), 1);
}
