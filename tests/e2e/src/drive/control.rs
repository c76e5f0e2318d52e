//! Scenario `control`: the same attack with nothing in its way must succeed, or the checks of
//! `isolation` would prove nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::drive::attack::{self, Target, pattern};
use crate::drive::{Job, disk};
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

const BOOT: Duration = Duration::from_secs(60);

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(disk::VM, BOOT)?;
    session.ready(attack::VM, BOOT)?;
    let answer = session.command(disk::VM, "canary", Duration::from_secs(10))?;
    let ipa = disk::field(&answer, "ipa").context("disk's canary has no address")?;
    let physical = session.records.physical(disk::VM, ipa).context("no RAM of disk reported")?;
    let pattern_one = pattern(job.seed, 1);
    let target = Target { iova: physical, physical };
    let (before, after) = attack::write(session, target, pattern_one)?;
    let evidence = json!({
        "target": format!("{physical:#x}"),
        "pattern": format!("{pattern_one:#010x}"),
        "before": attack::hex(&before),
        "after": attack::hex(&after),
    });
    // The attacker's own addresses mean nothing to its device either: what arrives is whatever
    // lies at that number in the machine. It arrives in another's memory.
    let hit = before != after;
    checks.push(Check::new("dma-reaches-foreign-memory", hit, evidence));

    for name in [attack::VM, disk::VM] {
        let vm = session.vm(name)?;
        session.send(vm, b"off\n");
    }
    session.finish(Duration::from_secs(30))?;
    let posture = session.records.posture();
    let says = !posture.is_empty()
        && posture.iter().all(|entry| text(entry, "dma_isolation") == Some("none"));
    checks.push(Check::new("posture-says-none", says, json!({ "posture": posture })));
    Ok(())
}
