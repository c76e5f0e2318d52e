//! One attack by the payload `rogue`: what the host reads before and after, and the event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use thiserror::Error;

use crate::drive::disk::field;
use crate::outcome::Check;
use crate::record::{Records, number, text};
use crate::session::Session;

/// The VM's name in the scenarios.
pub const VM: &str = "rogue";
/// Bytes that an attack tries to write.
pub const LENGTH: u64 = 64;
/// One DMA of the edu device takes 100 ms of virtual time, a command two of them.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where an attack aims.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The address that the device is told.
    pub iova: u64,
    /// The physical address that must stay as it is.
    pub physical: u64,
}

/// The 32-bit pattern of an attack; never one that memory holds by chance of being zero.
#[must_use]
pub fn pattern(seed: u64, number: u64) -> u32 {
    let word = crate::drive::disk::word(seed ^ 0x6f67_7565, number);
    (word as u32) | 0x8000_0001
}

/// Whether bytes hold an attack's pattern anywhere.
#[must_use]
pub fn holds(bytes: &[u8], pattern: u32) -> bool {
    bytes.chunks_exact(4).any(|word| word == pattern.to_le_bytes())
}

/// Bytes as hex, the first few.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect()
}

/// Tells rogue to write to a target; gives the memory before and after.
pub fn write(session: &mut Session, target: Target, pattern: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let before = session.memory(target.physical, LENGTH)?;
    let Target { iova, .. } = target;
    session.command(VM, &format!("dma w {iova:#x} {LENGTH} {pattern:#x}"), PATIENCE)?;
    let after = session.memory(target.physical, LENGTH)?;
    Ok((before, after))
}

/// An attack that must leave its target alone and be charged to rogue.
pub fn repelled(
    session: &mut Session,
    name: &str,
    target: Target,
    pattern: u32,
    kinds: &[&str],
) -> Result<Check> {
    let mark = session.records.count();
    let (before, after) = write(session, target, pattern)?;
    let Target { iova, physical } = target;
    let event = event(session, mark, iova)?;
    let unchanged = before == after && !holds(&after, pattern);
    let charged = event.as_ref().is_some_and(|event| charged(&session.records, event, kinds));
    let evidence = json!({
        "iova": format!("{iova:#x}"),
        "target": format!("{physical:#x}"),
        "pattern": format!("{pattern:#010x}"),
        "before": hex(&before),
        "after": hex(&after),
        "event": event,
    });
    Ok(Check::new(name, unchanged && charged, evidence))
}

/// An attack on registers that are not rogue's: there is nothing to look at, since a look may
/// change them; it must be charged.
pub fn refused(session: &mut Session, name: &str, iova: u64, pattern: u32) -> Result<Check> {
    let mark = session.records.count();
    session.command(VM, &format!("dma w {iova:#x} {LENGTH} {pattern:#x}"), PATIENCE)?;
    let event = event(session, mark, iova)?;
    let kinds = ["F_TRANSLATION", "F_ADDR_SIZE"];
    let charged = event.as_ref().is_some_and(|event| charged(&session.records, event, &kinds));
    let evidence = json!({ "iova": format!("{iova:#x}"), "event": event });
    Ok(Check::new(name, charged, evidence))
}

/// The first event in the attacked range since `mark`.
fn event(session: &mut Session, mark: usize, iova: u64) -> Result<Option<Value>> {
    let range = iova..iova.saturating_add(LENGTH);
    let find = |records: &Records| {
        let mut faults = records.since(mark, "fault");
        faults.find(|fault| number(fault, "address").is_some_and(|at| range.contains(&at))).cloned()
    };
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        if let Some(found) = find(&session.records) {
            return Ok(Some(found));
        }
        if !session.pump(until)? {
            return Ok(None);
        }
    }
}

/// Whether an event is charged to rogue and its stream, and its raw bytes say the same.
fn charged(records: &Records, event: &Value, kinds: &[&str]) -> bool {
    let Some(raw) = text(event, "raw").and_then(bytes) else { return false };
    let word = |at: usize| {
        let bytes = raw.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    };
    let address = word(16).zip(word(20)).map(|(low, high)| high << 32 | low);
    let owned = stream(records).is_some_and(|stream| number(event, "stream") == Some(stream));
    text(event, "vm") == Some(VM)
        && owned
        && text(event, "kind").is_some_and(|kind| kinds.contains(&kind))
        && raw.len() == 32
        && word(4) == number(event, "stream")
        && address == number(event, "address")
        && word(0).is_some_and(|id| Some(id & 0xff) == text(event, "kind").and_then(number_of))
}

/// The event numbers of IHI 0070, section 7.3, for the kinds that scenarios wait for.
fn number_of(kind: &str) -> Option<u64> {
    match kind {
        "F_TRANSLATION" => Some(0x10),
        "F_ADDR_SIZE" => Some(0x11),
        "F_ACCESS" => Some(0x12),
        "F_PERMISSION" => Some(0x13),
        _ => None,
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | *d) as u8).collect())
}

/// The StreamID of rogue's device, as the report says while rogue owns it.
#[must_use]
pub fn stream(records: &Records) -> Option<u64> {
    let mut owned = records.of("posture").filter(|entry| text(entry, "owner") == Some(VM));
    number(owned.next()?, "stream")
}

/// Asks rogue for the guest address of one of its pages.
pub fn page(session: &mut Session, which: &str) -> Result<u64> {
    let answer = session.command(VM, which, PATIENCE)?;
    field(&answer, "ipa").with_context(|| format!("rogue's answer to {which} has no ipa: {answer}"))
}

