//! Scenario `linux-iommu`: unmodified kernels drive SMMUs of their own. What the guests say, what
//! the hypervisor counted and what the entries in memory say must agree.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::drive::linux::on_host;
use crate::drive::operator::tell;
use crate::drive::{Job, isolation};
use crate::outcome::Check;
use crate::record::{more, number, text};
use crate::session::Session;

/// Its kernel invalidates at every unmap.
const STRICT: &str = "strict";
/// Its kernel gathers its unmaps.
const LAZY: &str = "lazy";
/// Its kernel lets its devices bypass its tables.
const THROUGH: &str = "through";
const VMS: [&str; 3] = [STRICT, LAZY, THROUGH];
/// A boot, or a job, on a busy host.
const PATIENCE: Duration = Duration::from_secs(200);
const MIB: u64 = 24;
/// Small reads of the disk.
const REQUESTS: u64 = 4096;
/// The page that the program's device writes to after it was unmapped, by its IOVA.
const UNMAPPED: u64 = 0x1000_1000;
/// Exits for registers of an SMMU until its driver is ready, at most.
const PROBE: u64 = 80;

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    for vm in VMS {
        session.ready(vm, PATIENCE)?;
    }
    let probed = counts(session, THROUGH)?;
    checks.push(few_to_probe(&probed));
    for vm in VMS {
        translates(session, vm, checks)?;
    }
    posture(session, checks)?;
    for (vm, image) in VMS.into_iter().zip(job.disks.iter().flatten()) {
        let before = counts(session, vm)?;
        let command = format!("disk mib={MIB} seed={}", job.seed);
        let answer = ask(session, vm, &command)?;
        let after = counts(session, vm)?;
        let name = format!("{vm}-disk-data-in-guest");
        let whole = answer.starts_with("ok") && answer.contains("sha256");
        checks.push(Check::new(&name, whole, json!({ "guest": answer })));
        let lines = [format!("job disk: {answer}")];
        let check = on_host(&lines, image)?;
        checks.push(Check { name: format!("{vm}-disk-data-on-host"), ..check });
        match vm {
            STRICT => checks.push(one_exit_per_unmap(&before, &after)),
            LAZY => checks.push(few_per_request(session)?),
            _ => {}
        }
    }
    let answer = ask(session, STRICT, "msix")?;
    let reach = answer.starts_with("ok") && answer.contains("ITS-");
    checks.push(Check::new("strict-messages-reach-it", reach, json!(answer)));
    let answer = ask(session, STRICT, "rebind")?;
    let right = answer.starts_with("ok");
    checks.push(Check::new("strict-driver-comes-and-goes", right, json!(answer)));
    vfio(session, checks)?;
    checks.push(reboots(session)?);
    for vm in VMS {
        let index = session.vm(vm)?;
        session.send(index, b"off\n");
    }
    session.finish(PATIENCE)?;
    // What the program's device wrote after the unmap, a word at a time, and nothing else.
    let faults: Vec<&Value> = session.records.of("fault").collect();
    let own = |fault: &&Value| {
        text(fault, "vm") == Some(STRICT)
            && number(fault, "address").is_some_and(|at| at & !0xfff == UNMAPPED)
    };
    let right = !faults.is_empty() && faults.iter().all(own);
    let evidence = json!({ "faults": faults.len(), "first": faults.first() });
    checks.push(Check::new("only-the-program-is-charged", right, evidence));
    checks.push(isolation::all_abort(session));
    Ok(())
}

/// Has a guest do a job, however it goes.
fn ask(session: &mut Session, vm: &str, command: &str) -> Result<String> {
    session.begin(vm, command)?;
    session.any_answer(vm, command, PATIENCE)
}

/// What a guest made of its SMMU so far.
fn counts(session: &mut Session, vm: &str) -> Result<Value> {
    let mark = session.records.count();
    tell(session, "stats")?;
    let mut counts = session.records.since(mark, "virtual_smmu");
    let own = counts.find(|record| text(record, "vm") == Some(vm));
    own.cloned().with_context(|| format!("no counts of an SMMU of {vm}"))
}

/// What the kernel says of its SMMU, and of its disk's group.
fn translates(session: &mut Session, vm: &str, checks: &mut Vec<Check>) -> Result<()> {
    let answer = ask(session, vm, "iommu")?;
    let (name, kind) = match vm {
        STRICT => ("strict-translates-its-devices", "type=DMA "),
        LAZY => ("lazy-translates-its-devices", "type=DMA-FQ "),
        _ => ("through-bypasses-its-tables", "type=identity "),
    };
    let right = answer.starts_with("ok") && answer.contains(kind);
    checks.push(Check::new(name, right, json!(answer)));
    if vm == STRICT {
        let found = answer.contains("smmus=1 ") && answer.contains("oas 40-bit");
        checks.push(Check::new("strict-finds-its-smmu", found, json!(answer)));
    }
    Ok(())
}

