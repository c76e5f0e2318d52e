//! What the SMMUv3 driver's operations cost: counted by its tests on a minimal SMMU, and their
//! instructions at EL2 on QEMU's; read here.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use serde_json::{Map, Value, json};

use crate::bench::command::Numbers;
use crate::setup;
use crate::test::invalidation;
use crate::workspace::{Workspace, cargo};

/// Most commands and syncs together, where there is a goal.
const GOALS: &[(&str, u64)] =
    &[("smmu_unmap_4k", 2), ("smmu_unmap_256k", 2), ("smmu_unmap_1g", 2), ("smmu_attach", 4)];

/// Runs the counting test and takes its lines.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    let output = cargo()
        .args(["test", "--quiet", "--package", "palisade-smmuv3", "--test", "driver", "--"])
        .args(["--exact", "budget::table", "--nocapture"])
        .current_dir(&workspace.root)
        .output()
        .context("cargo does not start")?;
    if !output.status.success() {
        bail!("the counting test failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut numbers = parse(&String::from_utf8_lossy(&output.stdout))?;
    if numbers.is_empty() {
        bail!("the counting test said nothing");
    }
    setup::target()?;
    add_instructions(&mut numbers, invalidation::operations(workspace, &setup::qemu(None)?.path)?)?;
    for (name, value) in &numbers {
        let cost = value.get("ours").map(Value::to_string).unwrap_or_default();
        let goal = value.get("goal").and_then(Value::as_u64);
        let goal = goal.map_or_else(String::new, |goal| format!(", goal {goal} commands + syncs"));
        say(&format!("{name}: {cost}{goal}"));
    }
    Ok(numbers)
}

/// Puts the instructions beside the rest.
fn add_instructions(numbers: &mut Numbers, counted: BTreeMap<String, u64>) -> Result<()> {
    for (name, instructions) in counted {
        let cost = numbers.get_mut(&name).and_then(|value| value.get_mut("ours"));
        let cost = cost.and_then(Value::as_object_mut);
        let cost = cost.with_context(|| format!("{name}: instructions of an unknown operation"))?;
        cost.insert("instructions".to_owned(), instructions.into());
    }
    Ok(())
}

/// `cost NAME key=value…` lines to numbers.
fn parse(text: &str) -> Result<Numbers> {
    let mut numbers = Numbers::new();
    for line in text.lines() {
        let Some(at) = line.find("cost smmu_") else { continue };
        let mut words = line[at..].split_whitespace().skip(1);
        let name = words.next().context("a cost without a name")?;
        let mut cost = Map::new();
        for word in words {
            let (key, value) = word.split_once('=').with_context(|| format!("{word}: no ="))?;
            let value: u64 = value.parse().with_context(|| format!("{word}: no number"))?;
            cost.insert(key.to_owned(), value.into());
        }
        let goal = GOALS.iter().find(|(known, _)| *known == name).map(|(_, goal)| *goal);
        let value = json!({
            "ours": cost,
            "unit": "commands, syncs, PROD writes, register accesses, A64 instructions",
            "goal": goal,
            "peers": {},
        });
        numbers.insert(name.to_owned(), value);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_numbers() {
        let text = "running 1 test\ncost smmu_attach commands=2 syncs=2\nnoise\n.cost smmu_x a=1\n";
        let numbers = parse(text).unwrap();
        assert_eq!(numbers.len(), 2);
        assert_eq!(numbers["smmu_attach"]["ours"]["commands"], 2);
        assert_eq!(numbers["smmu_attach"]["goal"], 4);
        assert!(parse("cost smmu_x a=b").is_err());
    }

    #[test]
    fn instructions_stand_beside_the_rest_and_belong_to_something() {
        let mut numbers = parse("cost smmu_attach commands=2\n").unwrap();
        let counted = |name: &str| BTreeMap::from([(name.to_owned(), 1234)]);
        add_instructions(&mut numbers, counted("smmu_attach")).unwrap();
        assert_eq!(numbers["smmu_attach"]["ours"]["instructions"], 1234);
        assert!(add_instructions(&mut numbers, counted("smmu_other")).is_err());
    }
}
