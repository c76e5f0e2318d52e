//! Checks, the verdict and the JSON report.

use serde_json::{Value, json};

use crate::console::{Paint, say};
use crate::record::{Records, number, text};

/// One check with the values that decided it.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name in the scenario's list.
    pub name: String,
    /// Whether it passed.
    pub passed: bool,
    /// The measured values, an object.
    pub evidence: Value,
}

impl Check {
    /// A check that was made.
    #[must_use]
    pub fn new(name: &str, passed: bool, evidence: Value) -> Self {
        Self { name: name.to_owned(), passed, evidence }
    }

    /// A check that could not be made.
    #[must_use]
    pub fn failed(name: &str, why: &str) -> Self {
        Self::new(name, false, json!({ "error": why }))
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// The board's name.
    pub board: String,
    /// All checks of the scenario's list, in its order, then any others.
    pub checks: Vec<Check>,
    /// Why the run stopped early.
    pub error: Option<String>,
    /// What the hypervisor reported.
    pub records: Records,
}

impl Outcome {
    /// Puts the checks made in the order of the fixed list; a missing one is a failed one.
    #[must_use]
    pub fn judge(
        scenario: &str,
        board: &str,
        list: &[String],
        made: Vec<Check>,
        error: Option<String>,
        records: Records,
    ) -> Self {
        let mut made = made;
        // A check that the hypervisor makes itself counts like one of ours.
        for record in records.of("check") {
            let Some(name) = text(record, "name") else { continue };
            let passed = record.get("passed").and_then(Value::as_bool) == Some(true);
            let evidence = record.get("evidence").cloned().unwrap_or_else(|| json!({}));
            made.push(Check::new(name, passed, evidence));
        }
        let mut checks = Vec::new();
        for name in list {
            let mut same = made.iter().filter(|check| check.name == *name);
            let worst = same.clone().find(|check| !check.passed).or_else(|| same.next());
            checks.push(match worst {
                Some(check) => check.clone(),
                None => Check::failed(name, error.as_deref().unwrap_or("never made")),
            });
        }
        checks.extend(made.into_iter().filter(|check| !list.contains(&check.name)));
        // What the hypervisor says of its own death tells more than that QEMU is gone.
        let mut error = death(&records).or(error);
        if error.is_none() && !records.broken().is_empty() {
            error = Some(format!("{} broken lines in the report", records.broken().len()));
        }
        if error.is_none() && !records.ended() {
            error = Some("the report has no end record".to_owned());
        }
        Self { scenario: scenario.to_owned(), board: board.to_owned(), checks, error, records }
    }

    /// Whether everything is as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error.is_none()
            && !self.checks.is_empty()
            && self.checks.iter().all(|check| check.passed)
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let bare = |record: &Value| {
            let mut record = record.clone();
            if let Some(fields) = record.as_object_mut() {
                fields.remove("type");
            }
            record
        };
        let all = |kind| self.records.of(kind).map(bare).collect::<Vec<_>>();
        let last = |kind| self.records.of(kind).next_back().map_or_else(|| json!({}), bare);
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| {
                json!({"name": check.name, "passed": check.passed, "evidence": check.evidence})
            })
            .collect();
        let vms: Vec<Value> = self.records.vms().into_iter().map(bare).collect();
        let posture: Vec<Value> = self.records.posture().iter().map(bare).collect();
        json!({
            "scenario": self.scenario,
            "verdict": if self.passed() { "pass" } else { "fail" },
            "error": self.error,
            "checks": checks,
            "board": self.board,
            "smmus": all("smmu"),
            "vms": vms,
            "posture": posture,
            "faults": all("fault"),
            "footprint": last("footprint"),
            "timing": last("timing"),
            "counters": all("counters"),
            "device_counters": all("device_counters"),
        })
    }

    /// Prints checks with evidence, the posture table and the verdict.
    pub fn show(&self) {
        let paint = Paint::stdout();
        say("");
        say(&paint.head("checks"));
        for check in &self.checks {
            let word = if check.passed { paint.good("pass") } else { paint.bad("FAIL") };
            say(&format!("  {word}  {}", check.name));
            for line in evidence(&check.evidence) {
                say(&paint.dim(&format!("          {line}")));
            }
        }
        self.show_posture(paint);
        if let Some(error) = &self.error {
            say(&format!("{}: {error}", paint.bad("error")));
        }
        let passed = self.checks.iter().filter(|check| check.passed).count();
        let word = if self.passed() { paint.good("pass") } else { paint.bad("fail") };
        say("");
        say(&format!(
            "verdict: {word} ({}: {passed} of {} checks passed)",
            self.scenario,
            self.checks.len()
        ));
    }

    fn show_posture(&self, paint: Paint) {
        let posture = self.records.posture();
        if posture.is_empty() {
            return;
        }
        say("");
        say(&paint.head("DMA posture"));
        let row = |cells: [&str; 6]| {
            let [stream, device, owner, state, condition, isolation] = cells;
            say(&format!(
                "  {stream:<8} {device:<24} {owner:<12} {state:<8} {condition:<12} {isolation}"
            ));
        };
        row(["stream", "device", "owner", "state", "condition", "dma_isolation"]);
        for entry in &posture {
            let stream = number(entry, "stream").map_or("-".to_owned(), |n| format!("{n:#06x}"));
            let field = |name| text(entry, name).unwrap_or("-");
            row([
                &stream,
                field("device"),
                field("owner"),
                field("state"),
                field("condition"),
                field("dma_isolation"),
            ]);
        }
    }
}

