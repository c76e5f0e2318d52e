//! Nothing to do but to wait for what each VM comes to.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::drive::Job;
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

/// Waits for the machine's end, then compares each VM's last state.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let end = session.finish(Duration::from_secs(job.scenario.timeout));
    for expected in &job.scenario.expected {
        let record = session.records.vm(&expected.vm).cloned().unwrap_or_else(|| json!({}));
        let error = text(&record, "error").unwrap_or("");
        let right = text(&record, "state") == Some(expected.state.as_str())
            && expected.words.iter().all(|word| error.contains(word.as_str()));
        let said = session.said(&expected.vm);
        let says = expected.says.as_deref();
        let heard = says.is_none_or(|says| said.iter().any(|line| line.starts_with(says)));
        let evidence = json!({
            "expected": expected.state,
            "words": expected.words,
            "vm": record,
            "says": says,
            "last_line": said.last(),
        });
        checks.push(Check::new(&expected.check, right && heard, evidence));
    }
    end
}
