//! Scenario `sva`: a guest shares two address spaces with its device, through the hypervisor's
//! context table and then by a table of its own; the host reads the memory behind them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::drive::Job;
use crate::drive::attack::{hex, holds, pattern};
use crate::drive::disk::field;
use crate::drive::operator::tell;
use crate::outcome::Check;
use crate::record::{more, number, text};
use crate::session::Session;

const VM: &str = "sva";
const BASE: u64 = 0x20_0000_0000;
/// An IPA that the VM does not have.
const OUTSIDE: u64 = 0x7000_0000;
const LENGTH: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(20);
/// Causes of exits that only the guest itself can make.
const CAUSES: [&str; 7] = ["wfx", "hypercall", "sysreg", "mmio", "fetch", "serror", "other"];
/// Bytes of `stats` on the wire, frame and all: each may interrupt the guest's core.
const TYPED: u64 = 9;
/// Transfers of the stream, and how many of them are looked at.
const STREAM: u64 = 48;
const LOOKED_AT: u64 = 16;
/// F_TRANSLATION (IHI 0070, 7.3.13).
const TRANSLATION: u64 = 0x10;

/// How the guest says what it wants, in one of the two ways.
struct Way {
    name: &'static str,
    /// The page that the guest gives up.
    given: usize,
    /// Begins with space 0.
    begin: &'static [&'static str],
    invalidate: &'static str,
    /// The same for 64 pages.
    invalidate_many: &'static str,
    /// From space 0 to space 1.
    switch: &'static str,
    /// Space 1 no more; and back to space 0.
    unbind: &'static str,
    again: &'static [&'static str],
    /// Space 0 goes.
    exit: &'static str,
    end: &'static [&'static str],
}

/// The way through an SMMU of the guest's own.
const VIRTUAL: &str = "virtual-smmu";
/// By an entry and a descriptor of the guest's own.
const OWN_TABLE: Way = Way {
    name: "guest-table",
    given: 7,
    begin: &["entry 0"],
    invalidate: "forget 0",
    invalidate_many: "forget-many 0",
    switch: "switch 1",
    unbind: "park 1",
    again: &["switch 0"],
    exit: "leave",
    end: &["disable"],
};
/// All of them; the last two say the same to different ears.
const WAYS: [Way; 3] = [
    Way {
        name: "hypervisor-table",
        given: 6,
        begin: &["enable", "bind 0"],
        invalidate: "invalidate 0",
        invalidate_many: "invalidate-many 0",
        switch: "rebind 1",
        unbind: "unbind",
        again: &["bind 0"],
        exit: "exit 0",
        end: &["unbind", "disable"],
    },
    OWN_TABLE,
    Way { name: VIRTUAL, ..OWN_TABLE },
];

struct Guest<'s> {
    session: &'s mut Session,
    /// IPA and PA of each page of data.
    data: Vec<(u64, u64)>,
    seed: u64,
    patterns: u64,
}

/// The virtual address of a page.
fn va(page: u64) -> u64 {
    BASE + page * 0x1000
}

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    session.ready(VM, Duration::from_secs(60))?;
    let mut guest = Guest { session, data: Vec::new(), seed: job.seed, patterns: 0 };
    for page in 0..8 {
        let ipa = field(&guest.say(&format!("data {page}"))?, "a").context("no address")?;
        let pa = guest.session.records.physical(VM, ipa).context("no RAM reported")?;
        guest.data.push((ipa, pa));
    }
    // A guest that has an SMMU uses it, and the scenario says so.
    let own = job.scenario.checks.iter().any(|check| check.starts_with(VIRTUAL));
    for way in WAYS.iter().filter(|way| (way.name == VIRTUAL) == own) {
        guest.play(way, checks)?;
    }
    let vm = guest.session.vm(VM)?;
    guest.session.send(vm, b"off\n");
    guest.session.finish(Duration::from_secs(30))
}