/// The hypervisor's own words about why it stopped.
fn death(records: &Records) -> Option<String> {
    let word = |record: &Value, field| text(record, field).unwrap_or("nothing").to_owned();
    if let Some(record) = records.of("panic").next() {
        let place = text(record, "location").unwrap_or("?");
        let line = number(record, "line").unwrap_or(0);
        return Some(format!("the hypervisor died: {} ({place}:{line})", word(record, "message")));
    }
    let record = records.of("error").next()?;
    Some(format!("the hypervisor gave up: {}", word(record, "message")))
}

/// An evidence object as short lines.
fn evidence(value: &Value) -> Vec<String> {
    let Some(fields) = value.as_object() else { return vec![value.to_string()] };
    fields
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}: {text}"),
            other => format!("{name}: {other}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Records {
        let mut records = Records::default();
        records.take(r#"{"type":"end"}"#);
        records
    }

    fn judge(made: Vec<Check>, error: Option<&str>, records: Records) -> Outcome {
        let list = ["one".to_owned(), "two".to_owned()];
        Outcome::judge("s", "qemu-virt", &list, made, error.map(str::to_owned), records)
    }

    #[test]
    fn only_a_whole_list_and_a_whole_report_pass() {
        let good = |name| Check::new(name, true, json!({}));
        let bad = |name| Check::new(name, false, json!({}));
        assert!(judge(vec![good("two"), good("one")], None, ended()).passed());
        assert!(!judge(vec![good("one")], None, ended()).passed(), "a missing check");
        assert!(!judge(vec![good("one"), bad("two")], None, ended()).passed());
        assert!(!judge(vec![good("one"), good("two")], Some("time-out"), ended()).passed());
        let no_end = judge(vec![good("one"), good("two")], None, Records::default());
        assert!(!no_end.passed(), "no end record");
        let twice = judge(vec![good("one"), good("two"), bad("one")], None, ended());
        assert!(!twice.passed(), "a check that failed once");
        let mut died = ended();
        died.take(r#"{"type":"panic","message":"x","location":"a.rs","line":3}"#);
        let died = judge(vec![good("one"), good("two")], None, died);
        assert!(!died.passed() && died.error.is_some_and(|error| error.contains("a.rs:3")));
        let mut torn = ended();
        torn.take("{torn");
        assert!(!judge(vec![good("one"), good("two")], None, torn).passed());
    }

    #[test]
    fn the_report_is_written_even_when_nothing_ran() {
        let json = judge(Vec::new(), Some("no QEMU"), Records::default()).json();
        assert_eq!(json["verdict"], "fail");
        assert_eq!(json["checks"].as_array().map(Vec::len), Some(2));
        assert!(json["posture"].is_array() && json["faults"].is_array());
    }
}
