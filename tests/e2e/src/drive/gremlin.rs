//! Scenario `gremlin`: `disk` works while `gremlin` does whatever comes to its mind.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use crate::drive::beats::Beats;
use crate::drive::{Job, disk};
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

const VM: &str = "gremlin";
/// Log lines per second that a misbehaving guest may cause.
const LINES_PER_SECOND: u64 = 20;

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(disk::VM, Duration::from_secs(60))?;
    let (start, lines) = (Instant::now(), session.log_lines);
    checks.push(disk::write(session, job.seed, "disk-data-in-guest")?);
    let mut beats = Beats::new(job.seed);
    let gone = |session: &Session| {
        let state = session.records.vm(VM).and_then(|vm| text(vm, "state"));
        matches!(state, Some("off" | "crashed"))
    };
    while !gone(session) {
        beats.beat(session)?;
    }
    let seconds = start.elapsed().as_secs() + 1;
    let lines = session.log_lines - lines;
    for _ in 0..3 {
        beats.beat(session)?;
    }
    checks.push(beats.check("disk-never-falters"));
    let bounded = lines <= seconds * LINES_PER_SECOND;
    let evidence = json!({ "lines": lines, "seconds": seconds, "bound": LINES_PER_SECOND });
    checks.push(Check::new("log-is-bounded", bounded, evidence));
    let vm = session.vm(disk::VM)?;
    session.send(vm, b"off\n");
    let end = session.finish(Duration::from_secs(30));
    // It ends by itself unless it broke itself, which it may.
    let last = session.records.vm(VM).cloned().unwrap_or_default();
    checks.push(Check::new("gremlin-harms-itself-only", end.is_ok(), last));
    end
}