/// The control run of [`in_flight`]: the same DMA into the same page, armed in the same way, with
/// nobody torn down. Gives whether it landed.
pub fn undisturbed(session: &mut Session, pattern: u32) -> Result<bool> {
    let ipa = page(session, "canary")?;
    let physical = session.records.physical(VM, ipa).context("the report has no RAM of rogue")?;
    session.command(VM, &format!("arm w {ipa:#x} {LENGTH} {pattern:#x}"), PATIENCE)?;
    let limit = Instant::now() + PATIENCE;
    while Instant::now() < limit {
        if holds(&session.memory(physical, LENGTH)?, pattern) {
            return Ok(true);
        }
        session.pump(Instant::now() + Duration::from_millis(5))?;
    }
    Ok(false)
}

/// What a DMA did that was under way when its VM was torn down.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The target while rogue still ran.
    pub before: Vec<u8>,
    /// The target at the end.
    pub after: Vec<u8>,
    /// Whether the pattern was ever seen in it.
    pub landed: bool,
    /// How often the host looked.
    pub looks: u32,
    /// Physical address of the target.
    pub physical: u64,
    /// How long after its start the host heard that the stream aborts.
    pub aborted_after: Option<Duration>,
    /// What the hypervisor then said of the device.
    pub condition: String,
}

/// What edu takes for a transfer, in the machine's time, which is never faster than ours.
const TRANSFER: Duration = Duration::from_millis(100);

/// The host was too slow to tell: the transfer was over before rogue's stream aborted.
#[derive(Debug, Error)]
#[error("inconclusive: on this busy host the DMA in flight was over before the teardown")]
pub struct Inconclusive;

/// Lets rogue start a DMA into its own memory and power off in the same breath, and watches the
/// page until the hypervisor has said what became of the device, and a while longer.
pub fn in_flight(session: &mut Session, pattern: u32) -> Result<InFlight> {
    let ipa = page(session, "canary")?;
    let physical = session.records.physical(VM, ipa).context("the report has no RAM of rogue")?;
    let stream = stream(&session.records).context("rogue never owned a stream")?;
    let before = session.memory(physical, LENGTH)?;
    session.command(VM, &format!("load {LENGTH} {pattern:#x}"), PATIENCE)?;
    let (vm, mark, start) = (session.vm(VM)?, session.records.count(), Instant::now());
    session.send(vm, format!("last {ipa:#x} {LENGTH}\n").as_bytes());
    let mut flight = InFlight {
        after: before.clone(),
        before,
        landed: false,
        looks: 0,
        physical,
        aborted_after: None,
        condition: String::new(),
    };
    let limit = start + PATIENCE;
    let mut enough = None;
    while enough.is_none_or(|enough| Instant::now() < enough) && Instant::now() < limit {
        flight.after = session.memory(physical, LENGTH)?;
        flight.looks += 1;
        flight.landed |= holds(&flight.after, pattern);
        session.pump(Instant::now() + Duration::from_millis(5))?;
        let aborts = session.records.since(mark, "posture").find(|record| {
            number(record, "stream") == Some(stream) && text(record, "state") == Some("abort")
        });
        if let Some(record) = aborts
            && enough.is_none()
        {
            flight.aborted_after = Some(start.elapsed());
            flight.condition = text(record, "condition").unwrap_or_default().to_owned();
            // The DMA's own 100 ms, many times over on a slow host.
            enough = Some(Instant::now() + Duration::from_secs(2));
        }
    }
    // A device that was not taken back in order is dead: that the abort is late is then no wonder,
    // and no fault of the host's.
    let late = flight.aborted_after.is_some_and(|after| after >= TRANSFER);
    if flight.landed && late && flight.condition != "dead" {
        return Err(Inconclusive.into());
    }
    Ok(flight)
}

impl InFlight {
    /// The measured values.
    #[must_use]
    pub fn evidence(&self, pattern: u32) -> Value {
        json!({
            "target": format!("{:#x}", self.physical),
            "pattern": format!("{pattern:#010x}"),
            "before": hex(&self.before),
            "after": hex(&self.after),
            "looks": self.looks,
            "landed": self.landed,
            "aborted_after_ms": self.aborted_after.map(|after| after.as_millis() as u64),
            "condition": self.condition,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(vm: &str) -> (Records, Value) {
        let mut raw = [0u8; 32];
        raw[0] = 0x10;
        raw[4..8].copy_from_slice(&0x200u32.to_le_bytes());
        raw[16..24].copy_from_slice(&0x4800_0000u64.to_le_bytes());
        let raw: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut records = Records::default();
        records.take(r#"{"type":"posture","stream":512,"owner":"rogue","state":"stage2"}"#);
        let event = json!({"type": "fault", "vm": vm, "stream": 512, "kind": "F_TRANSLATION",
                           "address": 0x4800_0000u64, "raw": raw});
        (records, event)
    }

    #[test]
    fn an_event_counts_only_when_raw_and_decoded_agree() {
        let (records, event) = records("rogue");
        assert!(charged(&records, &event, &["F_TRANSLATION"]));
        assert!(!charged(&records, &event, &["F_PERMISSION"]), "another kind");
        for (field, wrong) in [
            ("vm", json!("disk")),
            ("stream", json!(256)),
            ("address", json!(0x4800_0004u64)),
            ("raw", json!("00")),
            ("kind", json!("F_PERMISSION")),
        ] {
            let mut other = event.clone();
            other[field] = wrong;
            assert!(!charged(&records, &other, &["F_TRANSLATION", "F_PERMISSION"]), "{field}");
        }
    }

    #[test]
    fn patterns_are_found_on_word_boundaries() {
        let pattern = pattern(1, 2);
        assert_ne!(pattern, super::pattern(1, 3));
        let mut memory = vec![0; 64];
        assert!(!holds(&memory, pattern));
        memory[8..12].copy_from_slice(&pattern.to_le_bytes());
        assert!(holds(&memory, pattern));
    }
}
