//! Scenario `reboots`: a guest starts its own machine anew, over and over. Each life is as good as
//! the first: its timer's interrupts come, however many resets lie behind it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use crate::drive::{Job, disk};
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

const VM: &str = "reboots";
/// One life on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
/// Interrupts that each life takes.
const TICKS: u64 = 20;

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let resets = job.scenario.cycles;
    let mut taken = Vec::new();
    for life in 0..=resets {
        ready(session, life)?;
        // A busy host loses no byte: what comes before the guest listens waits in its queue.
        let answer = session.command(VM, &format!("timer {TICKS}"), PATIENCE)?;
        taken.push(disk::field(&answer, "taken"));
        // Every other life ends inside its handler, with the interrupt active.
        let last = if life % 2 == 0 { "reset" } else { "reset-inside" };
        session.begin(VM, if life == resets { "off" } else { last })?;
    }
    let end = session.finish(PATIENCE);
    let all = taken.iter().all(|&ticks| ticks == Some(TICKS));
    let evidence = json!({ "lives": taken.len(), "wanted": TICKS, "taken": taken });
    checks.push(Check::new("every-life-takes-its-interrupts", all && resets > 0, evidence));
    let last = session.records.vm(VM).cloned().unwrap_or_default();
    checks.push(Check::new("goes-off-in-the-end", text(&last, "state") == Some("off"), last));
    end
}

/// Waits until life `life` (from 0) takes commands.
fn ready(session: &mut Session, life: u32) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let ready = |session: &Session| {
        session.said(VM).iter().filter(|line| line.starts_with("ready")).count() > life as usize
    };
    while !ready(session) {
        if !session.pump(until)? && !ready(session) {
            bail!("life {life} was not ready within {} s", PATIENCE.as_secs());
        }
    }
    Ok(())
}
