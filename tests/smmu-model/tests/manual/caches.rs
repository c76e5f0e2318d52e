//! 3.17, 3.21, 4.3, 4.4 and 16.2: what stays until it is invalidated.

use crate::bench::{Bench, S1_RW, S2_RW, cd, nested, stage1, stage2};
use palisade_smmu_model::{Access, DriverFault, Features, Outcome, Request};

fn bench(seed: u64) -> Bench {
    Bench::new(Features::default(), seed).calm()
}

fn reach(bench: &mut Bench, stream: u32, address: u64) -> Option<u64> {
    match bench.model.transaction(stream, None, address, Access::Read) {
        Outcome::Done { pa, .. } => Some(pa),
        _ => None,
    }
}

#[test]
fn reset_leaves_the_caches_dirty() {
    // Without CFGI_ALL and TLBI, some stream of 64 bypasses although its STE aborts.
    let mut bypassed = 0;
    for seed in 0..10 {
        let mut bench = Bench::cold(Features::default(), seed);
        for stream in 0..64 {
            bench.set_ste(stream, [1, 0, 0, 0, 0, 0, 0, 0]);
        }
        bench.write64(0x80, crate::bench::STRTAB);
        bench.write32(0x88, 6);
        bench.cr0(1);
        bypassed += (0..64).filter(|stream| reach(&mut bench, *stream, 0x5000).is_some()).count();
    }
    assert!(bypassed > 100);
}

