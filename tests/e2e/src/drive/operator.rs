//! The operator's prompt, as the host types on it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::record::{Records, text};
use crate::session::Session;

const PATIENCE: Duration = Duration::from_secs(30);

/// Types one line and waits for the record of what came of it.
pub fn ask(session: &mut Session, line: &str) -> Result<Value> {
    let mark = session.records.count();
    session.prompt(format!("{line}\n").as_bytes());
    let find = |records: &Records| {
        let mut said = records.since(mark, "operator");
        said.find(|record| text(record, "command") == Some(line)).cloned()
    };
    session
        .wait(&format!("the operator's {line:?}"), PATIENCE, |records| find(records).is_some())?;
    find(&session.records).context("the record is gone")
}

/// Whether a record says that the command did what it says.
#[must_use]
pub fn is_ok(record: &Value) -> bool {
    record.get("ok").and_then(Value::as_bool) == Some(true)
}

/// Types a line that must be carried out.
pub fn tell(session: &mut Session, line: &str) -> Result<()> {
    let record = ask(session, line)?;
    if !is_ok(&record) {
        bail!("{line}: {}", text(&record, "error").unwrap_or("refused without a reason"));
    }
    Ok(())
}

/// Types a line that must be refused; gives the reason, or none if it was carried out.
pub fn refused(session: &mut Session, line: &str) -> Result<Option<String>> {
    let record = ask(session, line)?;
    Ok(if is_ok(&record) { None } else { text(&record, "error").map(str::to_owned) })
}
