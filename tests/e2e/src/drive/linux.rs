//! Scenario `linux`: a distribution's kernel, unmodified, does its jobs (tests/linux/init) and
//! says of each how it went. The host looks at the disk image itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::drive::{Job, operator};
use crate::outcome::Check;
use crate::record::{number, text};
use crate::session::Session;

/// The VM's name.
const VM: &str = "linux";
/// A boot, or a job, on a busy host.
const PATIENCE: Duration = Duration::from_secs(200);
/// What the operator asks before and after the disk's work.
const STATS: &str = "stats";
/// Bytes that one command of QEMU's NVMe moves at most (MDTS of 7, pages of 4 KiB).
const LARGEST_COMMAND: u64 = 512 << 10;
/// Bytes of a page: what one entry of an NVMe's list of pages moves.
const PAGE: u64 = 4096;

/// What the guest said of one of its jobs.
pub struct Said {
    pub ok: bool,
    pub words: String,
}

pub fn said(lines: &[String], job: &str) -> Option<Said> {
    let start = format!("job {job}: ");
    let line = lines.iter().find_map(|line| line.strip_prefix(&start))?;
    let (verdict, words) = line.split_once(' ').unwrap_or((line, ""));
    Some(Said { ok: verdict == "ok", words: words.trim().to_owned() })
}

/// The check of a job: the guest's own word, and whether it says what it must.
fn own(lines: &[String], job: &str, name: &str, holds: impl Fn(&str) -> bool) -> Check {
    match said(lines, job) {
        Some(said) => Check::new(name, said.ok && holds(&said.words), json!({"guest": said.words})),
        None => Check::failed(name, "the guest never came to it"),
    }
}

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(VM, PATIENCE)?;
    let mut lines = Vec::new();
    let mut ask = |session: &mut Session, job: &str| -> Result<()> {
        session.begin(VM, job)?;
        lines.push(format!("job {job}: {}", session.any_answer(VM, job, PATIENCE)?));
        Ok(())
    };
    ask(session, "cpus")?;
    ask(session, "pci")?;
    let before = counters(session)?;
    ask(session, "disk")?;
    let after = counters(session)?;
    ask(session, "msix")?;
    ask(session, "hotplug")?;
    let vm = session.vm(VM)?;
    session.send(vm, b"off\n");
    let end = session.finish(PATIENCE);

    checks.push(own(&lines, "cpus", "every-core-comes-up", |_| true));
    checks.push(own(&lines, "pci", "sees-its-own-devices-only", |words| {
        words.split_whitespace().eq(["0000:00:01.0=0x1b36:0x0010"])
    }));
    checks.push(own(&lines, "disk", "disk-data-in-guest", |words| words.contains("sha256")));
    checks.push(match job.disks.first().and_then(Option::as_deref) {
        Some(image) => on_host(&lines, image)?,
        None => Check::failed("disk-data-on-host", "the scenario has no disk"),
    });
    // Without an interrupt translation service there are none, and the scenario says so.
    let messages = "one-message-interrupt-per-queue";
    let wired = !job.scenario.checks.iter().any(|check| check == messages);
    if !wired {
        checks.push(own(&lines, "msix", messages, |words| words.contains("ITS-MSI")));
    }
    checks.push(own(&lines, "hotplug", "cores-go-off-and-on", |_| true));
    let during = Exits::between(&before, &after);
    checks.push(during.moved(&lines, wired));
    if !wired {
        checks.push(during.interrupted());
    }
    let state = session.records.vm(VM).and_then(|vm| text(vm, "state")).unwrap_or("none");
    checks.push(Check::new("powers-off", state == "off", json!({ "state": state })));
    end
}

/// The VM's counters now.
fn counters(session: &mut Session) -> Result<Value> {
    let mark = session.records.count();
    operator::tell(session, STATS)?;
    let mut counters = session.records.since(mark, "counters");
    let own = counters.find(|record| text(record, "vm") == Some(VM));
    own.cloned().context("no counters of the VM")
}

