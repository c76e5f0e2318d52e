//! Scenario `burst`: more input at once than anybody takes at once.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::drive::{Job, disk, operator};
use crate::outcome::Check;
use crate::record::{Records, number, text};
use crate::session::Session;

const VM: &str = "listener";
const PATIENCE: Duration = Duration::from_secs(240);
/// Lines that are typed at the prompt at once, each of so many bytes.
const LINES: usize = 1024;
const LINE: usize = 100;
/// Bytes that are typed to the guest at once.
const BURST: usize = 100 << 10;
/// No command, and a word that its answer repeats.
const NONSENSE: &str = "nonsense";

/// Plays the host's part.
pub fn drive(_job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(VM, PATIENCE)?;
    let vm = session.vm(VM)?;

    session.send(vm, &[b'x'; 5000]);
    checks.push(prompt(session, "prompt-after-5000-bytes-to-the-guest"));
    // Ends the line of x, which is no command, and is itself one.
    session.send(vm, b"\n");
    session.any_answer(VM, "5000 bytes", PATIENCE)?;
    let answer = session.command(VM, "echo", PATIENCE)?;
    checks.push(Check::new("guest-after-5000-bytes", answer == "ok", json!(answer)));

    checks.push(lines(session)?);

    session.begin(VM, "count")?;
    session.wait_a_while(Duration::from_millis(500))?;
    let lost_before = lost(session)?;
    session.send(vm, &[b'y'; BURST]);
    let answer = session.answer(VM, "count", PATIENCE)?;
    let lost = lost(session)? - lost_before;
    let taken = disk::field(&answer, "bytes").unwrap_or(0);
    let evidence = json!({ "sent": BURST, "taken": taken, "lost": lost });
    let whole = taken + lost == BURST as u64;
    checks.push(Check::new("bytes-taken-and-lost-add-up", whole, evidence));
    let overruns = disk::field(&answer, "overruns").unwrap_or(0);
    let evidence = json!({ "lost": lost, "overruns": overruns });
    let told = (lost > 0) == (overruns > 0) && overruns <= lost && lost > 0;
    checks.push(Check::new("guest-is-told-of-its-overrun", told, evidence));
    checks.push(prompt(session, "prompt-after-100-KB-to-the-guest"));
    session.send(vm, b"off\n");
    session.finish(PATIENCE)
}

/// Whether the prompt still answers.
fn prompt(session: &mut Session, name: &str) -> Check {
    match operator::tell(session, "help") {
        Ok(()) => Check::new(name, true, json!("help: ok")),
        Err(error) => Check::failed(name, &error.to_string()),
    }
}

/// Types many lines at once; each is refused by name, and none is lost or changed.
fn lines(session: &mut Session) -> Result<Check> {
    let name = "every-line-of-100-KB-is-answered";
    let line = |n: usize| format!("{:<width$}", format!("{NONSENSE} {n}"), width = LINE - 1);
    let typed: String = (0..LINES).map(|n| line(n) + "\n").collect();
    let mark = session.records.count();
    session.prompt(typed.as_bytes());
    // Asked after every piece that comes: counted, not copied.
    let enough = |records: &Records| records.since(mark, "operator").count() >= LINES;
    let waited = session.wait("the last line", PATIENCE, enough);
    let said = session.records.since(mark, "operator");
    let said: Vec<&str> = said.filter_map(|record| text(record, "command")).collect();
    let right = said.iter().enumerate().filter(|&(n, said)| *said == line(n)).count();
    let evidence = json!({ "typed": LINES, "answered": said.len(), "right": right });
    Ok(Check::new(name, waited.is_ok() && right == LINES, evidence))
}

/// Bytes of input that the guest has lost, by the hypervisor's count.
fn lost(session: &mut Session) -> Result<u64> {
    let mark = session.records.count();
    operator::tell(session, "stats")?;
    let mut counters = session.records.since(mark, "counters");
    let own = counters.find(|record| text(record, "vm") == Some(VM));
    own.and_then(|record| number(record, "input_lost")).context("no count of lost input")
}
