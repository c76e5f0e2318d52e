//! ARMv7 short descriptors: configurations and single maps. Tables come from
//! 0x8000_0000 upwards, so that even the pointers are compared.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use palisade_hal::{Iova, PhysAddr};
use palisade_mem::FRAME_BYTES;
use palisade_pgtable::{Config, FormatId, Registers};

use super::compared::Compared;
use super::differences::{Differences, each_row};
use super::ground::{self, BASE, Ground};
use super::table::Row;

/// v7s_config.csv.
pub fn config(text: &str) -> Result<Compared> {
    each_row(text, config_row)
}

fn config_row(row: Row<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let ground = Ground::new(64)?;
    let mut config = Config::new(FormatId::ArmV7s);
    config.ias = u8::try_from(row.number("ias")?).context("ias")?;
    config.oas = u8::try_from(row.number("oas")?).context("oas")?;
    config.quirks = ground::quirks(row)?;
    config.coherent_walk = row.flag("coherent")?;
    let table = ground.table(&config);
    differences.expect("accepted", u8::from(table.is_some()), u8::from(row.flag("accepted")?));
    if let Some(table) = table {
        let Registers::V7s(regs) = *table.registers() else {
            anyhow::bail!("registers of another format")
        };
        let base = u64::from(regs.ttbr).wrapping_sub(BASE);
        differences.column(row, "ttbr_minus_pgd_base", base)?;
        differences.column(row, "tcr", regs.tcr)?;
        differences.column(row, "nmrr", regs.nmrr)?;
        differences.column(row, "prrr", regs.prrr)?;
        let entries = ground.frames.footprint().table * FRAME_BYTES / 4;
        differences.column(row, "l1_entries", entries)?;
        ground.free(table)?;
    }
    Ok(differences)
}

/// v7s_map.csv.
pub fn map(text: &str) -> Result<Compared> {
    each_row(text, map_row)
}

fn map_row(row: Row<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let ground = Ground::new(64)?;
    let mut config = Config::new(FormatId::ArmV7s);
    config.quirks = ground::quirks(row)?;
    if config.quirks.contains(palisade_pgtable::Quirks::MTK_EXT) {
        (config.ias, config.oas) = (34, 35);
    }
    let mut table = ground.table(&config).context("the table is refused")?;
    let (iova, pa, size) = (row.number("iova")?, row.number("paddr")?, row.number("pgsize")?);
    let prot = ground::prot(row.number("prot")?);
    let result = table.map_pages(Iova::new(iova), PhysAddr::new(pa), size, 1, prot);
    differences.expect("refused", u8::from(result.is_err()), u8::from(row.flag("ret")?));
    if result.is_ok() {
        differences.column(row, "mapped", size)?;
    }
    let entry = |table: u64, index: u64| {
        let at = table + index / 1024 * FRAME_BYTES;
        let word = ground.word(at, (index % 1024 / 2) as usize);
        let pair = word.map_or(0, |word| word.load(Ordering::Relaxed));
        pair >> (32 * (index & 1)) & 0xffff_ffff
    };
    let first = entry(BASE, row.number("l1_idx")?);
    differences.column(row, "l1_pte", first)?;
    if let Some(index) = row.optional("l2_idx")? {
        // A second-level table, or nothing at all.
        let second = if first & 3 == 1 { first & 0xffff_fc00 } else { 0 };
        let at = |index| if second == 0 { 0 } else { entry(second, index) };
        differences.column(row, "l2_pte", at(index))?;
        differences.column(row, "l2_pte_last_of_16", at(index | 15))?;
    }
    differences.column(row, "xlate_plus_42", ground::translation(&*table, iova + 42))?;
    ground.free(table)?;
    Ok(differences)
}
