//! EL2's control registers: which are written on which core, and as what.

use std::collections::BTreeMap;

use palisade_hal::controls::{Control, init_core, table};
use palisade_hal::fake::controls::take_written;
use palisade_hal::fake::guest as fake;

/// The ID registers by which a core says what it has: CRm, op2.
const IDS: [(u8, u8); 10] =
    [(4, 0), (4, 1), (5, 0), (5, 1), (6, 0), (6, 1), (6, 2), (7, 0), (7, 1), (7, 3)];

fn written(ids: u64) -> (BTreeMap<&'static str, u64>, BTreeMap<&'static str, u64>) {
    fake::clear();
    for (crm, op2) in IDS {
        fake::set_id_register(crm, op2, ids);
    }
    take_written();
    init_core();
    let named = table().filter_map(|Control { name, value, .. }| Some((name, value?)));
    (take_written(), named.collect())
}

#[test]
fn a_plain_core_writes_what_every_core_has() {
    let (written, named) = written(0);
    let names: Vec<&str> = named.keys().copied().collect();
    assert_eq!(
        names,
        [
            "CNTHCTL_EL2",
            "CNTHP_CTL_EL2",
            "CNTVOFF_EL2",
            "CPTR_EL2",
            "HACR_EL2",
            "HSTR_EL2",
            "MDCR_EL2"
        ]
    );
    assert_eq!(written.len(), names.len());
    assert_eq!(named["CPTR_EL2"], 0x33ff | 1 << 20, "no bit of what is not there");
    assert_eq!(named["MDCR_EL2"], 0x8_4860, "no bit of a PMU");
}

#[test]
fn a_core_with_everything_writes_every_row_and_hides_it() {
    // 2 in every field: the newest fine-grained traps, the newest counter offset, a PMU.
    let (written, named) = written(0x2222_2222_2222_2222);
    assert_eq!(written.len(), table().count(), "every row");
    assert_eq!(named.len(), written.len());
    assert_ne!(named["CPTR_EL2"] & 1 << 30, 0, "TAM");
    assert_eq!(named["MDCR_EL2"] & 0x1f, 6, "HPMN");
    assert_eq!(named["HCRX_EL2"], 1 << 6, "TALLINT, and nothing switched on");
    assert_eq!(named["MPAM2_EL2"], 0b11 << 48 | 1 << 58);
    assert_eq!(named["MPAMHCR_EL2"], 1 << 31);
    let zero = ["HFGRTR_EL2", "HFGWTR2_EL2", "VSESR_EL2", "VDISR_EL2", "MPAM1_EL1", "SCXTNUM_EL2"];
    assert!(zero.iter().all(|name| named[name] == 0));
}

#[test]
fn every_row_has_its_own_register_and_a_reason() {
    let rows: Vec<Control> = table().collect();
    let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(rows.iter().all(|row| row.reason.len() > 10));
}

#[test]
fn counting_at_el2_is_prohibited_where_the_pmu_can_be_told() {
    fake::clear();
    let bits = |version: u64| {
        fake::set_id_register(5, 0, version << 8);
        let row = table().find(|row| row.name == "MDCR_EL2").and_then(|row| row.value);
        row.map(|value| (value >> 17 & 1, value >> 23 & 1, value & 0x1f))
    };
    assert_eq!(bits(1), Some((0, 0, 6)));
    assert_eq!(bits(4), Some((1, 0, 6)));
    assert_eq!(bits(6), Some((1, 1, 6)));
    assert_eq!(bits(15), Some((0, 0, 0)), "somebody's own");
}
