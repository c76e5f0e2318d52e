//! Every format at every level.
//!
//! 1. An empty table translates nothing; pages of each size at 1 GiB strides
//!    translate, refuse an overlap, unmap to nothing and map again.
//! 2. The largest page at the very top of the address space maps and unmaps.
//! 3. Afterwards only the root is left, and after `free` nothing.

use crate::common::{GRANULES, Machine, config, few, granules, sizes};
use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{
    Config, Error, FormatId, Prot, Quirks, SIZES_4K, SIZES_64K, SelfTest, View, alloc,
};

/// All properties for one configuration.
fn battery(machine: &Machine, config: &Config) {
    let test = SelfTest {
        memory: &machine.memory,
        tlb: &machine.tlb,
        release: &|flushed| machine.release(flushed),
    };
    test.run_on(config, alloc).unwrap_or_else(|error| panic!("{error}: {config:?}"));
    assert_eq!(machine.tables(), 0, "{config:?}");
    strides(machine, config);
    assert_eq!(machine.tables(), 0, "{config:?}");
}

/// All sizes mapped at once, one stride apart.
fn strides(machine: &Machine, config: &Config) {
    let mut table = machine.alloc(config).unwrap();
    let root = machine.tables();
    let upper = if config.quirks.contains(Quirks::TTBR1) { !0 << config.ias } else { 0 };
    let limit = 1u64 << table.config().ias.min(table.config().oas);
    let mut placed = Vec::new();
    for (nth, size) in sizes(table.config()).into_iter().enumerate() {
        let at = ((nth as u64) << 30).max(size * 2 * nth as u64);
        if at + size <= limit && at.is_multiple_of(size) {
            let iova = Iova::new(at | upper);
            table.map_pages(iova, PhysAddr::new(at), size, 1, Prot::MEMORY).unwrap();
            placed.push((iova, at, size));
        }
    }
    let first = sizes(table.config())[0];
    for &(iova, at, size) in &placed {
        for small in [size, first] {
            let again = table.map_pages(iova, PhysAddr::new(0), small, 1, Prot::READ);
            assert_eq!(again, Err(Error::Exists(iova)));
        }
        let inside = Iova::new(iova.get() + 42);
        assert_eq!(table.iova_to_phys(inside), Some(PhysAddr::new(at + 42)));
        assert_eq!(machine.unmap(&mut *table, iova.get(), size, 1), size);
        assert_eq!(table.iova_to_phys(inside), None);
        assert_eq!(machine.unmap(&mut *table, iova.get(), size, 1), 0);
        table.map_pages(iova, PhysAddr::new(at), size, 1, Prot::MEMORY).unwrap();
        assert_eq!(table.iova_to_phys(inside), Some(PhysAddr::new(at + 42)));
        assert!(!table.walk(inside).corrupt);
    }
    for &(iova, _, size) in &placed {
        assert_eq!(machine.unmap(&mut *table, iova.get(), size, 1), size);
    }
    assert_eq!(machine.tables(), root, "only the root is left: {config:?}");
    machine.free(table);
}

#[test]
fn matrix_of_126_tables() {
    const BITS: [u8; 6] = [32, 36, 40, 42, 44, 48];
    let machine = Machine::new(4096);
    let mut tables = 0;
    for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
        for granule in few(GRANULES) {
            for ias in few(BITS) {
                for oas in few(BITS.into_iter().filter(|&oas| oas >= ias)) {
                    battery(&machine, &config(format, granule, ias, oas));
                    tables += 1;
                }
            }
        }
    }
    assert_eq!(tables, if cfg!(miri) { 12 } else { 126 });
}

#[test]
fn every_input_size() {
    let machine = Machine::new(4096);
    for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
        for &granule in granules() {
            for ias in few(30..=48) {
                battery(&machine, &config(format, granule, ias, 48));
            }
        }
        for ias in few(49..=52) {
            battery(&machine, &config(format, SIZES_64K, ias, 52));
        }
    }
}

#[test]
fn the_other_formats() {
    let machine = Machine::new(4096);
    for ias in few(30..=32) {
        battery(&machine, &config(FormatId::Arm32LpaeS1, SIZES_4K, ias, 40));
    }
    for ias in few(30..=40) {
        battery(&machine, &config(FormatId::Arm32LpaeS2, SIZES_4K, ias, 40));
    }
    for ias in few([32, 40, 48]) {
        battery(&machine, &config(FormatId::ArmMaliLpae, SIZES_4K, ias, 40));
    }
    for quirks in [Quirks::empty(), Quirks::NS, Quirks::NO_PERMS] {
        let mut v7s = Config::new(FormatId::ArmV7s);
        v7s.quirks = quirks;
        battery(&machine, &v7s);
    }
    let mut mtk = Config::new(FormatId::ArmV7s);
    mtk.quirks = Quirks::NO_PERMS | Quirks::MTK_EXT;
    (mtk.ias, mtk.oas) = (34, 35);
    battery(&machine, &mtk);
    mtk.quirks |= Quirks::MTK_TTBR_EXT;
    battery(&machine, &mtk);
}

#[test]
fn quirks_views_and_options() {
    let machine = Machine::new(4096);
    for &granule in granules() {
        let s1 = config(FormatId::Arm64LpaeS1, granule, 44, 48);
        for quirks in [Quirks::NS, Quirks::HD, Quirks::NS | Quirks::HD] {
            battery(&machine, &Config { quirks, ..s1 });
        }
        strides(&machine, &Config { quirks: Quirks::TTBR1, ..s1 });
        battery(&machine, &Config { coherent_walk: false, ..s1 });
        battery(&machine, &Config { contiguous: true, ..s1 });
        let s2 = config(FormatId::Arm64LpaeS2, granule, 40, 44);
        battery(&machine, &Config { quirks: Quirks::S2FWB, ..s2 });
        battery(&machine, &Config { s2_dirty: true, ..s2 });
        battery(&machine, &Config { contiguous: true, coherent_walk: false, ..s2 });
        for pa_bits in few([40, 44, 48]) {
            let view = View::Cpu { pa_bits, vmid16: true };
            battery(&machine, &Config { view, oas: pa_bits, ..s2 });
        }
    }
    for granule in [SIZES_4K | 1 << 39, 1 << 14 | 1 << 25 | 1 << 36] {
        for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
            for (ias, oas) in few([(48, 48), (49, 52), (52, 52)]) {
                let wide = Config { lpa2: true, ..config(format, granule, ias, oas) };
                battery(&machine, &wide);
            }
        }
    }
}

#[test]
fn a_large_page_mapped_in_part_is_unmapped_whole() {
    let machine = Machine::new(512);
    let mut table = machine.alloc(&Config::new(FormatId::ArmV7s)).unwrap();
    let at = |nth: u64| (Iova::new(nth << 12), PhysAddr::new(nth << 12));
    // A full large page, one with holes at both ends, nothing, and one that must stay.
    for nth in (0..16).chain([20, 22]).chain([48]) {
        let (iova, pa) = at(nth);
        table.map_pages(iova, pa, 1 << 12, 1, Prot::MEMORY).unwrap();
    }
    assert_eq!(machine.unmap(&mut *table, 0, 1 << 16, 4), 2 << 16);
    assert_eq!((0..48).find_map(|nth| table.iova_to_phys(at(nth).0)), None);
    assert_eq!(table.iova_to_phys(at(48).0), Some(at(48).1));
    machine.free(table);
}
