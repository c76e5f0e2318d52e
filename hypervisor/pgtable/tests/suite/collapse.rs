//! Pages made a block when asked for, and never otherwise.
//!
//! 1. What translated before translates after, by one leaf; the table comes back.
//! 2. What no block could say is refused, and so is what the policy forbids: then
//!    entries and footprint are as before.
//! 3. An invalidation that fails leaves the pages as they were.

use crate::common::{GRANULES, Issued, Machine, config, granules};
use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Config, Error, FormatId, Gather, PageTable, Prot, Quirks, SplitPolicy};

const PA: u64 = 0x40_0000_0000;

fn collapse(
    machine: &Machine,
    table: &mut dyn PageTable,
    iova: u64,
    size: u64,
) -> Result<(), Error> {
    let mut gather = Gather::new(&machine.tlb);
    let result = table.collapse(Iova::new(iova), size, &mut gather);
    assert!(result.is_ok() || gather.is_empty());
    machine.finish(gather);
    result
}

/// Maps `size` bytes by pages of `page`, makes a block of them, and looks at it.
fn round(machine: &Machine, config: &Config, page: u64, size: u64) {
    let mut table = machine.alloc(config).unwrap();
    let pa = PA & ((1 << table.config().oas) - 1);
    let (iova, count) = (Iova::new(size), (size / page) as usize);
    table.map_pages(iova, PhysAddr::new(pa), page, count, Prot::MEMORY).unwrap();
    let before = machine.tables();
    let word = table.walk(iova).leaf.unwrap();
    assert_eq!(collapse(machine, &mut *table, size, size), Ok(()), "{config:?}");
    assert!(machine.tables() < before, "{config:?}");
    let leaf = table.walk(iova).leaf.unwrap();
    assert_eq!((leaf.size, leaf.pa.get(), leaf.level), (size, pa, word.level - 1));
    for offset in [0, 42, page, size - 1] {
        let at = Iova::new(size + offset);
        assert_eq!(table.iova_to_phys(at), Some(PhysAddr::new(pa + offset)), "{config:?}");
    }
    // The entry is the one that mapping a block writes.
    let (elsewhere, block) = (Iova::new(2 * size), PhysAddr::new(pa));
    table.map_pages(elsewhere, block, size, 1, Prot::MEMORY).unwrap();
    assert_eq!(table.walk(elsewhere).leaf.unwrap().word, leaf.word, "{config:?}");
    // Once more is nothing to do.
    assert_eq!(collapse(machine, &mut *table, size, size), Ok(()));
    assert_eq!(machine.unmap(&mut *table, size, size, 2), 2 * size);
    machine.free(table);
    assert_eq!(machine.tables(), 0);
}

#[test]
fn every_format_and_granule() {
    let machine = Machine::new(8192);
    for split in [SplitPolicy::BreakBeforeMake, SplitPolicy::InPlace] {
        for &granule in granules() {
            let shift = granule.trailing_zeros();
            let (page, block) = (1u64 << shift, 1u64 << (2 * shift - 3));
            for format in [FormatId::Arm64LpaeS1, FormatId::Arm64LpaeS2] {
                let plain = Config { split, ..config(format, granule, 44, 48) };
                round(&machine, &plain, page, block);
                round(&machine, &Config { contiguous: true, ..plain }, page, block);
                round(&machine, &Config { coherent_walk: false, ..plain }, page, block);
            }
            let dirty = config(FormatId::Arm64LpaeS1, granule, 44, 48);
            round(&machine, &Config { split, quirks: Quirks::HD, ..dirty }, page, block);
        }
        for format in [FormatId::Arm32LpaeS1, FormatId::Arm32LpaeS2, FormatId::ArmMaliLpae] {
            round(&machine, &Config { split, ..Config::new(format) }, 1 << 12, 1 << 21);
        }
        round(&machine, &Config { split, ..Config::new(FormatId::ArmV7s) }, 1 << 12, 1 << 20);
        round(&machine, &Config { split, ..Config::new(FormatId::ArmV7s) }, 1 << 16, 1 << 20);
        // Blocks become a larger block.
        let s2 = config(FormatId::Arm64LpaeS2, GRANULES[0], 44, 48);
        round(&machine, &Config { split, ..s2 }, 1 << 21, 1 << 30);
    }
}

