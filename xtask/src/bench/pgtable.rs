//! Page tables: instructions of every operation, ours through `dyn PageTable` with
//! the hypervisor's own table memory, the peers beside them. What the loops and
//! calls of the measurement cost by themselves is measured too and taken off, and
//! so is the zeroing of tables: every pool is zeroed already.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use serde_json::{Map, Value, json};

use crate::bench::callgrind::count;
use crate::bench::command::Numbers;
use crate::setup;
use crate::workspace::{Workspace, cargo};

/// The function that is counted.
pub(super) const REGION: &str = "palisade_measured_region";
/// The peers, as the program and the report call them.
const PEERS: [&str; 2] = ["aarch64-paging", "page_table_multiarch"];

/// An operation: its name, the goal, the unit, and what to know about it.
struct Row {
    name: &'static str,
    goal: f64,
    unit: &'static str,
    why: &'static str,
}

const fn row(name: &'static str, goal: f64, unit: &'static str, why: &'static str) -> Row {
    Row { name, goal, unit, why }
}

const ROWS: &[Row] = &[
    row("map_one", 100.0, "call", "4 KiB pages one after the other"),
    row(
        "unmap_one",
        100.0,
        "call",
        "ours gathers all calls and invalidates once; page_table_multiarch frees no table",
    ),
    row("map_256", 6.0, "page", "256 pages per call"),
    row(
        "unmap_256",
        8.0,
        "page",
        "256 pages per call, invalidated and released with each; page_table_multiarch frees no table",
    ),
    row("unmap_1g", 0.14, "page", "one call, tables released; page_table_multiarch frees no table"),
    row("map_2m_blocks", 14.0, "block", "64 GiB in one call"),
    row(
        "translate_4k",
        50.0,
        "call",
        "random addresses in 256 MiB, within the reach of our walk cache",
    ),
    row(
        "translate_2m",
        45.0,
        "call",
        "random addresses in 512 MiB, within the reach of our walk cache",
    ),
    row(
        "split_2m",
        3000.0,
        "block",
        "page_table_multiarch cannot split; ours breaks before it makes, and unmaps a page",
    ),
    row(
        "churn_64k",
        450.0,
        "pair",
        "map and unmap 16 pages at random in 1 GiB, half of it mapped; page_table_multiarch frees no table",
    ),
];

/// Builds the program, counts, prints the table.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    setup::valgrind()?;
    let program = build(workspace)?;
    say(&format!(
        "{:14} {:>9} {:>9} {:>15} {:>21}",
        "instructions", "ours", "goal", PEERS[0], PEERS[1]
    ));
    let mut numbers = Numbers::new();
    for row in ROWS {
        let _step = crate::progress::step(row.name);
        let net = |who: &str| -> Result<Option<f64>> {
            let Some(counted) = count(&program, &[who, row.name], REGION)? else {
                return Ok(None);
            };
            let loops = count(&program, &["nothing", row.name], REGION)?;
            let loops = loops.context("the empty loop did not run")?;
            let each = (counted.instructions - loops.instructions) / counted.units;
            Ok(Some((each * 100.0).round() / 100.0))
        };
        let ours = net("ours")?.with_context(|| format!("{}: not measured", row.name))?;
        let mut peers = Map::new();
        let mut line = format!("{:14} {ours:>9.2} {:>9}", row.name, row.goal);
        for (peer, width) in PEERS.iter().zip([15, 21]) {
            let number = net(peer)?;
            let text = number.map_or_else(|| "–".to_owned(), |number| format!("{number:.2}"));
            line.push_str(&format!(" {text:>width$}"));
            peers.insert((*peer).to_owned(), number.map_or(Value::Null, Value::from));
        }
        let missed = if ours > row.goal { "  above the goal" } else { "" };
        say(&format!("{line}  per {}{missed}", row.unit));
        numbers.insert(
            row.name.to_owned(),
            json!({
                "ours": ours,
                "goal": row.goal,
                "unit": format!("instructions per {}", row.unit),
                "peers": peers,
                "why": row.why,
            }),
        );
    }
    Ok(numbers)
}

/// The measuring program, under the profile that ships.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let _step = crate::progress::step("building palisade-bench");
    let status = cargo()
        .args(["build", "--quiet", "--release", "--package", "palisade-bench"])
        .current_dir(&workspace.root)
        .status()
        .context("cargo does not start")?;
    if !status.success() {
        bail!("palisade-bench does not build");
    }
    Ok(workspace.target.join("release/palisade-bench"))
}
