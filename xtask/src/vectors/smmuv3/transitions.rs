//! Updates of live entries.

use anyhow::{Context, Result};
use palisade_smmuv3::entry::encode::{
    CdStage1, ImageFeatures, SteStage1, SteStage2, cd_quiesced, cd_stage1, ste_abort, ste_bypass,
    ste_nested, ste_stage1, ste_stage2,
};
use palisade_smmuv3::spec::{Cd, S1Dss, S1Fmt, Ste};

use super::recorder::{Kind, Seen, update};
use super::words::{Words, words};
use crate::vectors::compared::Compared;
use crate::vectors::table::{Row, Table};

/// One update of smmuv3_entry_transitions.csv.
struct Case<'a> {
    name: &'a str,
    old: Words,
    new: Words,
    expected: Seen,
    rows: usize,
}

fn judge(name: &str, kind: Kind, old: &Words, new: &Words, expected: Seen) -> Result<(), String> {
    match update(kind, old, new) {
        Err(why) => Err(format!("{name}: {why}")),
        Ok(seen) if seen != expected => Err(format!("{name}: {seen:?} instead of {expected:?}")),
        Ok(_) => Ok(()),
    }
}

/// smmuv3_entry_transitions.csv: sync counts, hitlessness, and every image.
///
/// # Errors
/// For a row that cannot be understood.
pub fn transitions(text: &str) -> Result<Compared> {
    let table = Table::new(text)?;
    let mut cases: Vec<Case<'_>> = Vec::new();
    for row in table.rows() {
        let name = row.get("case")?;
        if row.get("state")? == "initial" {
            let image = words(row)?;
            let expected = expected(row, "expected_hitless")?;
            cases.push(Case { name, old: image, new: image, expected, rows: 1 });
        } else {
            let case = cases.last_mut().filter(|case| case.name == name);
            let case = case.with_context(|| format!("{name}: no initial row"))?;
            case.new = words(row)?;
            case.rows += 1;
        }
    }
    let mut compared = Compared::default();
    for case in &cases {
        let kind = if case.name.starts_with("cd_") { Kind::Cd } else { Kind::Ste };
        compared.row(judge(case.name, kind, &case.old, &case.new, case.expected));
        compared.rows += case.rows - 1;
    }
    Ok(compared)
}

fn expected(row: Row<'_>, hitless: &str) -> Result<Seen> {
    Ok(Seen { syncs: row.number("expected_syncs")?, hitless: row.number(hitless)? == 1 })
}

const FEATURES: ImageFeatures =
    ImageFeatures { attr_types_ovr: true, e2h: false, stalls_configurable: true };

fn stage1(dss: S1Dss, pointer: u64, stall: bool) -> SteStage1 {
    SteStage1 {
        s1_fmt: S1Fmt::Leaf64K,
        s1_context_ptr: pointer,
        s1_cd_max: 16,
        s1_dss: dss,
        stall,
        ats: !stall,
    }
}

fn stage2(ats: bool, stall: bool) -> SteStage2 {
    SteStage2 { vmid: 0, vtcr: 0x2_3558, s2ttb: 0x9000_0000, stall, fwb: false, ats }
}

fn context(asid: u16) -> Words {
    cd_stage1(&CdStage1 {
        t0sz: 16,
        tg0: 0,
        walk: (1, 1, 3),
        ips: 5,
        ha: false,
        hd: false,
        stall: false,
        asid,
        aset: true,
        ttb0: 0xa000_0000,
        mair: 0xf404_ff44,
    })
    .0
}