#[test]
fn what_no_block_could_say_is_refused() {
    const BLOCK: u64 = 1 << 21;
    let machine = Machine::new(256);
    let mut config = config(FormatId::Arm64LpaeS2, GRANULES[0], 44, 48);
    config.split = SplitPolicy::BreakBeforeMake;
    let mut table = machine.alloc(&config).unwrap();
    let mut map = |block: u64, nth: u64, pa: u64, count: usize, prot: Prot| {
        let iova = Iova::new(block * BLOCK + (nth << 12));
        table.map_pages(iova, PhysAddr::new(pa), 1 << 12, count, prot).unwrap();
    };
    // A hole at the end; one page elsewhere; one with other rights; a block that starts amid one.
    map(0, 0, PA, 511, Prot::MEMORY);
    map(1, 0, PA, 300, Prot::MEMORY);
    map(1, 300, PA, 1, Prot::MEMORY);
    map(1, 301, PA + (301 << 12), 211, Prot::MEMORY);
    map(2, 0, PA, 511, Prot::MEMORY);
    map(2, 511, PA + (511 << 12), 1, Prot::READ);
    map(3, 0, PA + (1 << 12), 512, Prot::MEMORY);
    let before = machine.tables();
    for block in 0..5 {
        let (at, iova) = (block * BLOCK, Iova::new(block * BLOCK));
        let word = table.walk(iova);
        assert_eq!(collapse(&machine, &mut *table, at, BLOCK), Err(Error::NotUniform(iova)));
        assert_eq!(table.walk(iova), word);
    }
    // A gigabyte of tables is no table of blocks.
    let (start, gib) = (Iova::new(0), 1 << 30);
    assert_eq!(collapse(&machine, &mut *table, 0, gib), Err(Error::NotUniform(start)));
    for size in [0, 1 << 12, 1 << 16, 1 << 22] {
        assert_eq!(collapse(&machine, &mut *table, 0, size), Err(Error::PageSize(size)));
    }
    let odd = Iova::new(4096);
    assert_eq!(collapse(&machine, &mut *table, 4096, BLOCK), Err(Error::Unaligned(odd)));
    let (top, at) = (1 << 44, Iova::new(1 << 44));
    assert_eq!(collapse(&machine, &mut *table, top, BLOCK), Err(Error::InputRange(at)));
    assert_eq!(machine.tables(), before);
    machine.free(table);
}

#[test]
fn the_policy_may_refuse_and_nothing_collapses_by_itself() {
    const BLOCK: u64 = 1 << 21;
    let machine = Machine::new(256);
    let mut table = machine.alloc(&Config::iommu_stage2(40, 40, true)).unwrap();
    let (iova, pa) = (Iova::new(BLOCK), PhysAddr::new(BLOCK));
    for nth in 0..512 {
        let (iova, pa) = (Iova::new(BLOCK + (nth << 12)), PhysAddr::new(BLOCK + (nth << 12)));
        table.map_pages(iova, pa, 1 << 12, 1, Prot::MEMORY).unwrap();
    }
    assert_eq!(table.walk(iova).leaf.unwrap().size, 1 << 12);
    let before = machine.tables();
    assert_eq!(collapse(&machine, &mut *table, BLOCK, BLOCK), Err(Error::Refused(iova)));
    assert_eq!(machine.tables(), before);
    assert_eq!(table.walk(iova).leaf.unwrap().size, 1 << 12);
    // Part of a larger block is a block already.
    table.map_pages(Iova::new(1 << 30), pa, BLOCK, 1, Prot::MEMORY).unwrap();
    assert_eq!(collapse(&machine, &mut *table, 1 << 30, BLOCK), Ok(()));
    table.map_pages(Iova::new(1 << 31), PhysAddr::new(0), 1 << 30, 1, Prot::MEMORY).unwrap();
    assert_eq!(collapse(&machine, &mut *table, (1 << 31) + BLOCK, BLOCK), Ok(()));
    machine.free(table);
}

