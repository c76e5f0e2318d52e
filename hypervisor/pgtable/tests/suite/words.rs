//! Stretches of entries, eight at a time and one by one; addresses at the ends of what words hold.

use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{
    Config, ConfigError, Error, FormatId, Gather, PageTable, Prot, Quirks, SIZES_4K, alloc,
};

use crate::common::metered::Metered;
use crate::common::{GRANULES, Machine, config, few, sizes};

const PAGE: u64 = 1 << 12;

fn formats() -> [Config; 2] {
    [config(FormatId::Arm64LpaeS2, SIZES_4K, 40, 44), Config::new(FormatId::ArmV7s)]
}

fn map(table: &mut dyn PageTable, iova: u64, pa: u64, count: usize) -> Result<(), Error> {
    let (iova, pa) = (Iova::new(iova), PhysAddr::new(pa));
    table.map_pages(iova, pa, PAGE, count, Prot::MEMORY)
}

/// Makes the table of the first pages known, or unknown.
fn know(table: &mut dyn PageTable, known: bool) {
    let far = 1 << 30;
    if known {
        map(table, 250 * PAGE, 0, 1).unwrap();
    } else {
        // The slot is taken by another.
        map(table, far, 0, 1).unwrap();
    }
}

#[test]
fn what_is_used_is_found_wherever_it_is() {
    let machine = Machine::new(64);
    for config in formats() {
        for known in [false, true] {
            for used in few(0..20) {
                let mut table = machine.alloc(&config).unwrap();
                // Two pages with the same word.
                map(&mut *table, used * PAGE, 0, 1).unwrap();
                map(&mut *table, (used + 1) * PAGE, 0, 1).unwrap();
                know(&mut *table, known);
                let found = map(&mut *table, 0, 0, 22);
                assert_eq!(found, Err(Error::Exists(Iova::new(used * PAGE))), "{known} {used}");
                for (first, count) in [(0, used), (used + 2, 22 - used)] {
                    if count > 0 {
                        assert_eq!(map(&mut *table, first * PAGE, 0, count as usize), Ok(()));
                    }
                }
                machine.free(table);
            }
        }
    }
}

#[test]
fn clearing_ends_at_the_first_hole() {
    let machine = Machine::new(64);
    for config in formats() {
        for known in [false, true] {
            for hole in few(0..26) {
                for size in few([1, 7, 8, 9, 16, 24, 25]) {
                    let mut table = machine.alloc(&config).unwrap();
                    map(&mut *table, 0, 1 << 20, 26).unwrap();
                    machine.unmap(&mut *table, hole * PAGE, PAGE, 1);
                    know(&mut *table, known);
                    let done = machine.unmap(&mut *table, 0, PAGE, size);
                    assert_eq!(done, hole.min(size as u64) * PAGE, "{known} {hole} {size}");
                    for nth in 0..26 {
                        let found = table.iova_to_phys(Iova::new(nth * PAGE)).map(PhysAddr::get);
                        let there = nth >= hole.min(size as u64) && nth != hole;
                        assert_eq!(found, there.then_some((1 << 20) + nth * PAGE));
                    }
                    machine.free(table);
                }
            }
        }
    }
}

/// Output addresses move to other bits of a descriptor above 48 bits, or 50.
#[test]
fn leaves_go_on_over_the_bits_that_move() {
    let machine = Machine::new(1024);
    let wide = |sizes| Config { lpa2: true, ..config(FormatId::Arm64LpaeS2, sizes, 48, 52) };
    let rows = [
        (config(FormatId::Arm64LpaeS2, GRANULES[2], 48, 52), 1u64 << 48),
        (wide(GRANULES[0]), 1 << 50),
        (wide(GRANULES[1]), 1 << 50),
    ];
    let rows = if cfg!(miri) { &rows[1..2] } else { &rows[..] };
    for &(config, edge) in rows {
        let mut table = machine.alloc(&config).unwrap();
        let page = sizes(table.config())[0];
        let start = 1 << 30;
        for known in [false, true] {
            for (below, count) in [(0, 20), (1, 20), (7, 8), (8, 16), (20, 20), (9, 17)] {
                if known {
                    let (iova, pa) = (Iova::new(start + 40 * page), PhysAddr::new(0));
                    table.map_pages(iova, pa, page, 1, Prot::MEMORY).unwrap();
                }
                let pa = edge - below * page;
                let (iova, to) = (Iova::new(start), PhysAddr::new(pa));
                table.map_pages(iova, to, page, count, Prot::MEMORY).unwrap();
                for nth in 0..count as u64 {
                    let leaf = table.walk(Iova::new(start + nth * page)).leaf.unwrap();
                    assert_eq!(leaf.pa.get(), pa + nth * page, "{known} {below} {nth}");
                }
                let mut gather = Gather::new(&machine.tlb);
                let _all = table.unmap_range(iova, 64 * page, &mut gather).unwrap();
                machine.finish(gather);
            }
        }
        machine.free(table);
    }
}

