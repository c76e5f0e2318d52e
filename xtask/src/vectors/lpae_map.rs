//! LPAE: single maps, and sequences of maps and unmaps.

use anyhow::{Context, Result};
use palisade_hal::{Iova, PhysAddr};
use palisade_pgtable::{Gather, PageTable};

use super::compared::Compared;
use super::differences::{Differences, judge};
use super::ground::{self, Ground};
use super::lpae::on_ground;
use super::table::{Row, Table};

/// lpae_map.csv.
pub fn map(text: &str) -> Result<Compared> {
    on_ground(text, 4096, map_row)
}

fn map_row(ground: &Ground, row: Row<'_>) -> Result<Differences> {
    let mut differences = Differences::default();
    let mut table = ground.table(&ground::config(row)?).context("the table is refused")?;
    let (iova, pa) = (row.number("iova")?, row.number("paddr")?);
    let (size, count) = (row.number("pgsize")?, row.number("pgcount")?);
    let refused = row.flag("ret")?;
    // The other implementation stops at the end of a table.
    let mapped = row.number("mapped")?;
    let pages = if refused || size == 0 { count } else { mapped / size };
    let prot = ground::prot(row.number("prot")?);
    let result = table.map_pages(Iova::new(iova), PhysAddr::new(pa), size, pages as usize, prot);
    differences.expect("refused", u8::from(result.is_err()), u8::from(refused));
    let walk = table.walk(Iova::new(iova));
    if let Some((level, _, _)) = walk.steps[0] {
        differences.column(row, "start_level", level as u64)?;
    }
    if !refused {
        entries(&mut differences, row, &*table, iova)?;
    }
    let end = iova.wrapping_add(size.wrapping_mul(count));
    let at = |iova: u64| ground::translation(&*table, iova);
    differences.column(row, "xlate_first_plus_42", at(iova.wrapping_add(42)))?;
    differences.column(row, "xlate_last_byte", at(end.wrapping_sub(1)))?;
    differences.column(row, "xlate_one_past_end", at(end))?;
    ground.free(table)?;
    Ok(differences)
}

/// Indices of every level, and the leaf's word.
fn entries(
    differences: &mut Differences,
    row: Row<'_>,
    table: &dyn PageTable,
    iova: u64,
) -> Result<()> {
    let walk = table.walk(Iova::new(iova));
    let granule = table.config().pgsize_bitmap.trailing_zeros();
    for (level, index, word) in walk.steps.into_iter().flatten() {
        let Some(expected) = row.optional(&format!("idx{level}"))? else {
            differences.note(format!("an entry at level {level}"));
            continue;
        };
        // Concatenated roots count on; ours are indexed table by table.
        let entries = 1u64 << (granule - 3);
        differences.expect("idx", index as u64, expected & (entries - 1));
        let shift = granule + (3 - level) as u32 * (granule - 3);
        let input = iova & ((1 << table.config().ias) - 1);
        if expected >= entries {
            differences.expect("idx of concatenated roots", input >> shift, expected);
        }
        if walk.leaf.is_some_and(|leaf| leaf.level == level) {
            differences.column(row, &format!("pte{level}"), word)?;
        }
    }
    Ok(())
}

/// lpae_sequences.csv.
pub fn sequences(text: &str) -> Result<Compared> {
    let mut compared = Compared::default();
    let ground = Ground::new(4096)?;
    let mut current: Option<Sequence> = None;
    for row in Table::new(text)?.rows() {
        let name = row.get("seq")?;
        if let Some(sequence) = &current
            && sequence.differs
            && sequence.name == name
        {
            compared.skip("after a difference in their sequence");
            continue;
        }
        let result = judge(row, sequence_row(&ground, row, &mut current));
        if let Some(sequence) = &mut current {
            sequence.differs |= result.is_err();
        }
        compared.row(result);
    }
    if let Some(sequence) = current {
        ground.free(sequence.table)?;
    }
    Ok(compared)
}

/// The sequence being replayed.
struct Sequence {
    name: String,
    table: Box<dyn PageTable>,
    /// A row of it differed: what follows starts from another state.
    differs: bool,
}

fn sequence_row(
    ground: &Ground,
    row: Row<'_>,
    current: &mut Option<Sequence>,
) -> Result<Differences> {
    let mut differences = Differences::default();
    let name = row.get("seq")?;
    let sequence = match current.take() {
        Some(sequence) if sequence.name == name => current.insert(sequence),
        other => {
            if let Some(old) = other {
                ground.free(old.table)?;
            }
            let table = ground.table(&ground::plain(row)?).context("the table is refused")?;
            current.insert(Sequence { name: name.to_owned(), table, differs: false })
        }
    };
    let table = &mut sequence.table;
    let iova = Iova::new(row.number("iova")?);
    let (size, count) = (row.number("pgsize")?, row.number("pgcount")?);
    let bytes = row.number("bytes_done")?;
    // As for single maps: where it stopped at the end of a table, so do we.
    let pages = if bytes > 0 { bytes / size.max(1) } else { count } as usize;
    let (failed, done) = match row.get("op")? {
        "map" => {
            let (pa, prot) = (row.number("paddr")?, ground::prot(row.number("prot")?));
            match table.map_pages(iova, PhysAddr::new(pa), size, pages, prot) {
                Ok(()) => (false, size * pages as u64),
                Err(_) => (true, 0),
            }
        }
        _ => {
            let mut gather = Gather::new(ground);
            let result = table.unmap_pages(iova, size, pages, &mut gather);
            ground.finish(gather)?;
            match result {
                Ok(bytes) => (false, bytes),
                Err(_) => (true, 0),
            }
        }
    };
    differences.expect("ret", u8::from(failed), u8::from(row.flag("ret")?));
    differences.expect("bytes_done", done, bytes);
    differences.column(row, "xlate_iova_after", ground::translation(&**table, iova.get()))?;
    Ok(differences)
}
