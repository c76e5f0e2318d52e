//! Sharing address spaces: what each call of a guest costs, in instructions from its registers to
//! the driver's commands, and in what the SMMU sees of it. Every row is one VM exit per call;
//! scenario `sva` counts those. The heap is the host's.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use serde_json::json;

use crate::bench::callgrind::count;
use crate::bench::command::Numbers;
use crate::bench::pgtable::{REGION, build};
use crate::setup;
use crate::workspace::Workspace;

/// Operations, and what each is.
const ROWS: &[(&str, &str)] = &[
    ("sva_bind", "BIND of a process of its own"),
    ("sva_rebind", "BIND of a bound substream to another process"),
    ("sva_unbind", "UNBIND"),
    ("sva_invalidate_page", "INVALIDATE of 4 KiB"),
    ("sva_invalidate_range_2m", "INVALIDATE of 2 MiB of any entries"),
    ("sva_invalidate_range_1g", "INVALIDATE of 1 GiB of any entries"),
    ("sva_invalidate_batch_of_64", "INVALIDATE_BATCH of 64 pages: one exit"),
];

/// What the SMMU saw, in the order in which the program prints it.
const SEEN: [&str; 4] = ["commands", "syncs", "prod_writes", "mmio"];

/// Builds the program, counts, prints the table.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    setup::valgrind()?;
    let program = build(workspace)?;
    let mut numbers = Numbers::new();
    for (name, about) in ROWS {
        let _step = crate::progress::step(name);
        let counted = count(&program, &["sharing", name], REGION)?;
        let counted = counted.with_context(|| format!("{name}: not measured"))?;
        let instructions = (counted.instructions / counted.units).round();
        let seen = seen(&program, name)?;
        let parts: Vec<String> =
            SEEN.iter().zip(seen).map(|(what, count)| format!("{count} {what}")).collect();
        say(&format!("{name:26} {instructions:>6} instructions, {}  ({about})", parts.join(", ")));
        let mut ours = json!({ "instructions": instructions, "exits": 1 });
        for (what, count) in SEEN.iter().zip(seen) {
            ours[what] = count.into();
        }
        let value = json!({
            "ours": ours,
            "unit": "per call",
            "goal": null,
            "peers": {},
            "why": format!("{about}; no peer shares address spaces with devices"),
        });
        numbers.insert((*name).to_owned(), value);
    }
    Ok(numbers)
}

/// What the SMMU saw per call.
fn seen(program: &Path, name: &str) -> Result<[u64; 4]> {
    let output = Command::new(program)
        .args(["commands", name])
        .stdin(Stdio::null())
        .output()
        .context("the program does not start")?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    per_call(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{name}: odd counts"))
}

/// `units commands syncs prod-writes accesses`, the last four divided by the first, which must
/// divide them: every call costs the same.
fn per_call(line: &str) -> Option<[u64; 4]> {
    let words: Option<Vec<u64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
    let [units, commands, syncs, prod_writes, accesses]: [u64; 5] = words?.try_into().ok()?;
    let counts = [commands, syncs, prod_writes, accesses];
    let even = units > 0 && counts.iter().all(|count| count % units == 0);
    even.then(|| counts.map(|count| count / units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_per_call_and_even() {
        assert_eq!(per_call("32 64 96 32 128\n"), Some([2, 3, 1, 4]));
        assert_eq!(per_call("32 64 96 33 128"), None);
        assert_eq!(per_call("0 0 0 0 0"), None);
        assert_eq!(per_call("1 2 3 4"), None);
    }
}
