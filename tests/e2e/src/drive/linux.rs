//! Scenario `linux`: a distribution's kernel, unmodified, does its jobs (tests/linux/init) and
//! says of each how it went. The host looks at the disk image itself.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::drive::Job;
use crate::outcome::Check;
use crate::record::{number, text};
use crate::session::Session;

/// The VM's name.
const VM: &str = "linux";
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
    let end = session.finish(Duration::from_secs(job.scenario.timeout));
    let lines = session.said(VM).to_vec();
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
    if job.scenario.checks.iter().any(|check| check == messages) {
        checks.push(own(&lines, "msix", messages, |words| words.contains("ITS-MSI")));
    }
    checks.push(own(&lines, "hotplug", "cores-go-off-and-on", |_| true));
    checks.push(exits(&lines, session.records.of("counters").next_back()));
    let state = session.records.vm(VM).and_then(|vm| text(vm, "state")).unwrap_or("none");
    checks.push(Check::new("powers-off", state == "off", json!({ "state": state })));
    end
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

/// The disk's data moves without the hypervisor: far fewer exits for device registers than pages
/// moved, and no more interrupts taken than the guest and its timers can account for.
fn exits(lines: &[String], counters: Option<&Value>) -> Check {
    let name = "no-exit-per-dma";
    let Some(counters) = counters else { return Check::failed(name, "no counters in the report") };
    let bytes = said(lines, "disk")
        .and_then(|said| said.words.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    // Written once, read once.
    let pages = 2 * bytes / PAGE;
    let mmio = number(counters, "mmio").unwrap_or(u64::MAX);
    let evidence = json!({ "pages_moved": pages, "register_exits": mmio, "exits": counters });
    Check::new(name, pages > 0 && mmio < pages, evidence)
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