/// Tables at addresses that a word, or a register, has no bits for are refused and given back.
#[test]
#[cfg_attr(miri, ignore = "fills all memory with tables")]
fn tables_out_of_reach_are_given_back() {
    // As many frames below the limit as above it.
    let around = |limit: u64, frames: u64| Machine::at(limit - frames / 2 * PAGE, frames);
    let s2 = |oas| Config { ias: 32, oas, ..Config::new(FormatId::Arm64LpaeS2) };
    let v7s = Config::new(FormatId::ArmV7s);
    let mtk = Quirks::NO_PERMS | Quirks::MTK_EXT;
    let mtk = Config { quirks: mtk, ias: 34, oas: 35, ..v7s };
    let far = Config { quirks: mtk.quirks | Quirks::MTK_TTBR_EXT, ..mtk };
    for (config, bits) in [(s2(40), 40), (s2(36), 36), (v7s, 32), (mtk, 32), (far, 35)] {
        let machine = around(1 << bits, 1024);
        let empty = machine.frames.footprint();
        let (mut low, mut high) = (Vec::new(), 0);
        for _ in 0..1024 {
            match machine.alloc(&config) {
                Ok(table) => low.push(table),
                Err(error) => {
                    assert_eq!(error, ConfigError::NoMemory(config.format));
                    high += 1;
                    if high > 2 {
                        break;
                    }
                }
            }
        }
        // A root is one frame, or four, or sixteen.
        let roots = machine.tables() / low.len().max(1) as u64;
        assert!(high > 0 && roots.is_power_of_two(), "{config:?}");
        for table in &low {
            let root = match table.registers() {
                palisade_pgtable::Registers::Stage2(regs) => regs.vttbr_baddr.get(),
                palisade_pgtable::Registers::V7s(regs) if config == far => {
                    u64::from(regs.ttbr & !0xfff) | u64::from(regs.ttbr & 7) << 32
                }
                palisade_pgtable::Registers::V7s(regs) => u64::from(regs.ttbr & !0xfff),
                _ => unreachable!(),
            };
            assert!(root >= (1 << bits) - 512 * PAGE, "{root:#x}");
            assert!(root + roots * PAGE <= 1 << bits, "{root:#x}");
        }
        for table in low {
            machine.free(table);
        }
        assert_eq!(machine.frames.footprint(), empty);
        // The root is within reach, and some tables below it are not.
        let Ok(mut table) = machine.alloc(&config) else { continue };
        let one = machine.frames.footprint();
        let mut mapped = 0;
        let stride = if config.format == FormatId::ArmV7s { 1 << 20 } else { 1 << 21 };
        while map(&mut *table, mapped * stride, 0, 1).is_ok() {
            let words = table.walk(Iova::new(mapped * stride)).steps.into_iter().flatten();
            let links = words.map(|step| step.2).filter(|_| config.format != FormatId::ArmV7s);
            for link in links.filter(|link| link & 0x7ff == 3) {
                assert!(link >> bits == 0, "{link:#x}");
            }
            mapped += 1;
        }
        assert!(mapped < 1024);
        let before = machine.frames.footprint();
        let refused = map(&mut *table, mapped * stride, 0, 1);
        assert_eq!(refused, Err(Error::NoMemory(Iova::new(mapped * stride))));
        assert_eq!(machine.frames.footprint(), before);
        let mut gather = Gather::new(&machine.tlb);
        let size = stride * (mapped + 1);
        assert_eq!(table.unmap_range(Iova::new(0), size, &mut gather), Ok(mapped * PAGE));
        machine.finish(gather);
        assert_eq!(machine.frames.footprint(), one);
        machine.free(table);
    }
}

/// Frame numbers that the walk cache has no room for: their tables are walked to each time.
#[test]
fn tables_too_high_to_be_remembered_are_found() {
    const LIMIT: u64 = 0xfff_ffff_f000;
    let machine = Machine::at((1 << 44) - (32 << 12), 64);
    let memory = Metered::new(&machine, usize::MAX);
    let mut table = alloc(&Config::new(FormatId::Arm64LpaeS2), memory.clone()).unwrap();
    let (mut low, mut high, mut edge) = (0, 0, false);
    for nth in 0..64 {
        let iova = nth << 21;
        if map(&mut *table, iova, nth << 12, 2).is_err() {
            break;
        }
        let at = table.walk(Iova::new(iova)).steps[2].unwrap().2 & 0xffff_ffff_f000;
        let count = if at < LIMIT { 1 } else { 4 };
        for page in [0, 1] {
            assert!(table.iova_to_phys(Iova::new(iova)).is_some());
            memory.looked_up();
            let found = table.iova_to_phys(Iova::new(iova + page * PAGE));
            assert_eq!(found, Some(PhysAddr::new((nth + page) << 12)));
            assert_eq!(memory.looked_up(), count, "{at:#x}");
        }
        if at < LIMIT {
            low += 1;
        } else {
            high += 1;
        }
        edge |= at == LIMIT;
    }
    assert!(low > 8 && high > 8 && edge, "{low} {high} {edge}");
    machine.free(table);
}

/// The highest stretch of the largest address space there is.
#[test]
fn the_last_stretch_is_remembered_too() {
    let machine = Machine::new(64);
    for quirks in [Quirks::empty(), Quirks::TTBR1] {
        let wide = config(FormatId::Arm64LpaeS1, SIZES_4K, 52, 52);
        let config = Config { lpa2: true, quirks, ..wide };
        let memory = Metered::new(&machine, usize::MAX);
        let mut table = alloc(&config, memory.clone()).unwrap();
        let base = if quirks.is_empty() { 0 } else { !0 << 52 };
        for va in [(1u64 << 52) - PAGE, 0, 1 << 51, (1 << 52) - (1 << 30)] {
            let at = base | va;
            // Nothing is known, and nothing is found.
            assert_eq!(table.iova_to_phys(Iova::new(at)), None);
            map(&mut *table, at, 0, 1).unwrap();
            memory.looked_up();
            assert_eq!(table.iova_to_phys(Iova::new(at + 42)), Some(PhysAddr::new(42)));
            assert_eq!(memory.looked_up(), 1);
            map(&mut *table, at ^ 0x3000, 0, 1).unwrap();
            assert_eq!(memory.looked_up(), 1);
            machine.unmap(&mut *table, at ^ 0x3000, PAGE, 1);
            assert_eq!(memory.looked_up(), 1);
            machine.unmap(&mut *table, at, PAGE, 1);
        }
        machine.free(table);
    }
}