/// What the entries in memory say while the guests run.
fn posture(session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    for (vm, name, wanted) in [
        (STRICT, "strict-is-nested", "nested"),
        (LAZY, "lazy-is-nested", "nested"),
        (THROUGH, "through-is-behind-stage-2", "stage2"),
    ] {
        let now = state(session, vm)?;
        checks.push(Check::new(name, now.as_deref() == Some(wanted), json!(now)));
    }
    Ok(())
}

/// A strict unmap is one CMD_SYNC: it makes the guest come out once, for CMDQ_PROD, and its
/// completion is a word in the guest's own memory. The physical SMMU is waited for no more often.
fn one_exit_per_unmap(before: &Value, after: &Value) -> Check {
    let count = |key| more(before, after, key).unwrap_or(u64::MAX);
    let (syncs, doorbells, loads) = (count("syncs"), count("doorbells"), count("loads"));
    let (stores, batches) = (count("stores"), count("batches"));
    let exits = doorbells.saturating_add(loads).saturating_add(stores);
    // 1.05 for one.
    let few = exits.saturating_mul(100) <= syncs.saturating_mul(105);
    let passed = syncs > 0 && syncs < u64::MAX && few && batches <= doorbells;
    let evidence = json!({ "unmaps": syncs, "exits": exits, "batches": batches });
    Check::new("strict-one-exit-per-unmap", passed, evidence)
}

/// A program in user space has a device copy by IOVAs; what it writes after they were unmapped does
/// not arrive, and the guest's own kernel is told: kind, StreamID and address.
fn vfio(session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let answer = ask(session, STRICT, "vfio")?;
    let works = answer.contains("copied=1 blocked=1 again=1");
    checks.push(Check::new("strict-program-has-its-device-by-vfio", works, json!(answer)));
    // The record as the kernel prints it (IHI 0070, 7.3.13): F_TRANSLATION of stream 00:02.0, and
    // the second page of the program's two.
    let words: Vec<&str> = answer.split_whitespace().collect();
    let named = words.iter().any(|word| word.ends_with("0x0000001000000010"))
        && words.contains(&"0x0000000010001000");
    checks.push(Check::new("strict-kernel-names-the-event", named, json!(answer)));
    Ok(())
}

/// A kernel that starts anew finds its SMMU as at power-on, and its disk as it was.
fn reboots(session: &mut Session) -> Result<Check> {
    let sum = format!("sum mib={MIB}");
    let before = ask(session, LAZY, &sum)?;
    session.starts_anew(LAZY)?;
    session.begin(LAZY, "reboot")?;
    session.ready(LAZY, PATIENCE)?;
    let after = ask(session, LAZY, &sum)?;
    let kind = ask(session, LAZY, "iommu")?;
    let state = state(session, LAZY)?;
    let same = before.starts_with("ok") && before == after;
    let passed = same && kind.contains("type=DMA-FQ ") && state.as_deref() == Some("nested");
    let evidence = json!({ "before": before, "after": after, "iommu": kind, "state": state });
    Ok(Check::new("lazy-is-the-same-in-its-next-life", passed, evidence))
}

/// What the entry in memory says of a VM's device now.
fn state(session: &mut Session, vm: &str) -> Result<Option<String>> {
    let mark = session.records.count();
    tell(session, "posture")?;
    let mut lines = session.records.since(mark, "posture");
    let own = lines.find(|line| text(line, "owner") == Some(vm));
    Ok(own.and_then(|line| text(line, "state")).map(str::to_owned))
}

/// A lazy kernel invalidates when its queue of unmaps is full, and every ten milliseconds: how often
/// for a request depends on how fast the host is, but far from once.
fn few_per_request(session: &mut Session) -> Result<Check> {
    let before = counts(session, LAZY)?;
    let answer = ask(session, LAZY, &format!("requests count={REQUESTS}"))?;
    let after = counts(session, LAZY)?;
    let count = |key| more(&before, &after, key).unwrap_or(u64::MAX);
    let exits = ["loads", "doorbells", "stores"];
    let exits = exits.into_iter().fold(0_u64, |sum, key| sum.saturating_add(count(key)));
    let passed = answer.starts_with("ok") && exits.saturating_mul(2) <= REQUESTS;
    let evidence = json!({ "requests": REQUESTS, "exits": exits, "guest": answer });
    Ok(Check::new("lazy-few-exits-per-request", passed, evidence))
}

fn few_to_probe(counts: &Value) -> Check {
    let count = |key| number(counts, key).unwrap_or(PROBE);
    let exits = count("loads") + count("doorbells") + count("stores");
    Check::new("through-few-exits-to-probe", exits <= PROBE, counts.clone())
}
