//! Scenario `reassign`: the operator moves a disk, and a device with a transfer in flight, from
//! one VM that runs to another.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::drive::attack::{self, Inconclusive, LENGTH};
use crate::drive::operator::{ask, is_ok, refused, tell};
use crate::drive::{Job, disk, isolation};
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

const BOOT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// Who gets everything.
const HEIR: &str = "heir";
const DISK: &str = "0000:01:00.0";
const EDU: &str = "0000:02:00.0";

/// What edu takes for a transfer, in the machine's time, which is never faster than ours.
const TRANSFER: Duration = Duration::from_millis(100);

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let seed = job.seed;
    for vm in [disk::VM, HEIR, attack::VM] {
        session.ready(vm, BOOT)?;
    }
    checks.push(disk::write(session, seed, "first-vm-writes")?);
    checks.push(answers(session)?);

    let canary = session.command(disk::VM, "canary", PATIENCE)?;
    session.command(disk::VM, "close", PATIENCE)?;
    let mark = session.records.count();
    tell(session, &format!("detach {} {DISK}", disk::VM))?;
    checks.push(isolation::freed(session, mark, DISK));

    tell(session, &format!("assign {HEIR} {DISK} 00:02.0"))?;
    let answer = session.command(HEIR, "open", PATIENCE)?;
    let there = disk::field(&answer, "sectors").is_some_and(|sectors| sectors > 0);
    let right = there && disk::read(session, HEIR, seed, 0, disk::BYTES / 512)?;
    checks.push(Check::new("second-vm-reads-what-is-there", right, json!({ "open": answer })));
    let other = seed ^ 0x6865_6972;
    checks.push(disk::write_by(session, HEIR, other, "second-vm-writes")?);

    checks.push(others_own(session, other)?);
    checks.push(in_flight(session, seed)?);
    tell(session, &format!("detach {HEIR} {EDU}"))?;
    let record = ask(session, &format!("reset {EDU}"))?;
    checks.push(Check::new("reset-of-what-nobody-owns", is_ok(&record), record));

    let again = session.command(disk::VM, "canary", PATIENCE)?;
    let open = session.command(disk::VM, "open", PATIENCE)?;
    let rogue = session.command(attack::VM, "ram", PATIENCE)?;
    let passed = again == canary && disk::field(&open, "sectors") == Some(0);
    let evidence = json!({ "canary": again, "open": open, "rogue": rogue });
    checks.push(Check::new("first-vms-run-on", passed, evidence));

    for name in [disk::VM, HEIR, attack::VM] {
        let vm = session.vm(name)?;
        session.send(vm, b"off\n");
    }
    session.finish(Duration::from_secs(30))?;
    let path = job.disks.iter().flatten().next().context("the scenario has no disk image")?;
    checks.push(disk::image(path, other, "second-vms-data-on-host")?);
    checks.push(isolation::all_abort(session));
    Ok(())
}

/// What does not move anything: each command has its record, whatever is typed.
fn answers(session: &mut Session) -> Result<Check> {
    let mut said = Vec::new();
    for line in ["help", "vms", "posture", "faults", "stats"] {
        said.push(ask(session, line)?);
    }
    let told = said.iter().all(is_ok);
    let long = "x".repeat(119);
    let mut wrong = Vec::new();
    for line in
        ["halt", "detach", "detach nobody 0000:01:00.0", "assign disk 1 2", "reset :", &long]
    {
        wrong.push(refused(session, line)?);
    }
    let refused = wrong.iter().all(Option::is_some);
    let lists = wrong.first().and_then(Option::as_deref).is_some_and(|text| text.contains("help"));
    let evidence = json!({ "said": said, "refused": wrong });
    Ok(Check::new("prompt-answers-everything", told && refused && lists, evidence))
}

/// Nobody gets, loses or resets by mistake what another VM has.
fn others_own(session: &mut Session, seed: u64) -> Result<Check> {
    let mut reasons = Vec::new();
    for line in [
        format!("assign {} {DISK} 00:01.0", disk::VM),
        format!("detach {} {DISK}", disk::VM),
        format!("assign {HEIR} {EDU} 00:02.0"),
        format!("reset {DISK}"),
        "assign heir 0000:77:00.0 00:05.0".to_owned(),
    ] {
        reasons.push(refused(session, &line)?);
    }
    let all = reasons.iter().all(Option::is_some);
    let works = disk::read(session, HEIR, seed, 0, 128)?;
    let evidence = json!({ "reasons": reasons, "disk_answers": works });
    Ok(Check::new("others-devices-are-refused", all && works, evidence))
}

/// A transfer that rogue has started when the operator takes its device away, and gives it to
/// another VM with memory at the same guest address.
fn in_flight(session: &mut Session, seed: u64) -> Result<Check> {
    let name = "dma-in-flight-reaches-nobody";
    let control = attack::undisturbed(session, attack::pattern(seed, 20))?;
    let armed = attack::pattern(seed, 21);
    let ipa = attack::page(session, "canary")?;
    let place = |vm: &str| {
        session.records.physical(vm, ipa).with_context(|| format!("{vm} has no RAM at {ipa:#x}"))
    };
    let places = [place(attack::VM)?, place(HEIR)?];
    let mut before = Vec::new();
    for at in places {
        before.push(session.memory(at, LENGTH)?);
    }
    let command = format!("arm w {ipa:#x} {LENGTH} {armed:#x}");
    session.command(attack::VM, &command, attack::PATIENCE)?;
    let (start, mark) = (Instant::now(), session.records.count());
    let line = format!("detach {} {EDU}", attack::VM);
    session.prompt(format!("{line}\n").as_bytes());
    session.wait("the abort of rogue's stream", PATIENCE, |records| {
        let mut words = records.since(mark, "posture");
        words.any(|word| text(word, "device") == Some(EDU) && text(word, "state") == Some("abort"))
    })?;
    let aborted_after = start.elapsed();
    session.wait("the end of the detach", PATIENCE, |records| {
        records.since(mark, "operator").any(is_ok)
    })?;
    let faults = session.records.since(mark, "fault").count();
    tell(session, &format!("assign {HEIR} {EDU} 00:03.0"))?;
    let until = Instant::now() + Duration::from_secs(1);
    while session.pump(until)? {}
    let mut after = Vec::new();
    for at in places {
        after.push(session.memory(at, LENGTH)?);
    }
    let landed = after.iter().any(|bytes| attack::holds(bytes, armed));
    if landed && aborted_after >= TRANSFER / 2 {
        return Err(Inconclusive.into());
    }
    let evidence = json!({
        "ipa": format!("{ipa:#x}"),
        "places": places.map(|at| format!("{at:#x}")),
        "pattern": format!("{armed:#010x}"),
        "before": before.iter().map(|bytes| attack::hex(bytes)).collect::<Vec<_>>(),
        "after": after.iter().map(|bytes| attack::hex(bytes)).collect::<Vec<_>>(),
        "aborted_after_ms": u64::try_from(aborted_after.as_millis()).unwrap_or(u64::MAX),
        "faults": faults,
        "control_landed": control,
    });
    Ok(Check::new(name, control && before == after, evidence))
}
