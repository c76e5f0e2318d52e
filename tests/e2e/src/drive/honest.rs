//! Scenarios of boards without an SMMU: what is given, what is refused and why.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::drive::{Job, attack, disk};
use crate::outcome::Check;
use crate::record::text;
use crate::session::Session;

const BOOT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays the host's part in `honest`.
pub fn drive(_job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    for vm in ["wired", "plain"] {
        session.ready(vm, BOOT)?;
    }
    let answers = [
        session.command("wired", "canary", PATIENCE)?,
        session.command("plain", "canary", PATIENCE)?,
    ];
    checks.push(Check::new("both-vms-run", true, json!({ "answers": answers })));

    let answer = session.command("wired", "interrupt", PATIENCE)?;
    let [wanted, before, got, after] =
        ["wanted", "before", "got", "after"].map(|key| disk::field(&answer, key));
    // Silent before it was told to, and after.
    let passed = got.is_some() && got == wanted && before == Some(0) && after == Some(0);
    let evidence = json!({ "wanted": wanted, "before": before, "got": got, "after": after });
    checks.push(Check::new("device-interrupt-arrives", passed, evidence));

    let record = session.records.vm("greedy").cloned().unwrap_or_default();
    let error = text(&record, "error").unwrap_or("none").to_owned();
    let refused = text(&record, "state") == Some("refused");
    let named = refused && error.contains("/soc/dma@7e007000");
    checks.push(Check::new("dma-engine-refused-by-name", named, record));
    let says = refused && error.contains("no SMMU") && error.contains("dma_isolation = \"none\"");
    checks.push(Check::new("refusal-says-why-and-how", says, json!({ "error": error })));

    let again = session.command("plain", "canary", PATIENCE)?;
    let same = answers.get(1).is_some_and(|before| *before == again);
    checks.push(Check::new("others-run-unharmed", same, json!({ "canary": again })));
    finish(session, &["wired", "plain"], checks)?;
    let smmus = session.records.of("smmu").count();
    checks.push(Check::new("no-smmu-found", smmus == 0, json!({ "smmus": smmus })));
    Ok(())
}

/// Plays the host's part in `honest-control`.
pub fn control(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    for vm in ["plain", "trusted"] {
        session.ready(vm, BOOT)?;
    }
    let record = session.records.vm("trusted").cloned().unwrap_or_default();
    let given = text(&record, "state") == Some("started");
    checks.push(Check::new("engine-is-given-with-the-words", given, record));
    let answer = session.command("trusted", "words", PATIENCE)?;
    checks.push(Check::new(
        "guest-is-told",
        answer.contains("isolation=none"),
        json!({ "tree": answer }),
    ));

    let physical = |session: &Session, vm: &str, answer: &str, key: &str| {
        let ipa = disk::field(answer, key).with_context(|| format!("{vm}: no {key}: {answer}"))?;
        session.records.physical(vm, ipa).with_context(|| format!("{vm}: no RAM at {ipa:#x}"))
    };
    let canary = session.command("plain", "canary", PATIENCE)?;
    let target = physical(session, "plain", &canary, "ipa")?;
    let pages = session.command("trusted", "pages", PATIENCE)?;
    let block = physical(session, "trusted", &pages, "block")?;
    let source = physical(session, "trusted", &pages, "source")?;
    let pattern = attack::pattern(job.seed, 1);
    let before = session.memory(target, 32)?;
    let length = before.len();
    let command = format!("copy {block:#x} {source:#x} {target:#x} {length} {pattern:#x}");
    session.command("trusted", &command, PATIENCE)?;
    let after = session.memory(target, 32)?;
    let wanted: Vec<u8> = pattern.to_le_bytes().into_iter().cycle().take(length).collect();
    let evidence = json!({
        "target": format!("{target:#x}"),
        "owner": "plain",
        "before": attack::hex(&before),
        "after": attack::hex(&after),
    });
    let hit = after == wanted && before != after;
    checks.push(Check::new("dma-reaches-foreign-memory", hit, evidence));
    finish(session, &["trusted", "plain"], checks)
}

/// Turns the VMs off and looks at the last posture.
fn finish(session: &mut Session, vms: &[&str], checks: &mut Vec<Check>) -> Result<()> {
    for name in vms {
        let vm = session.vm(name)?;
        session.send(vm, b"off\n");
    }
    session.finish(Duration::from_secs(60))?;
    let posture = session.records.posture();
    let none = |entry: &serde_json::Value| text(entry, "dma_isolation") == Some("none");
    let says = !posture.is_empty() && posture.iter().all(none);
    checks.push(Check::new("posture-says-none", says, json!({ "posture": posture })));
    Ok(())
}
