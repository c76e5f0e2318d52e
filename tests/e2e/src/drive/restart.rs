//! Scenario `restart`: a Linux boots, works with its disk and powers off, and the operator starts
//! it anew, over and over, beside a VM that works all the time. What the hypervisor holds after
//! each time is what it held after the first.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::drive::beats::Beats;
use crate::drive::operator::{refused, tell};
use crate::drive::{Job, disk, isolation, linux};
use crate::outcome::Check;
use crate::record::number;
use crate::session::Session;

/// The VM that comes and goes.
const VM: &str = "linux";
/// One boot with its work, on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a footprint says about memory, identifiers and messages.
const FRAMES: &[&str] =
    &["free", "private", "table", "guest", "dma", "detached", "quarantined", "leaked", "heap"];
const IDS: &[&str] = &["vmids", "vmids_lost", "groups", "claimed", "fault_routes"];
const MESSAGES: &[&str] = &["lpis", "lpi_routes"];

/// What one life of the VM came to.
struct Cycle {
    disk: bool,
    image: bool,
    messages: bool,
    words: Vec<String>,
    footprint: Value,
}

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(disk::VM, Duration::from_secs(60))?;
    checks.push(disk::write(session, job.seed, "neighbour-writes")?);
    let wrong = [refused(session, &format!("start {VM}"))?, refused(session, "start nobody")?];
    let all = wrong.iter().all(Option::is_some);
    checks.push(Check::new("what-runs-is-not-started", all, json!({ "refused": wrong })));

    let mut beats = Beats::new(job.seed);
    let mut cycles = Vec::new();
    let mut read = 0;
    for number in 1..=job.scenario.cycles {
        let footprint = life(session, &mut beats, cycles.len())?;
        let lines = session.said(VM).get(read..).unwrap_or_default().to_vec();
        read += lines.len();
        cycles.push(judge(job, &lines, footprint)?);
        if number < job.scenario.cycles {
            tell(session, &format!("start {VM}"))?;
        }
    }
    let wanted = usize::try_from(job.scenario.cycles)?;
    let every = |name: &str, right: &dyn Fn(&Cycle) -> bool| {
        let good = cycles.iter().filter(|cycle| right(cycle)).count();
        let bad = cycles.iter().find(|cycle| !right(cycle)).map(|cycle| &cycle.words);
        let last = cycles.last().map(|cycle| &cycle.words);
        let evidence = json!({ "cycles": wanted, "right": good, "first_bad": bad, "last": last });
        Check::new(name, good == wanted && wanted > 1, evidence)
    };
    checks.push(every("every-life-writes-its-disk", &|cycle| cycle.disk));
    checks.push(every("every-lifes-data-on-host", &|cycle| cycle.image));
    checks.push(every("every-life-gets-its-messages", &|cycle| cycle.messages));
    let footprints: Vec<&Value> = cycles.iter().map(|cycle| &cycle.footprint).collect();
    checks.push(same("no-frame-is-lost", &footprints, FRAMES));
    checks.push(same("no-id-is-lost", &footprints, IDS));
    checks.push(same("no-message-interrupt-is-lost", &footprints, MESSAGES));

    checks.push(stop(session, &mut beats, &cycles)?);
    beats.beat(session)?;
    checks.push(beats.check("neighbour-never-falters"));
    let vm = session.vm(disk::VM)?;
    session.send(vm, b"off\n");
    session.finish(Duration::from_secs(60))?;
    checks.push(isolation::all_abort(session));
    Ok(())
}

/// Once more, but the operator does not wait until the VM goes off by itself: it is stopped while
/// its init works. Nothing more stays behind than when it ends on its own.
fn stop(session: &mut Session, beats: &mut Beats, cycles: &[Cycle]) -> Result<Check> {
    let read = session.said(VM).len();
    tell(session, &format!("start {VM}"))?;
    let end = Instant::now() + PATIENCE;
    while session.said(VM).len() == read && Instant::now() < end {
        beats.beat(session)?;
        session.wait_a_while(Duration::from_millis(200))?;
    }
    let spoke = session.said(VM).len() > read;
    tell(session, &format!("stop {VM}"))?;
    let footprint = life(session, beats, cycles.len())?;
    let again = refused(session, &format!("stop {VM}"))?;
    let before = cycles.last().map_or(&Value::Null, |cycle| &cycle.footprint);
    let alike = same("", &[before, &footprint], &[FRAMES, IDS, MESSAGES].concat());
    let passed = spoke && again.is_some() && alike.passed;
    let evidence = json!({ "spoke": spoke, "again": again, "footprints": alike.evidence });
    Ok(Check::new("stopped-like-off", passed, evidence))
}

/// Waits, while the neighbour works, until the VM has ended and everything was taken from it; gives
/// the footprint that the hypervisor then tells.
fn life(session: &mut Session, beats: &mut Beats, before: usize) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(footprint) = session.records.of("footprint").nth(before) {
            return Ok(footprint.clone());
        }
        if Instant::now() > end {
            bail!("{VM} did not end within {} s", PATIENCE.as_secs());
        }
        beats.beat(session)?;
        session.wait_a_while(Duration::from_millis(200))?;
    }
}

fn judge(job: &Job, lines: &[String], footprint: Value) -> Result<Cycle> {
    let image = job.disks.get(1).and_then(Option::as_deref).context("no second disk")?;
    let ok = |job: &str| linux::said(lines, job).is_some_and(|said| said.ok);
    Ok(Cycle {
        disk: ok("disk"),
        image: linux::on_host(lines, image)?.passed,
        messages: ok("msix"),
        words: lines.to_vec(),
        footprint,
    })
}

/// Whether these fields are in every footprint, and as in the first.
fn same(name: &str, footprints: &[&Value], fields: &[&str]) -> Check {
    let read = |footprint: &Value| -> Option<Vec<u64>> {
        fields.iter().map(|field| number(footprint, field)).collect()
    };
    let all: Vec<Option<Vec<u64>>> = footprints.iter().map(|each| read(each)).collect();
    let first = all.first().cloned().flatten();
    let passed = all.len() > 1 && first.is_some() && all.iter().all(|each| *each == first);
    let other = all.iter().position(|each| *each != first).map(|index| index + 1);
    let evidence = json!({
        "fields": fields,
        "first": first,
        "last": all.last(),
        "cycles": all.len(),
        "first_different": other,
    });
    Check::new(name, passed, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_frame_or_a_missing_field_is_seen() {
        let print = |free: u64| json!({ "free": free, "lpis": 0 });
        let (a, b) = (print(7), print(6));
        assert!(same("x", &[&a, &a, &a], &["free", "lpis"]).passed);
        assert!(!same("x", &[&a, &a, &b], &["free", "lpis"]).passed);
        assert!(same("x", &[&a, &b], &["lpis"]).passed);
        assert!(!same("x", &[&a, &a], &["free", "vmids"]).passed);
        assert!(!same("x", &[&a], &["free"]).passed);
    }
}
