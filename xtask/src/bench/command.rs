//! The command: every part measures, prints its table, and adds to one JSON object.

use std::process::ExitCode;

use anyhow::{Context, Result};
use palisade_e2e::console::say;
use serde_json::{Map, Value};

use crate::bench::{entry, exits, guests, pgtable, sharing, smmuv3};
use crate::cli::BenchOptions;
use crate::workspace::Workspace;

/// What a part adds to the JSON object: names of operations and their numbers.
pub type Numbers = Map<String, Value>;

/// A part: its name and how it measures.
type Part = (&'static str, fn(&Workspace) -> Result<Numbers>);

const PARTS: &[Part] = &[
    ("pgtable", pgtable::measure),
    ("smmuv3", smmuv3::measure),
    ("sharing", sharing::measure),
    ("boot", entry::measure),
    ("exits", exits::measure),
];

/// Measures everything there is to measure. What fails is said and fails the whole, but the other
/// parts are measured all the same.
pub fn bench(options: &BenchOptions) -> Result<ExitCode> {
    let workspace = Workspace::open()?;
    let mut numbers = Numbers::new();
    let mut status = ExitCode::SUCCESS;
    let parts: &[Part] = match (options.guests, options.exits) {
        (true, _) if options.iommu => &[("guests", guests::measure_with_iommu)],
        (true, _) => &[("guests", guests::measure)],
        (_, true) => &[("exits", exits::measure)],
        _ => PARTS,
    };
    for (name, measure) in parts {
        match measure(&workspace) {
            Ok(more) => numbers.extend(more),
            Err(error) => {
                say(&format!("{name}: error: {error:#}"));
                status = ExitCode::FAILURE;
            }
        }
    }
    if let Some(path) = &options.json {
        let mut text = serde_json::to_string_pretty(&numbers)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(status)
}