#[test]
fn an_ste_stays_until_cfgi_and_sync() {
    let mut bench = bench(1);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RW);
    bench.change_ste(5, stage2(9, root));
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.set_ste(5, [1, 0, 0, 0, 0, 0, 0, 0]);
    bench.model.run(50);
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.command([0x03 | 6 << 32, 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.command([0x03 | 5 << 32, 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), None);
    bench.clean();
}

#[test]
fn an_invalidation_may_take_effect_as_late_as_its_sync() {
    let mut late = 0;
    for seed in 0..40 {
        let mut bench = bench(seed);
        let root = bench.table();
        bench.map(root, 0x1000, 0x9000, S2_RW);
        bench.change_ste(5, stage2(9, root));
        assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
        bench.unmap(root, 0x1000);
        bench.command([0x28 | 9 << 32, 0]);
        late += usize::from(reach(&mut bench, 5, 0x1000).is_some());
        bench.sync();
        assert_eq!(reach(&mut bench, 5, 0x1000), None);
    }
    assert!(late > 0);
}

#[test]
fn stage2_invalidations_reach_what_they_name() {
    // (command, whether the translation of VMID 9 at 0x201000 is gone)
    let ipa = 0x20_1000u64;
    let tlbi = |vmid: u64, low: u64, high: u64| [0x2a | vmid << 32 | low, high];
    let cases = [
        (tlbi(9, 0, ipa | 1), true),
        (tlbi(9, 0, ipa), true),
        (tlbi(9, 0, 0x20_2000 | 1), false),
        (tlbi(8, 0, ipa | 1), false),
        ([0x28 | 9 << 32, 0], true),
        ([0x28 | 8 << 32, 0], false),
        ([0x10 | 9 << 32, 0], false),
        ([0x30, 0], true),
        ([0x20, 0], false),
        // TG = 4K, TTL = 3; then TTL = 2, which names only blocks.
        (tlbi(9, 0, ipa | 1 << 10 | 3 << 8 | 1), true),
        (tlbi(9, 0, 0x20_0000 | 1 << 10 | 2 << 8 | 1), false),
        // TG = 64K does not name 4K entries.
        (tlbi(9, 1 << 12, 0x20_0000 | 3 << 10 | 1), false),
        // 2 pages from 0x200000; 1 page at 0x200000 (TTL = 3).
        (tlbi(9, 1 << 12, 0x20_0000 | 1 << 10 | 1), true),
        (tlbi(9, 0, 0x20_0000 | 1 << 10 | 3 << 8 | 1), false),
        // (0 + 1) * 2^9 pages.
        (tlbi(9, 9 << 20, 0x20_0000 | 1 << 10 | 1), true),
    ];
    for (i, (command, gone)) in cases.into_iter().enumerate() {
        let mut bench = bench(100 + i as u64);
        let root = bench.table();
        bench.map(root, ipa, 0x9000, S2_RW);
        bench.change_ste(5, stage2(9, root));
        assert_eq!(reach(&mut bench, 5, ipa), Some(0x9000));
        bench.unmap(root, ipa);
        bench.command(command);
        bench.sync();
        assert_eq!(reach(&mut bench, 5, ipa).is_none(), gone, "case {i}");
        bench.clean();
    }
}

#[test]
fn leaf_invalidations_spare_the_walk_caches() {
    let mut bench = bench(2);
    let root = bench.table();
    bench.map(root, 0x1000, 0x9000, S2_RW);
    bench.change_ste(5, stage2(9, root));
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    // The table above is replaced: a leaf-only invalidation leaves the way to the old one.
    bench.memory.set(root, 0);
    bench.command([0x2a | 9 << 32, 0x1000 | 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.command([0x2a | 9 << 32, 0x1000]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), None);
}

#[test]
fn misaligned_ranges_are_reported_and_do_nothing() {
    let mut bench = bench(3);
    let root = bench.table();
    bench.map(root, 0x20_1000, 0x9000, S2_RW);
    bench.change_ste(5, stage2(9, root));
    assert_eq!(reach(&mut bench, 5, 0x20_1000), Some(0x9000));
    bench.unmap(root, 0x20_1000);
    bench.command([0x2a | 9 << 32 | 9 << 20, 0x20_1000 | 1 << 10 | 2 << 8 | 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x20_1000), Some(0x9000));
    let faults = bench.model.take_driver_faults();
    assert!(matches!(faults[..], [DriverFault::UnpredictableRange { .. }]));
}

#[test]
fn stage1_invalidations_by_asid_and_va() {
    let va = 0x1000u64;
    let cases = [
        ([0x11 | 4 << 32 | 7 << 48, 0], true),
        ([0x11 | 4 << 32 | 8 << 48, 0], false),
        ([0x11 | 5 << 32 | 7 << 48, 0], false),
        ([0x12 | 4 << 32 | 7 << 48, va | 1], true),
        ([0x12 | 4 << 32 | 8 << 48, va | 1], false),
        ([0x13 | 4 << 32, va | 1], true),
        ([0x13 | 4 << 32, 0x2000 | 1], false),
        ([0x10 | 4 << 32, 0], true),
        ([0x28 | 4 << 32, 0], true),
    ];
    for (i, (command, gone)) in cases.into_iter().enumerate() {
        let mut bench = bench(200 + i as u64);
        let (cds, root) = (bench.table(), bench.table());
        bench.map(root, va, 0x9000, S1_RW);
        bench.set_words(cds, &cd(7, root));
        bench.change_ste(5, stage1(4, cds, 0, 0));
        assert_eq!(reach(&mut bench, 5, va), Some(0x9000));
        bench.unmap(root, va);
        bench.command(command);
        bench.sync();
        assert_eq!(reach(&mut bench, 5, va).is_none(), gone, "case {i}");
        bench.clean();
    }
}

#[test]
fn global_entries_survive_their_asid() {
    let mut bench = bench(4);
    let (cds, root) = (bench.table(), bench.table());
    bench.map(root, 0x1000, 0x9000, S1_RW & !(1 << 11));
    bench.set_words(cds, &cd(7, root));
    bench.change_ste(5, stage1(4, cds, 0, 0));
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.unmap(root, 0x1000);
    bench.command([0x11 | 4 << 32 | 7 << 48, 0]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
}

#[test]
fn a_cd_stays_until_cfgi_cd() {
    let mut bench = bench(5);
    let (cds, root) = (bench.table(), bench.table());
    bench.map(root, 0x1000, 0x9000, S1_RW);
    bench.set_words(cds, &cd(7, root));
    bench.change_ste(5, stage1(4, cds, 0, 0));
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.memory.set(cds, 0);
    bench.command([0x28 | 4 << 32, 0]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), Some(0x9000));
    bench.command([0x05 | 5 << 32, 1]);
    bench.command([0x28 | 4 << 32, 0]);
    bench.sync();
    assert_eq!(reach(&mut bench, 5, 0x1000), None);
}

#[test]
fn combined_entries_outlive_an_ipa_invalidation() {
    let mut bench = bench(6);
    let (s2, s1, cds) = (bench.table(), bench.table(), bench.table());
    let (l2, l3) = (bench.table(), bench.table());
    for pa in [s1, l2, l3, cds] {
        bench.map(s2, pa, pa, S2_RW);
    }
    bench.memory.set(s1, l2 | 3);
    bench.memory.set(l2, l3 | 3);
    bench.memory.set(l3 + 8, 0x2000_5000 | S1_RW | 3);
    bench.map(s2, 0x2000_5000, 0x55_5000, S2_RW);
    bench.set_words(cds, &cd(3, s1));
    bench.change_ste(6, nested(4, cds, 0, s2));
    assert_eq!(reach(&mut bench, 6, 0x1000), Some(0x55_5000));
    bench.unmap(s2, 0x2000_5000);
    bench.command([0x2a | 4 << 32, 0x2000_5000 | 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, 6, 0x1000), Some(0x55_5000));
    bench.command([0x10 | 4 << 32, 0]);
    bench.sync();
    assert_eq!(reach(&mut bench, 6, 0x1000), None);
}

#[test]
fn a_level_one_descriptor_needs_the_wide_invalidation() {
    let mut bench = Bench::cold(Features::default(), 7).calm();
    // Two-level: 2^10 streams, split 6; the level 1 table at 0x30_0000.
    bench.write64(0x80, 0x30_0000);
    bench.write32(0x88, 10 | 6 << 6 | 1 << 16);
    bench.write64(0x90, crate::bench::CMDQ | 4);
    bench.write32(0x98, 0);
    bench.write32(0x9c, 0);
    bench.cr0(1 << 3);
    bench.command([0x04, 31]);
    bench.command([0x30, 0]);
    bench.sync();
    bench.cr0(1 << 3 | 1);
    let stream = 130u64;
    assert_eq!(reach(&mut bench, stream as u32, 0x5000), None);
    let leaf = 0x31_0000;
    bench.set_words(leaf + 64 * (stream & 63), &[1 | 4 << 1]);
    bench.memory.set(0x30_0000 + 8 * (stream >> 6), leaf | 7);
    bench.command([0x03 | stream << 32, 1]);
    bench.sync();
    assert_eq!(reach(&mut bench, stream as u32, 0x5000), None);
    bench.command([0x03 | stream << 32, 0]);
    bench.sync();
    assert_eq!(reach(&mut bench, stream as u32, 0x5000), Some(0x5000));
    bench.clean();
}

#[test]
fn a_sync_waits_for_transactions_in_flight() {
    let mut early = 0;
    for seed in 0..40 {
        let mut bench = bench(300 + seed);
        let root = bench.table();
        bench.map(root, 0x1000, 0x9000, S2_RW);
        bench.change_ste(5, stage2(9, root));
        let request = Request::new(5, None, 0x1000, Access::Write(0x99));
        let Outcome::Posted { .. } = bench.model.post(request) else { panic!() };
        early += usize::from(bench.memory.get(0x9000) == 0);
        bench.sync();
        assert_eq!(bench.memory.get(0x9000), 0x99);
    }
    assert!(early > 0);
}

/// 3.21.3: an STE is not read in one instant; the two halves may differ in age.
#[test]
fn a_fetch_may_straddle_a_store() {
    let mut torn = 0;
    for seed in 0..200 {
        let mut bench = Bench::new(Features::default(), 400 + seed);
        let (a, b) = (bench.table(), bench.table());
        bench.map(a, 0x1000, 0xa000, S2_RW);
        bench.map(b, 0x1000, 0xb000, S2_RW);
        bench.change_ste(5, stage2(1, a));
        bench.set_ste(5, stage2(2, b));
        // VMID 2 with table a or VMID 1 with table b: a tear.
        bench.command([0x01 | 5 << 32, 0]);
        bench.set_ste(5, stage2(1, a));
        let through = reach(&mut bench, 5, 0x1000);
        bench.change_ste(6, stage2(2, b));
        let other = reach(&mut bench, 6, 0x1000);
        torn += usize::from(through == Some(0xb000) || other == Some(0xa000));
    }
    assert!(torn > 0);
}

#[test]
fn break_before_make_is_missed() {
    let mut found = 0;
    for seed in 0..20 {
        let mut bench = bench(700 + seed);
        let root = bench.table();
        bench.map(root, 0x20_0000, 0x9000, S2_RW);
        bench.map(root, 0x20_1000, 0xa000, S2_RW);
        bench.change_ste(5, stage2(9, root));
        reach(&mut bench, 5, 0x20_0000);
        let l2 = bench.memory.get(root) & 0xffff_ffff_f000;
        bench.memory.set(l2 + 8, 0x4000_0000 | S2_RW | 1);
        bench.command([0x2a | 9 << 32, 0x20_1000]);
        bench.sync();
        reach(&mut bench, 5, 0x20_1000);
        reach(&mut bench, 5, 0x20_0000);
        let fault = DriverFault::BreakBeforeMake { address: 0x20_0000 };
        found += usize::from(bench.model.take_driver_faults().contains(&fault));
    }
    assert_eq!(found, 20);
}
