//! Register stores that do not arrive as they were made, and answers that come too early.

use palisade_host::{Sabotage, StoreFault};

use super::Row;

const CR0: u64 = 0x20;
const GBPA: u64 = 0x44;
const GERRORN: u64 = 0x64;
const STRTAB_BASE: u64 = 0x80;
const STRTAB_BASE_CFG: u64 = 0x88;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const EVENTQ_BASE: u64 = 0xa0;

pub fn rows() -> Vec<Row> {
    use StoreFault::{Clear, Drop, Set};
    let table: &[(&str, u64, StoreFault, &'static str, &'static [&'static str])] = &[
        ("drop-gbpa", GBPA, Drop, "isolation-open-reset", &["reach", "bring-up"]),
        (
            "gbpa-without-update",
            GBPA,
            Clear(1 << 31),
            "isolation-open-reset",
            &["bring-up", "driver-fault"],
        ),
        (
            "gbpa-without-abort",
            GBPA,
            Clear(1 << 20),
            "isolation-open-reset",
            &["reach", "bring-up"],
        ),
        ("cr0-without-atschk", CR0, Clear(1 << 4), "isolation-ats", &["reach", "bring-up"]),
        ("cr0-without-eventqen", CR0, Clear(1 << 2), "isolation", &["event", "bring-up"]),
        ("misaligned-strtab", STRTAB_BASE, Set(1 << 6), "isolation", &["driver-fault"]),
        (
            "drop-strtab-base",
            STRTAB_BASE,
            Drop,
            "isolation",
            &["config", "driver-fault", "reach", "lost"],
        ),
        (
            "wrong-strtab-size",
            STRTAB_BASE_CFG,
            Set(1 << 4),
            "isolation",
            &["config", "driver-fault"],
        ),
        ("misaligned-cmdq", CMDQ_BASE, Set(1 << 5), "isolation", &["driver-fault"]),
        ("misaligned-evtq", EVENTQ_BASE, Set(1 << 5), "isolation", &["driver-fault"]),
        ("drop-cmdq-prod", CMDQ_PROD, Drop, "isolation", &["bring-up"]),
        (
            "cmdq-prod-without-wrap-bit",
            CMDQ_PROD,
            Clear(1 << 4),
            "isolation",
            &["driver-fault", "bring-up", "error"],
        ),
        ("drop-gerrorn", GERRORN, Drop, "recovery", &["error"]),
    ];
    let stores = table.iter().map(|&(name, offset, fault, test, assertions)| Row {
        name: name.into(),
        fault: Sabotage::Store { offset, fault },
        test,
        assertions,
    });
    let answers = [
        Row {
            name: "completion-without-cons".into(),
            fault: Sabotage::ConsFollowsProd,
            test: "isolation",
            assertions: &["reach", "lost", "bring-up", "driver-fault"],
        },
        Row {
            name: "acknowledged-at-once".into(),
            fault: Sabotage::AcknowledgedAtOnce,
            test: "take-over",
            assertions: &["driver-fault", "reach", "lost"],
        },
    ];
    stores.chain(answers).collect()
}
