//! Scenario `isolation`: `disk` works, `rogue` attacks, the host watches both from outside.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::drive::attack::{self, LENGTH, Target, pattern};
use crate::drive::beats::Beats;
use crate::drive::{Job, disk};
use crate::outcome::Check;
use crate::record::{number, text};
use crate::session::Session;

const BOOT: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;
/// Pages at the image's start that surely hold code.
const CODE_PAGES: u64 = 16;

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let seed = job.seed;
    session.ready(disk::VM, BOOT)?;
    session.ready(attack::VM, BOOT)?;
    checks.push(disk::write(session, seed, "disk-data-in-guest")?);
    checks.push(own_memory(session, seed)?);

    let mut beats = Beats::new(seed);
    beats.beat(session)?;
    let targets = [
        ("attack-disk-memory", disk_memory(session)?, "F_TRANSLATION"),
        ("attack-hypervisor-image", image(session, seed)?, "F_TRANSLATION"),
        ("attack-unmapped", unmapped(session, seed)?, "F_TRANSLATION"),
        ("attack-read-only", read_only(session)?, "F_PERMISSION"),
    ];
    for (number, (name, target, kind)) in (1..).zip(targets) {
        let pattern = pattern(seed, number);
        checks.push(attack::repelled(session, name, target, pattern, &[kind])?);
        beats.beat(session)?;
    }

    let control = attack::undisturbed(session, pattern(seed, 8))?;
    let armed = pattern(seed, 9);
    let mark = session.records.count();
    let flight = attack::in_flight(session, armed)?;
    let quiet = !flight.landed && !attack::holds(&flight.after, armed);
    let mut evidence = flight.evidence(armed);
    evidence["control_landed"] = json!(control);
    checks.push(Check::new("attack-in-flight", quiet && control, evidence));
    checks.push(quarantined(session, mark)?);
    for _ in 0..3 {
        beats.beat(session)?;
    }
    checks.push(beats.check("disk-keeps-running"));

    let vm = session.vm(disk::VM)?;
    session.send(vm, b"off\n");
    session.finish(Duration::from_secs(30))?;
    let path = job.disks.iter().flatten().next().context("the scenario has no disk image")?;
    checks.push(disk::image(path, seed, "disk-data-on-host")?);
    checks.push(all_abort(session));
    Ok(())
}

/// The device does work: a DMA inside rogue's memory arrives, seen from outside.
fn own_memory(session: &mut Session, seed: u64) -> Result<Check> {
    let ipa = attack::page(session, "canary")?;
    let physical = session.records.physical(attack::VM, ipa).context("no RAM of rogue reported")?;
    let pattern = pattern(seed, 0);
    let (before, after) = attack::write(session, Target { iova: ipa, physical }, pattern)?;
    let arrived = after.chunks_exact(4).all(|word| word == pattern.to_le_bytes());
    let evidence = json!({
        "iova": format!("{ipa:#x}"),
        "target": format!("{physical:#x}"),
        "pattern": format!("{pattern:#010x}"),
        "before": attack::hex(&before),
        "after": attack::hex(&after),
    });
    Ok(Check::new("rogue-own-memory", arrived, evidence))
}

/// The number of a physical address is an address of rogue's own where its RAM covers it.
pub fn foreign(session: &Session, physical: u64) -> Result<Target> {
    if session.records.physical(attack::VM, physical).is_some() {
        bail!("{physical:#x} lies in rogue's own guest-physical range: give rogue less memory");
    }
    Ok(Target { iova: physical, physical })
}

fn disk_memory(session: &mut Session) -> Result<Target> {
    let answer = session.command(disk::VM, "canary", Duration::from_secs(10))?;
    let ipa = disk::field(&answer, "ipa").context("disk's canary has no address")?;
    let physical = session.records.physical(disk::VM, ipa).context("no RAM of disk reported")?;
    foreign(session, physical)
}