/// Compares what is in the image with the sum that the guest printed.
pub fn on_host(lines: &[String], image: &Path) -> Result<Check> {
    let name = "disk-data-on-host";
    let Some(said) = said(lines, "disk") else {
        return Ok(Check::failed(name, "no sum to compare"));
    };
    let words: Vec<&str> = said.words.split_whitespace().collect();
    let (Some(&bytes), Some(&guest)) = (words.get(1), words.get(4)) else {
        return Ok(Check::failed(name, &said.words));
    };
    let bytes: u64 = bytes.parse().with_context(|| format!("no number: {bytes}"))?;
    let file = File::open(image).with_context(|| format!("cannot open {}", image.display()))?;
    let mut sum = Sha256::new();
    let read = std::io::copy(&mut file.take(bytes), &mut sum)?;
    let host = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let passed = read == bytes && host == guest && bytes >= 1 << 20;
    Ok(Check::new(name, passed, json!({ "bytes": read, "guest": guest, "host": host })))
}

/// What the guest came out for while its disk worked.
struct Exits {
    mmio: Option<u64>,
    irq: Option<u64>,
    interrupts: Option<u64>,
    evidence: Value,
}

impl Exits {
    fn between(before: &Value, after: &Value) -> Self {
        let more = |key: &str| number(after, key)?.checked_sub(number(before, key)?);
        Self {
            mmio: more("mmio"),
            irq: more("irq"),
            interrupts: more("interrupts"),
            evidence: json!({ "before": before, "after": after }),
        }
    }

    /// The data moves without the hypervisor: fewer exits for device registers than the fewest
    /// doorbells that the disk can be rung with, and far fewer than pages moved. Where messages
    /// between cores are stores to the GICv2's distributor, only the latter.
    fn moved(&self, lines: &[String], wired: bool) -> Check {
        let bytes = said(lines, "disk")
            .and_then(|said| said.words.split_whitespace().nth(1)?.parse::<u64>().ok())
            .unwrap_or(0);
        // Written once, read once.
        let pages = 2 * bytes / PAGE;
        // One for the submission and one for the completion of each command.
        let doorbells = 2 * (2 * bytes / LARGEST_COMMAND);
        let most = if wired { pages } else { doorbells };
        let passed = self.mmio.is_some_and(|exits| exits < most);
        let evidence = json!({
            "pages_moved": pages,
            "least_doorbells": doorbells,
            "register_exits": self.mmio,
            "counters": self.evidence,
        });
        Check::new("no-exit-per-dma", passed, evidence)
    }

    /// An interrupt makes the guest come out once at most. So does each byte that the operator
    /// types, on the core that takes the serial line's interrupt.
    fn interrupted(&self) -> Check {
        let typed = STATS.len() as u64 + 1;
        let passed = self
            .irq
            .zip(self.interrupts)
            .is_some_and(|(exits, interrupts)| interrupts > 0 && exits <= interrupts + typed);
        let evidence = json!({ "exits": self.irq, "interrupts": self.interrupts, "typed": typed });
        Check::new("one-exit-per-interrupt-at-most", passed, evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_counts_only_if_it_says_ok() {
        let lines: Vec<String> = ["noise", "job cpus: ok 4 online", "job disk: failed no disk"]
            .map(str::to_owned)
            .to_vec();
        assert!(own(&lines, "cpus", "x", |words| words == "4 online").passed);
        assert!(!own(&lines, "cpus", "x", |words| words == "3 online").passed);
        assert!(!own(&lines, "disk", "x", |_| true).passed);
        assert!(!own(&lines, "msix", "x", |_| true).passed);
    }

    #[test]
    fn the_hosts_sum_is_the_images() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        std::fs::write(&image, vec![7; 2 << 20]).unwrap();
        let sum: String =
            Sha256::digest(vec![7; 1 << 20]).iter().map(|byte| format!("{byte:02x}")).collect();
        let line = |sum: &str| vec![format!("job disk: ok /dev/x 1048576 bytes sha256 {sum}")];
        assert!(on_host(&line(&sum), &image).unwrap().passed);
        assert!(!on_host(&line("00"), &image).unwrap().passed);
        assert!(!on_host(&[], &image).unwrap().passed);
    }
}