/// The entries that a named transition is between.
fn named(name: &str, number: u64) -> Option<(Kind, Words, Words)> {
    const TABLE: u64 = 0x8000_0000;
    let one = |dss, pointer, stall| ste_stage1(FEATURES, &stage1(dss, pointer, stall), 0).0;
    let two = |ats, stall| ste_stage2(FEATURES, &stage2(ats, stall)).0;
    let abort = ste_abort().0;
    let bypass = ste_bypass(FEATURES).0;
    let table = one(S1Dss::Substream0, TABLE, false);
    let table_bypass = one(S1Dss::Bypass, TABLE, false);
    let mut nested =
        ste_nested(FEATURES, &stage1(S1Dss::Bypass, TABLE, false), &stage2(true, false)).0;
    Ste::MEV.set(&mut nested, 1);
    let clear = [0; 8];
    let released = cd_quiesced(&Cd(context(778)), false).0;
    let (kind, first, second) = match name.strip_prefix("arm_smmu_v3_write_")? {
        "ste_test_bypass_to_abort" => (Kind::Ste, bypass, abort),
        "ste_test_abort_to_bypass" => (Kind::Ste, abort, bypass),
        "ste_test_cdtable_to_abort" => (Kind::Ste, table, abort),
        "ste_test_abort_to_cdtable" => (Kind::Ste, abort, table),
        "ste_test_cdtable_to_bypass" => (Kind::Ste, table, bypass),
        "ste_test_bypass_to_cdtable" => (Kind::Ste, bypass, table),
        "ste_test_cdtable_s1dss_change" => (Kind::Ste, table, table_bypass),
        "ste_test_s1dssbypass_to_stebypass" => (Kind::Ste, table_bypass, bypass),
        "ste_test_stebypass_to_s1dssbypass" => (Kind::Ste, bypass, table_bypass),
        "ste_test_s2_to_abort" => (Kind::Ste, two(true, false), abort),
        "ste_test_abort_to_s2" => (Kind::Ste, abort, two(true, false)),
        "ste_test_s2_to_bypass" => (Kind::Ste, two(true, false), bypass),
        "ste_test_bypass_to_s2" => (Kind::Ste, bypass, two(true, false)),
        "ste_test_s1_to_s2" => (Kind::Ste, table, two(true, false)),
        "ste_test_s2_to_s1" => (Kind::Ste, two(true, false), table),
        "ste_test_non_hitless" => (Kind::Ste, table, one(S1Dss::Bypass, TABLE + 0x1_0000, false)),
        "ste_test_s1_to_s2_stall" => {
            (Kind::Ste, one(S1Dss::Substream0, TABLE, true), two(false, true))
        }
        "ste_test_s2_to_s1_stall" => {
            (Kind::Ste, two(false, true), one(S1Dss::Substream0, TABLE, true))
        }
        "ste_test_nested_s1dssbypass_to_s1bypass" => (Kind::Ste, nested, two(false, false)),
        "ste_test_nested_s1bypass_to_s1dssbypass" => (Kind::Ste, two(false, false), nested),
        "cd_test_s1_clear" | "cd_test_sva_clear" => (Kind::Cd, clear, context(778)),
        "cd_test_s1_change_asid" => (Kind::Cd, context(778), context(1997)),
        "cd_test_sva_release" => (Kind::Cd, context(778), released),
        _ => return None,
    };
    // The second transition of a case is the way back.
    match number {
        1 => Some((kind, first, second)),
        2 => Some((kind, second, first)),
        _ => None,
    }
}

/// arm_smmu_v3_kunit_cases.csv: the same for transitions known by name.
///
/// # Errors
/// For a row that cannot be understood.
pub fn named_transitions(text: &str) -> Result<Compared> {
    let mut compared = Compared::default();
    for row in Table::new(text)?.rows() {
        let name = row.get("case")?;
        if row.get("transition_no")?.is_empty() {
            compared.skip("no transition of an entry");
            continue;
        }
        let number = row.number("transition_no")?;
        let (kind, old, new) =
            named(name, number).with_context(|| format!("{name} {number}: not known here"))?;
        let label = format!("{name} {number}");
        compared.row(judge(&label, kind, &old, &new, expected(row, "hitless")?));
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = "case,transition_no,expected_syncs,hitless\n";

    #[test]
    fn a_wrong_count_is_a_mismatch() {
        for (syncs, hitless, passed) in [(2, 1, true), (1, 1, false), (2, 0, false)] {
            let row =
                format!("{NAMED}arm_smmu_v3_write_ste_test_bypass_to_abort,1,{syncs},{hitless}\n");
            assert_eq!(named_transitions(&row).unwrap().passed(), passed);
        }
        assert!(named_transitions(&format!("{NAMED}arm_smmu_v3_write_odd,1,1,1\n")).is_err());
    }

    #[test]
    fn an_image_without_its_start_is_an_error() {
        let text = "case,state,q0,q1,q2,q3,q4,q5,q6,q7,expected_syncs,expected_hitless\n\
                    ste_x,after_sync_1,0,0,0,0,0,0,0,0,,\n";
        assert!(transitions(text).is_err());
    }
}