fn image(session: &Session, seed: u64) -> Result<Target> {
    let record = session.records.of("image").next().context("the report has no image record")?;
    let start = number(record, "start").context("the image has no start")?;
    let end = number(record, "end").context("the image has no end")?;
    let pages = end.saturating_sub(start) / PAGE;
    if pages == 0 {
        bail!("the image record is empty: {start:#x}..{end:#x}");
    }
    // The image starts with its code, which nothing changes in peace.
    let page = disk::word(seed, 77) % pages.min(CODE_PAGES);
    foreign(session, start + page * PAGE + 0x100)
}

/// An address beyond rogue's RAM that no VM and no hypervisor uses.
fn unmapped(session: &Session, seed: u64) -> Result<Target> {
    let used = |at: u64| {
        session.records.of("ram").chain(session.records.of("image")).any(|record| {
            let start = number(record, "pa").or_else(|| number(record, "start")).unwrap_or(0);
            let size = number(record, "size");
            let end = size.map_or_else(|| number(record, "end"), |size| start.checked_add(size));
            (start..end.unwrap_or(u64::MAX)).contains(&at)
        })
    };
    // In the middle of the machine's 2 GiB, away from where allocators like to begin.
    let first = disk::word(seed, 78) % 256;
    let mut candidates = (0..256).map(|n| 0x9000_0000 + ((first + n) % 256) * (1 << 20));
    let free = candidates.find(|at| !used(*at)).context("no free address found")?;
    foreign(session, free)
}

fn read_only(session: &mut Session) -> Result<Target> {
    let iova = attack::page(session, "readonly")?;
    let physical =
        session.records.physical(attack::VM, iova).context("no RAM of rogue reported")?;
    Ok(Target { iova, physical })
}

/// After the teardown rogue's stream aborts and its device was quarantined until proven idle.
fn quarantined(session: &mut Session, mark: usize) -> Result<Check> {
    let stream = attack::stream(&session.records).context("rogue never owned a stream")?;
    let of = |record: &&serde_json::Value| number(record, "stream") == Some(stream);
    session.wait("the end of rogue's teardown", Duration::from_secs(20), |records| {
        let mut words = records.since(mark, "posture").filter(of);
        words.any(|record| text(record, "condition") == Some("free"))
    })?;
    let words: Vec<_> = session.records.since(mark, "posture").filter(of).cloned().collect();
    let aborts = words.iter().all(|record| text(record, "state") == Some("abort"));
    let through = words.iter().any(|record| text(record, "condition") == Some("quarantined"));
    let evidence = json!({ "stream": stream, "posture": words });
    Ok(Check::new("rogue-device-quarantined", aborts && through, evidence))
}

/// The posture since `mark`: the device went through quarantine, aborts, and is nobody's.
pub fn freed(session: &Session, mark: usize, device: &str) -> Check {
    let of = |record: &&Value| text(record, "device") == Some(device);
    let words: Vec<Value> = session.records.since(mark, "posture").filter(of).cloned().collect();
    let through = words.iter().any(|record| text(record, "condition") == Some("quarantined"));
    let aborts = words.iter().all(|record| text(record, "state") == Some("abort"));
    let free = words.last().is_some_and(|record| {
        text(record, "condition") == Some("free") && text(record, "owner").is_none()
    });
    let evidence = json!({ "posture": words });
    Check::new("detached-device-aborts-and-is-free", through && aborts && free, evidence)
}

/// At the end every stream aborts and nobody owns anything.
pub fn all_abort(session: &Session) -> Check {
    let posture = session.records.posture();
    let aborts = !posture.is_empty()
        && posture
            .iter()
            .all(|entry| text(entry, "state") == Some("abort") && text(entry, "owner").is_none());
    let evidence = json!({ "streams": posture.len(), "length": LENGTH });
    Check::new("every-stream-aborts-at-the-end", aborts, evidence)
}
