//! LPAE: configurations, attribute bits, dirty tracking.

use anyhow::{Context, Result};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::{FRAME_BYTES, TableMemory, Words};
use palisade_pgtable::{Config, FormatId, Gather, PageTable, Quirks, Registers};
use std::sync::atomic::{AtomicU64, Ordering};

use super::compared::Compared;
use super::differences::{Differences, each_row};
use super::ground::{self, Ground};
use super::table::Row;

/// Runs `compare` on one piece of memory for all rows.
pub fn on_ground(
    text: &str,
    frames: u64,
    compare: impl Fn(&Ground, Row<'_>) -> Result<Differences>,
) -> Result<Compared> {
    let ground = Ground::new(frames)?;
    each_row(text, |row| compare(&ground, row))
}

/// lpae_config.csv.
pub fn config(text: &str) -> Result<Compared> {
    on_ground(text, 4096, config_row)
}

fn config_row(ground: &Ground, row: Row<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let config = ground::config(row)?;
    let before = ground.frames.footprint().table;
    let table = ground.table(&config);
    let accepted = row.flag("accepted")?;
    differences.expect("accepted", u8::from(table.is_some()), u8::from(accepted));
    let Some(table) = table else { return Ok(differences) };
    if accepted {
        let granule = table.config().pgsize_bitmap.trailing_zeros();
        let frames = ground.frames.footprint().table - before;
        let roots = (frames * FRAME_BYTES) >> granule;
        differences.column(row, "concatenated_tables", roots)?;
        registers(&mut differences, row, &*table)?;
    }
    ground.free(table)?;
    Ok(differences)
}

fn registers(differences: &mut Differences, row: Row<'_>, table: &dyn PageTable) -> Result<()> {
    // The upper half's addresses begin with ones.
    let upper = table.config().quirks.contains(Quirks::TTBR1);
    let iova = Iova::new(if upper { u64::MAX } else { 0 });
    let first = table.walk(iova).steps[0].context("a walk without steps")?.0;
    differences.column(row, "start_level", first as u64)?;
    match table.registers() {
        Registers::Stage1(regs) => {
            differences.column(row, "tsz", regs.tsz)?;
            differences.column(row, "tg", regs.tg)?;
            differences.column(row, "ps_or_ips", regs.ips)?;
            differences.column(row, "sh", regs.sh)?;
            differences.column(row, "irgn", regs.irgn)?;
            differences.column(row, "orgn", regs.orgn)?;
            differences.column(row, "reg_packed", regs.tcr_low())?;
            if let Some(mair) = row.optional("mair_or_memattr")? {
                differences.expect("mair", regs.mair & 0xffff_ffff, mair & 0xffff_ffff);
            }
        }
        Registers::Stage2(regs) => {
            differences.column(row, "tsz", regs.t0sz)?;
            differences.column(row, "tg", regs.tg)?;
            differences.column(row, "ps_or_ips", regs.ps)?;
            differences.column(row, "sh", regs.sh)?;
            differences.column(row, "irgn", regs.irgn)?;
            differences.column(row, "orgn", regs.orgn)?;
            differences.column(row, "sl0", regs.sl0)?;
            differences.column(row, "reg_packed", regs.packed())?;
            differences.expect("vtcr", regs.vtcr, u64::from(regs.packed()));
        }
        Registers::Mali(regs) => {
            differences.column(row, "reg_packed", regs.transtab & 0xfff)?;
            differences.column(row, "mair_or_memattr", regs.memattr)?;
        }
        Registers::V7s(_) => differences.note("not LPAE".to_owned()),
    }
    Ok(())
}

/// lpae_prot_bits.csv.
pub fn prot_bits(text: &str) -> Result<Compared> {
    on_ground(text, 4096, prot_row)
}

fn prot_row(ground: &Ground, row: Row<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let mut config = Config::new(ground::format(row)?);
    config.pgsize_bitmap = ground::granule(row)?;
    config.quirks = ground::quirks(row)?;
    (config.ias, config.oas) = match config.format {
        FormatId::Arm32LpaeS1 => (32, 40),
        FormatId::Arm32LpaeS2 | FormatId::ArmMaliLpae => (40, 40),
        _ => (48, 48),
    };
    let granule = config.pgsize_bitmap.trailing_zeros();
    let level = row.get("leaf_level")?.parse::<i8>().context("leaf_level")?;
    // Level −1 stands for "none": such a row is a refusal.
    let depth = if level < 0 { 0 } else { 3 - level as u32 };
    let size = 1u64 << (granule + depth * (granule - 3));
    let mut table = ground.table(&config).context("the table is refused")?;
    // Addresses at which the upper half begins, if the table serves it.
    let upper = config.quirks.contains(Quirks::TTBR1);
    let iova = Iova::new(if upper { !0 << config.ias } else { 0 });
    let prot = ground::prot(row.number("prot_hex")?);
    let mapped = table.map_pages(iova, PhysAddr::new(0), size, 1, prot);
    differences.expect("refused", u8::from(mapped.is_err()), u8::from(row.flag("ret")?));
    let leaf = table.walk(iova).leaf;
    let word = leaf.map_or(0, |leaf| leaf.word);
    differences.column(row, "leaf_pte_attr_bits", word)?;
    if let Some(leaf) = leaf {
        differences.expect("level", leaf.level as u8, level as u8);
    }
    ground.free(table)?;
    Ok(differences)
}

/// lpae_s1_dirty.csv.
pub fn dirty(text: &str) -> Result<Compared> {
    on_ground(text, 4096, dirty_row)
}

fn dirty_row(ground: &Ground, row: Row<'_>) -> Result<Differences> {
    let mut config = Config::new(FormatId::Arm64LpaeS1);
    config.pgsize_bitmap = ground::granule(row)?;
    config.quirks = Quirks::HD;
    match config.pgsize_bitmap.trailing_zeros() {
        12 => dirty_with::<[AtomicU64; 512]>(ground, row, &config),
        14 => dirty_with::<[AtomicU64; 2048]>(ground, row, &config),
        _ => dirty_with::<[AtomicU64; 8192]>(ground, row, &config),
    }
}

fn dirty_with<W: Words>(ground: &Ground, row: Row<'_>, config: &Config) -> Result<Differences> {
    let mut differences = Differences::default();
    let mut table = ground.table(config).context("the table is refused")?;
    let size = 1u64 << config.pgsize_bitmap.trailing_zeros();
    let iova = Iova::new(0);
    let prot = ground::prot(row.number("prot")?);
    table.map_pages(iova, PhysAddr::new(0), size, 1, prot)?;
    let word = |table: &dyn PageTable| table.walk(iova).leaf.map_or(0, |leaf| leaf.word);
    differences.column(row, "pte_after_map", word(&*table))?;
    differences.column(row, "recorded_before", recorded(ground, &mut *table, size)?)?;
    // The hardware's part: it clears AP[2] in memory, through the table above.
    let written = row.number("hw_dirty_pte(AP2 cleared)")?;
    let walk = table.walk(iova);
    let above = walk.steps.iter().flatten().rev().nth(1).context("no table above")?;
    let at = PhysAddr::new(above.2 & 0xffff_ffff_f000 & !(size - 1));
    let entries = ground.memory.table::<W>(at).context("no table of pages")?;
    entries.words().first().context("no entry")?.store(written, Ordering::Relaxed);
    differences.column(row, "recorded_after_hw_write", recorded(ground, &mut *table, size)?)?;
    differences.column(row, "pte_after_read_and_clear", word(&*table))?;
    ground.free(table)?;
    Ok(differences)
}

/// How many leaves a harvest of the first page records.
fn recorded(ground: &Ground, table: &mut dyn PageTable, size: u64) -> Result<u64> {
    let mut gather = Gather::new(ground);
    let mut count = 0;
    table.read_and_clear_dirty(Iova::new(0), size, &mut gather, &mut |_, _| count += 1)?;
    ground.finish(gather)?;
    Ok(count)
}