#[test]
fn a_failed_invalidation_leaves_the_pages() {
    const BLOCK: u64 = 1 << 21;
    let machine = Machine::new(256);
    let mut config = config(FormatId::Arm64LpaeS2, GRANULES[0], 44, 48);
    config.split = SplitPolicy::BreakBeforeMake;
    let mut table = machine.alloc(&config).unwrap();
    let iova = Iova::new(BLOCK);
    table.map_pages(iova, PhysAddr::new(PA), 1 << 12, 512, Prot::MEMORY).unwrap();
    let (word, before) = (table.walk(iova), machine.tables());
    machine.tlb.fails.set(true);
    let mut gather = Gather::new(&machine.tlb);
    let result = table.collapse(iova, BLOCK, &mut gather);
    assert!(matches!(result, Err(Error::Tlb(_))), "{result:?}");
    assert!(gather.is_empty());
    machine.tlb.fails.set(false);
    machine.finish(gather);
    assert_eq!((table.walk(iova), machine.tables()), (word, before));
    assert_eq!(collapse(&machine, &mut *table, BLOCK, BLOCK), Ok(()));
    machine.free(table);
}

/// What is invalidated at once, and what is left to be: the block, in either half.
#[test]
fn the_block_is_what_is_invalidated() {
    const BLOCK: u64 = 1 << 21;
    let machine = Machine::new(64);
    let plain = config(FormatId::Arm64LpaeS1, GRANULES[0], 40, 42);
    for (split, quirks, at_once) in [
        (SplitPolicy::BreakBeforeMake, Quirks::empty(), true),
        (SplitPolicy::BreakBeforeMake, Quirks::TTBR1, true),
        (SplitPolicy::InPlace, Quirks::empty(), false),
        (SplitPolicy::InPlace, Quirks::TTBR1, false),
        // Hardware may write between look and store.
        (SplitPolicy::InPlace, Quirks::HD, true),
    ] {
        let mut table = machine.alloc(&Config { split, quirks, ..plain }).unwrap();
        let base = if quirks.contains(Quirks::TTBR1) { !0 << 40 } else { 0 };
        let (first, other) = (base | (5 * BLOCK), Iova::new(base | (9 * BLOCK)));
        for iova in [Iova::new(first), other] {
            table.map_pages(iova, PhysAddr::new(PA), 1 << 12, 512, Prot::MEMORY).unwrap();
        }
        machine.tlb.issued.take();
        let mut gather = Gather::new(&machine.tlb);
        table.collapse(Iova::new(first), BLOCK, &mut gather).unwrap();
        let walk = at_once.then_some(Issued::Walk(first, BLOCK));
        assert_eq!(machine.tlb.issued.take(), Vec::from_iter(walk));
        let ends = (Iova::new(first), Iova::new(first + BLOCK - 1));
        assert_eq!((gather.range(), gather.tables().unwrap().frames()), (Some(ends), 1));
        machine.tlb.granule.set(0);
        machine.finish(gather);
        assert_eq!(machine.tlb.granule.get(), 1 << 12);
        assert_eq!(table.walk(other).leaf.unwrap().size, 1 << 12);
        assert_eq!(
            table.iova_to_phys(Iova::new(other.get() + BLOCK - 1)).unwrap().get(),
            PA + BLOCK - 1
        );
        machine.free(table);
    }
}

/// Large pages and supersections are no blocks that pages become.
#[test]
fn a_run_is_no_block() {
    let machine = Machine::new(64);
    let split = SplitPolicy::BreakBeforeMake;
    let mut table = machine.alloc(&Config { split, ..Config::new(FormatId::ArmV7s) }).unwrap();
    for (small, large) in [(1u64 << 12, 1u64 << 16), (1 << 20, 1 << 24)] {
        let iova = Iova::new(large);
        table.map_pages(iova, PhysAddr::new(large), small, 16, Prot::MEMORY).unwrap();
        assert_eq!(collapse(&machine, &mut *table, large, large), Err(Error::PageSize(large)));
        assert_eq!(
            collapse(&machine, &mut *table, large, small),
            match small {
                0x1000 => Err(Error::PageSize(small)),
                _ => Ok(()),
            }
        );
    }
    machine.free(table);
}