impl Guest<'_> {
    /// A command that must succeed.
    fn say(&mut self, command: &str) -> Result<String> {
        let answer = self.session.command(VM, command, PATIENCE)?;
        if !answer.starts_with("ok") {
            bail!("{command}: {answer}");
        }
        Ok(answer)
    }

    fn all(&mut self, commands: &[&str]) -> Result<()> {
        commands.iter().try_for_each(|command| self.say(command).map(|_| ()))
    }

    fn map(&mut self, space: u64, page: u64, data: usize) -> Result<()> {
        let (ipa, _) = self.data[data];
        self.say(&format!("map {space} {:#x} {ipa:#x}", va(page))).map(|_| ())
    }

    fn read(&mut self, data: usize) -> Result<Vec<u8>> {
        self.session.memory(self.data[data].1, LENGTH)
    }

    /// Fills the page that page 0 leads to and has the device read it by its virtual address.
    fn load(&mut self, data: usize) -> Result<u32> {
        self.patterns += 1;
        let pattern = pattern(self.seed ^ 0x5a, self.patterns);
        self.say(&format!("fill {data} {pattern:#x}"))?;
        self.say(&format!("fetch {:#x} {LENGTH}", va(0)))?;
        Ok(pattern)
    }

    /// Has the device write what it holds to a virtual address.
    fn store(&mut self, page: u64) -> Result<()> {
        self.say(&format!("store {:#x} {LENGTH}", va(page))).map(|_| ())
    }

    /// The guest's faults since the last time: all, those of a page, and their kind.
    fn faults(&mut self, page: u64) -> Result<[u64; 3]> {
        let answer = self.say(&format!("faults {:#x}", va(page)))?;
        let get = |key| field(&answer, key).context("no number");
        Ok([get("a")?, get("b")?, get("c")?])
    }

    /// The device writes to page 1; whether what it holds arrived in `to`, and in no other.
    fn arrives(&mut self, pattern: u32, to: Option<usize>) -> Result<(bool, Value)> {
        let pages = [0, 1, 2, 3, 4, 5];
        let source = [0, 4];
        let before = pages.map(|page| self.read(page));
        self.store(1)?;
        let mut well = true;
        let mut seen = Vec::new();
        for (page, before) in pages.into_iter().zip(before) {
            let (before, after) = (before?, self.read(page)?);
            let arrived = holds(&after, pattern) && after != before;
            // The source holds the pattern from the start.
            well &= arrived == (Some(page) == to) || source.contains(&page);
            if arrived || Some(page) == to {
                seen.push(json!({
                    "page": format!("{:#x}", self.data[page].1),
                    "before": hex(&before),
                    "after": hex(&after),
                }));
            }
        }
        let wanted = to.map(|page| format!("{:#x}", self.data[page].1));
        let evidence = json!({
            "iova": format!("{:#x}", va(1)),
            "pattern": format!("{pattern:#010x}"),
            "wanted": wanted,
            "changed": seen,
        });
        Ok((well, evidence))
    }

    fn play(&mut self, way: &Way, checks: &mut Vec<Check>) -> Result<()> {
        let mark = self.session.records.count();
        let mut check = |what: &str, (passed, evidence): (bool, Value)| {
            checks.push(Check::new(&format!("{}-{what}", way.name), passed, evidence));
        };
        // Space 0: pages 0 and 1 lead to data 0 and 1, page 3 outside; space 1: to 4 and 5.
        for (space, page, data) in [(0, 0, 0), (0, 1, 1), (1, 0, 4), (1, 1, 5)] {
            self.map(space, page, data)?;
        }
        self.say(&format!("map 0 {:#x} {OUTSIDE:#x}", va(3)))?;
        self.all(way.begin)?;
        self.faults(0)?;

        let held = self.load(0)?;
        check("reads-and-writes-by-virtual-address", self.arrives(held, Some(1))?);

        self.store(2)?;
        let [all, matching, kind] = self.faults(2)?;
        let evidence = json!({
            "address": format!("{:#x}", va(2)), "faults": all, "of_the_page": matching, "kind": kind,
        });
        check("unmapped-faults-to-the-guest", (matching > 0 && kind == TRANSLATION, evidence));

        check("outside-is-charged-to-the-vm", self.outside()?);

        // Page 1 is in the TLB: it moves to data 3.
        let held = self.load(0)?;
        self.map(0, 1, 3)?;
        self.say(&format!("{} {:#x}", way.invalidate, va(1)))?;
        check("remapped-page-leaves-nothing-stale", self.arrives(held, Some(3))?);

        check("batch-of-invalidations-is-one-exit", self.batch(way)?);

        let held = self.load(0)?;
        self.say(way.switch)?;
        check("second-process-takes-over", self.arrives(held, Some(5))?);

        let held = self.load(4)?;
        self.say(way.unbind)?;
        check("unbound-reaches-nothing", self.arrives(held, None)?);

        self.all(way.again)?;
        let held = self.load(0)?;
        check("bound-again-reaches-its-own", self.arrives(held, Some(2))?);

        check("dma-makes-no-exit", self.stream()?);

        check("given-up-page-is-out-of-reach", self.give_up(way.given)?);

        let held = self.load(0)?;
        self.say(way.exit)?;
        check("exited-reaches-nothing", self.arrives(held, None)?);

        let kinds: Vec<&str> = self
            .session
            .records
            .since(mark, "fault")
            .filter_map(|record| text(record, "kind"))
            .collect();
        let bad = kinds.iter().filter(|kind| kind.starts_with("C_BAD")).count();
        let evidence = json!({ "events": kinds.len(), "configuration_errors": bad });
        check("no-bad-descriptor", (bad == 0 && !kinds.is_empty(), evidence));
        self.all(way.end)
    }

    /// What the guest's vCPU came out for until now.
    fn exits(&mut self) -> Result<Value> {
        self.counts("counters")
    }

    /// What was counted for the guest until now.
    fn counts(&mut self, record: &str) -> Result<Value> {
        let mark = self.session.records.count();
        tell(self.session, "stats")?;
        let mut counters = self.session.records.since(mark, record);
        let own = counters.find(|record| text(record, "vm") == Some(VM));
        own.cloned().context("no counters of the VM")
    }

    /// Page 1 moves to data 2, and 64 pages are invalidated by one call.
    fn batch(&mut self, way: &Way) -> Result<(bool, Value)> {
        let held = self.load(0)?;
        self.map(0, 1, 2)?;
        let (record, counter) = match way.name {
            VIRTUAL => ("virtual_smmu", "doorbells"),
            _ => ("counters", "hypercall"),
        };
        let before = self.counts(record)?;
        let done = self.say(&format!("{} {:#x}", way.invalidate_many, va(1)))?;
        let after = self.counts(record)?;
        let calls = more(&before, &after, counter);
        let (fresh, evidence) = self.arrives(held, Some(2))?;
        let records = field(&done, "a");
        let passed = fresh && records == Some(64) && calls == Some(1);
        Ok((passed, json!({ "records": records, "exits": calls, "transfer": evidence })))
    }

    /// How many transfers of the stream are done.
    fn streamed(&mut self, count: u64, least: u64) -> Result<u64> {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let mut word = [0; 8];
            word.copy_from_slice(&self.session.memory(count, 8)?);
            let done = u64::from_le_bytes(word);
            if done >= least {
                return Ok(done);
            }
            if Instant::now() >= deadline {
                bail!("{done} transfers of {least}");
            }
            self.session.pump(Instant::now() + Duration::from_millis(50))?;
        }
    }

    /// Transfers one after the other, started, awaited and counted by the guest alone: it does
    /// not come out for them. What the host types interrupts it.
    fn stream(&mut self) -> Result<(bool, Value)> {
        let answer = self.say(&format!("stream {:#x} {STREAM}", va(1)))?;
        let ipa = field(&answer, "a").context("no address")?;
        let count = self.session.records.physical(VM, ipa).context("no RAM reported")?;
        self.streamed(count, 1)?;
        let before = self.exits()?;
        let first = self.streamed(count, 1)?;
        let last = self.streamed(count, (first + LOOKED_AT).min(STREAM - 1))?;
        let after = self.exits()?;
        self.streamed(count, STREAM)?;
        let exits: Vec<(&str, Option<u64>)> =
            CAUSES.iter().map(|&cause| (cause, more(&before, &after, cause))).collect();
        let interrupts = more(&before, &after, "irq");
        let none = exits.iter().all(|(_, count)| *count == Some(0));
        let passed = none && interrupts.is_some_and(|count| count <= TYPED) && last > first;
        let exits: serde_json::Map<String, Value> =
            exits.into_iter().map(|(cause, count)| (cause.to_owned(), json!(count))).collect();
        let evidence = json!({
            "transfers": last - first, "exits": exits, "interrupts_by_the_host": interrupts,
        });
        Ok((passed, evidence))
    }

    /// A page whose IPA the VM does not have: the hypervisor hears of it, the guest does not.
    fn outside(&mut self) -> Result<(bool, Value)> {
        let (charged, event, told) = self.charged(3)?;
        let evidence = json!({
            "iova": format!("{:#x}", va(3)), "ipa": format!("{OUTSIDE:#x}"),
            "event": event, "told_to_the_guest": told,
        });
        Ok((charged && told == 0, evidence))
    }

    /// A page that CPU and device have just written to is given up; then neither reaches it.
    fn give_up(&mut self, given: usize) -> Result<(bool, Value)> {
        self.map(0, 4, given)?;
        self.say(&format!("fill {given} 0x5a5a5a5a"))?;
        let held = self.load(0)?;
        self.store(4)?;
        let before = self.read(given)?;
        let touched = field(&self.say(&format!("touch {given} 0x1111"))?, "a");
        let by_cpu = self.read(given)?;
        let worked = holds(&before, held) && touched == Some(0) && before != by_cpu;

        self.say(&format!("give {given}"))?;
        self.load(0)?;
        let (charged, event, told) = self.charged(4)?;
        let faulted = field(&self.say(&format!("touch {given} 0x2222"))?, "a");
        let after = self.read(given)?;
        let evidence = json!({
            "page": format!("{:#x}", self.data[given].1),
            "written_by_the_device_before": hex(&before),
            "and_by_the_cpu": hex(&by_cpu),
            "after_both_tried_again": hex(&after),
            "event": event, "told_to_the_guest": told, "aborts_of_the_cpu": faulted,
        });
        let out = after == by_cpu && charged && told == 0 && faulted == Some(1);
        Ok((worked && out, evidence))
    }

    /// A write of the device that stage 2 stops: whether the hypervisor charges the VM, its
    /// record, and how many the guest is told of.
    fn charged(&mut self, page: u64) -> Result<(bool, Option<Value>, u64)> {
        let mark = self.session.records.count();
        self.faults(page)?;
        self.store(page)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let ours =
            |record: &&Value| number(record, "address").is_some_and(|at| at & !0xfff == va(page));
        while !self.session.records.since(mark, "fault").any(|record| ours(&record)) {
            if !self.session.pump(deadline)? || Instant::now() >= deadline {
                break;
            }
        }
        let event = self.session.records.since(mark, "fault").find(ours).cloned();
        let [_, told, _] = self.faults(page)?;
        let charged = event.as_ref().is_some_and(|event| {
            text(event, "vm") == Some(VM) && text(event, "kind") == Some("F_TRANSLATION")
        });
        Ok((charged, event, told))
    }
}
