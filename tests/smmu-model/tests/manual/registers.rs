//! Chapter 6: register semantics.

use crate::bench::Bench;
use palisade_smmu_model::{Access, DriverFault, Features, Outcome};

#[test]
fn a_clean_bring_up_is_no_fault() {
    for seed in 0..50 {
        Bench::new(Features::default(), seed).clean();
        Bench::new(Features::minimal(), seed).clean();
    }
}

#[test]
fn cr0ack_follows_late_and_fields_in_flux_are_read_only() {
    let mut late = 0;
    for seed in 0..20 {
        let mut bench = Bench::cold(Features::default(), seed);
        bench.write64(0x90, crate::bench::CMDQ | 4);
        bench.write32(0x98, 0);
        bench.write32(0x9c, 0);
        bench.write32(0x20, 1 << 3);
        assert_eq!(bench.read32(0x24), 0);
        bench.write32(0x20, 0);
        assert_eq!(
            bench.model.take_driver_faults(),
            [DriverFault::UpdateInProgress { offset: 0x20, bits: 1 << 3 }]
        );
        bench.model.step();
        late += u32::from(bench.read32(0x24) == 0);
        bench.poll(0x24, 1 << 3, 1 << 3);
    }
    assert!(late > 0);
}

#[test]
fn gbpa_needs_update_in_the_same_store() {
    let mut bench = Bench::cold(Features::default(), 1);
    bench.write32(0x44, 1 << 20);
    assert_eq!(bench.model.take_driver_faults(), [DriverFault::GbpaUpdate { value: 1 << 20 }]);
    assert_eq!(bench.read32(0x44), 0);
    let through = bench.model.transaction(9, None, 0x5000, Access::Read);
    assert_eq!(through, Outcome::Done { pa: 0x5000, data: 0 });
    bench.write32(0x44, 1 << 31 | 1 << 20);
    bench.poll(0x44, 1 << 31, 0);
    let stopped = bench.model.transaction(9, None, 0x5000, Access::Read);
    assert_eq!(stopped, Outcome::Aborted { event: None });
    bench.clean();
}

#[test]
fn bases_are_write_protected_while_enabled() {
    let mut bench = Bench::new(Features::default(), 3);
    for offset in [0x80u64, 0x90, 0xa0, 0xc0] {
        let before = bench.model.mmio_read(offset, 8);
        bench.write64(offset, 0x4000);
        assert_eq!(bench.model.mmio_read(offset, 8), before);
        assert_eq!(bench.model.take_driver_faults(), [DriverFault::WrittenWhileEnabled { offset }]);
    }
    for offset in [0x88u64, 0x9c, 0x1_00a8, 0x1_00c8, 0x2c] {
        bench.write32(offset, 1);
        assert_eq!(bench.model.take_driver_faults(), [DriverFault::WrittenWhileEnabled { offset }]);
    }
}

#[test]
fn misaligned_bases_are_rounded_down_and_reported() {
    let mut bench = Bench::cold(Features::default(), 4);
    // 2^8 entries of 16 bytes need 4 KiB.
    bench.write64(0x90, 0x20_0800 | 8);
    bench.write32(0x98, 0);
    bench.write32(0x9c, 0);
    bench.memory.set(0x20_0000, 0x46);
    bench.cr0(1 << 3);
    assert_eq!(
        bench.model.take_driver_faults(),
        [DriverFault::MisalignedBase { what: "CMDQ_BASE", address: 0x20_0800, alignment: 0x1000 }]
    );
    // The command at the rounded-down address is what is consumed.
    bench.write32(0x98, 1);
    bench.poll(0x9c, 0xf_ffff, 1);
}

#[test]
fn reserved_bits_widths_and_holes() {
    let mut bench = Bench::cold(Features::minimal(), 5);
    bench.write32(0x20, 1 << 4);
    bench.write32(0x20, 1 << 1);
    bench.model.mmio_read(0x20, 8);
    bench.model.mmio_read(0xe8, 4);
    bench.write32(0x00, 1);
    assert_eq!(
        bench.model.take_driver_faults(),
        [
            DriverFault::Res0 { what: "CR0", bits: 1 << 4 },
            DriverFault::Res0 { what: "CR0", bits: 1 << 1 },
            DriverFault::Width { offset: 0x20, width: 8 },
            DriverFault::NoRegister { offset: 0xe8 },
            DriverFault::ReadOnly { offset: 0 },
        ]
    );
    bench.model.mmio_write(0x80, 4, 0x8000_0040);
    bench.model.mmio_write(0x84, 4, 0x3);
    assert_eq!(bench.model.mmio_read(0x80, 8), 0x3_8000_0040);
    bench.clean();
}

#[test]
fn gerrorn_acknowledges_only_what_is_active() {
    let mut bench = Bench::new(Features::default(), 6);
    bench.write32(0x64, 1 << 2);
    assert_eq!(
        bench.model.take_driver_faults(),
        [DriverFault::AcknowledgedNothing { bits: 1 << 2 }]
    );
}
