//! The end-to-end tests, one row each.

use crate::run::Wish;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The scenario's file.
    pub scenario: &'static str,
    /// QEMU's CPU; the scenario's when none.
    pub cpu: Option<&'static str>,
    /// The machine's GIC; the scenario's when none.
    pub gic: Option<u8>,
    /// Placement.
    pub seed: u64,
}

const fn row(name: &'static str, scenario: &'static str) -> Row {
    Row { name, scenario, cpu: None, gic: None, seed: 1 }
}

/// All rows of the normal mode. What a scenario expects, its file says.
pub const ROWS: &[Row] = &[
    row("hello", "hello"),
    row("isolation", "isolation"),
    Row { cpu: Some("neoverse-n1"), seed: 2, ..row("isolation-neoverse-n1", "isolation") },
    Row { cpu: Some("max"), seed: 3, ..row("isolation-max", "isolation") },
    row("control-without-smmu", "control"),
    row("refused-without-smmu", "refused-no-smmu"),
    row("refused-without-stage-2", "refused-no-stage-2"),
];

impl Row {
    /// What the row changes.
    pub fn wish(&self) -> Wish {
        Wish { seed: self.seed, gic: self.gic, cpu: self.cpu.map(str::to_owned), ..Wish::default() }
    }
}
