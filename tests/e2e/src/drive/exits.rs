//! What each of a guest's exits costs: the payload counts, its scenario says what was counted last.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::drive::Job;
use crate::outcome::Check;
use crate::session::Session;

/// The check's name.
pub const CHECK: &str = "no-exit-grew";
/// The check's evidence: what was counted, by name.
pub const COUNTED: &str = "counted";

/// An exit's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The cheapest.
    pub least: u64,
    /// All of them, by their number, rounded.
    pub average: u64,
    /// The dearest.
    pub most: u64,
}

impl Cost {
    fn value(self) -> Value {
        json!({ "least": self.least, "average": self.average, "most": self.most })
    }

    /// Reads it from the check's evidence.
    #[must_use]
    pub fn read(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name)?.as_u64();
        let (least, average) = (number("least")?, number("average")?);
        Some(Self { least, average, most: number("most")? })
    }
}

/// Waits for the machine's end, then compares.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let end = session.finish(Duration::from_secs(job.scenario.timeout));
    let said: Vec<&String> = job.vms.iter().flat_map(|vm| session.said(vm)).collect();
    let counted = parse(&said);
    let whole = said.iter().any(|line| line.starts_with("ok rounds="));
    let wrong = differences(&job.scenario.instructions, &counted);
    let values = counted.iter().map(|(name, cost)| (name.clone(), cost.value()));
    let evidence = json!({
        COUNTED: Value::Object(values.collect()),
        "wrong": wrong,
        "last_line": said.last(),
    });
    checks.push(Check::new(CHECK, whole && wrong.is_empty(), evidence));
    end
}

/// Lines of the form `exit NAME least=N average=N most=N`.
fn parse(lines: &[&String]) -> BTreeMap<String, Cost> {
    let cost = |line: &str| {
        let mut words = line.strip_prefix("exit ")?.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number =
            |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok();
        let (least, average) = (number("least")?, number("average")?);
        Some((name, Cost { least, average, most: number("most")? }))
    };
    lines.iter().filter_map(|line| cost(line)).collect()
}

/// What grew by more than a twentieth, and what is only here or only there.
fn differences(recorded: &BTreeMap<String, u64>, counted: &BTreeMap<String, Cost>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, &before) in recorded {
        match counted.get(name) {
            None => wrong.push(format!("{name}: not counted")),
            Some(now) if u128::from(now.average) * 20 > u128::from(before) * 21 => {
                wrong.push(format!("{name}: {} instructions, {before} were recorded", now.average));
            }
            Some(_) => {}
        }
    }
    let strangers = counted.keys().filter(|name| !recorded.contains_key(*name));
    wrong.extend(strangers.map(|name| format!("{name}: nothing recorded")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_by_more_than_a_twentieth_is_wrong_and_so_is_a_gap() {
        let lines = ["exit a least=99 average=105 most=110", "exit b least=1 average=106 most=2"];
        let mut lines: Vec<String> = lines.map(str::to_owned).to_vec();
        lines.push("exit broken least=1".to_owned());
        let counted = parse(&lines.iter().collect::<Vec<_>>());
        assert_eq!(counted["a"], Cost { least: 99, average: 105, most: 110 });
        assert_eq!(counted.len(), 2);
        let recorded =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 100)).collect();
        let wrong = differences(&recorded(&["a", "b"]), &counted);
        assert_eq!(wrong, ["b: 106 instructions, 100 were recorded"]);
        let wrong = differences(&recorded(&["a", "c"]), &counted);
        assert_eq!(wrong, ["c: not counted", "b: nothing recorded"]);
    }

    #[test]
    fn evidence_is_read_back() {
        let cost = Cost { least: 1, average: 2, most: 3 };
        assert_eq!(Cost::read(&cost.value()), Some(cost));
        assert_eq!(Cost::read(&json!({ "least": 1 })), None);
    }
}
