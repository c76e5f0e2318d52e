//! Scenario `two-linux`: two unmodified kernels, each with a disk and a network card of its own,
//! and `rogue`, which attacks both. Then the first one's disk moves to the second, in the middle
//! of its transfers.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::drive::attack::{self, pattern};
use crate::drive::operator::tell;
use crate::drive::{Job, isolation};
use crate::outcome::Check;
use crate::record::{number, text};
use crate::session::Session;

const FIRST: &str = "first";
const SECOND: &str = "second";
/// A boot, or a job, on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);
/// The first VM's disk, and where the second finds it later.
const DISK: &str = "0000:01:00.0";
const DISK_BUS: u64 = 1;
const SECOND_DISK_BUS: u64 = 3;
const CARDS: [u64; 2] = [2, 4];
/// Doorbells of an NVMe controller (NVM Express, 3.1.2).
const DOORBELLS: u64 = 0x1000;
/// Where in a Linux guest's RAM its code surely is, which nothing changes in peace.
const CODE: u64 = (8 << 20) + 0x100;
const RAM: u64 = 0x4000_0000;
/// What each disk is written with.
const MIB: u64 = 8;
/// The least that a disk transfers.
const SECTOR: usize = 512;

/// Plays the host's part.
pub fn drive(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    for vm in [FIRST, SECOND, attack::VM] {
        session.ready(vm, PATIENCE)?;
    }
    let write = |number: u64| format!("disk mib={MIB} seed={}", 100 * job.seed + number);
    session.begin(FIRST, &write(1))?;
    session.begin(SECOND, &write(2))?;
    attacks(job, session, checks)?;
    for (vm, number, disk) in [(FIRST, 1, 0), (SECOND, 2, 1)] {
        let answer = session.answer(vm, &write(number), PATIENCE)?;
        checks.push(on_host(job, &format!("{vm}-disk-data-on-host"), disk, &answer)?);
    }
    session.begin(FIRST, "net")?;
    session.begin(SECOND, "net")?;
    for (vm, card) in [(FIRST, 0), (SECOND, 1)] {
        let answer = session.answer(vm, "net", PATIENCE)?;
        checks.push(network(job, vm, card, &answer)?);
    }
    registers(session, checks)?;
    for vm in [FIRST, SECOND] {
        let answer = session.command(vm, "msix", PATIENCE)?;
        let right = answer.contains("ITS-MSI");
        checks.push(Check::new(&format!("{vm}-gets-its-messages"), right, json!(answer)));
    }
    moves(job, session, checks)?;
    for vm in [FIRST, SECOND, attack::VM] {
        let index = session.vm(vm)?;
        session.send(index, b"off\n");
    }
    session.finish(PATIENCE)?;
    checks.push(isolation::all_abort(session));
    Ok(())
}

/// By DMA, while both work: their memory, their disks' doorbells, their network cards.
fn attacks(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let mut count = 30;
    let mut next = || {
        count += 1;
        pattern(job.seed, count)
    };
    for vm in [FIRST, SECOND] {
        let physical = session.records.physical(vm, RAM + CODE);
        let physical = physical.with_context(|| format!("{vm} has no RAM"))?;
        let target = isolation::foreign(session, physical)?;
        let name = format!("rogue-is-kept-from-{vm}s-memory");
        checks.push(attack::repelled(session, &name, target, next(), &["F_TRANSLATION"])?);
    }
    let disks = [(DISK_BUS, DOORBELLS), (SECOND_DISK_BUS, DOORBELLS)];
    for (vm, (bus, offset)) in [FIRST, SECOND].into_iter().zip(disks) {
        let at = region(session, bus)? + offset;
        let name = format!("rogue-is-kept-from-{vm}s-doorbells");
        checks.push(attack::refused(session, &name, at, next())?);
    }
    for (vm, bus) in [FIRST, SECOND].into_iter().zip(CARDS) {
        let at = region(session, bus)?;
        let name = format!("rogue-is-kept-from-{vm}s-network-card");
        checks.push(attack::refused(session, &name, at, next())?);
    }
    let faults = session.records.of("fault");
    let others: Vec<&Value> =
        faults.filter(|fault| text(fault, "vm") != Some(attack::VM)).collect();
    let evidence = json!({ "faults": session.records.of("fault").count(), "others": others });
    checks.push(Check::new("only-rogue-is-charged", others.is_empty(), evidence));
    Ok(())
}

/// The lowest memory region of the device on a bus, as QEMU sees it.
fn region(session: &mut Session, bus: u64) -> Result<u64> {
    let regions = session.regions(bus)?;
    let lowest = regions.iter().map(|(start, _)| *start).min();
    lowest.with_context(|| format!("no device with registers on bus {bus}"))
}

/// By its own loads and stores: at the addresses where the others' registers really are, rogue
/// finds what it finds, but not them. It may fall over that.
fn registers(session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    // Version of the controller (NVM Express, 3.1.1.2): never zero, never all ones.
    let at = region(session, DISK_BUS)?;
    let version = session.memory(at + 8, 4)?;
    let mark = session.said(attack::VM).len();
    session.begin(attack::VM, &format!("poke {:#x} 7", at + DOORBELLS))?;
    session.begin(attack::VM, &format!("peek {:#x}", at + 8))?;
    let start = std::time::Instant::now();
    let said = loop {
        let said = session.said(attack::VM).get(mark..).unwrap_or_default().to_vec();
        if said.len() >= 2 || said.iter().any(|line| line.starts_with("fault")) {
            break said;
        }
        if start.elapsed() > PATIENCE {
            bail!("rogue says nothing");
        }
        session.wait_a_while(Duration::from_millis(50))?;
    };
    let seen = said.iter().filter_map(|line| line.strip_prefix("ok value=")).next_back();
    let seen = seen.and_then(crate::record::parse).map(|value| (value as u32).to_le_bytes());
    let kept = seen.is_none_or(|bytes| bytes.as_slice() != version.as_slice());
    let known = version.iter().any(|byte| *byte != 0);
    let evidence = json!({ "at": format!("{at:#x}"), "version": version, "rogue": said });
    checks.push(Check::new("rogue-does-not-reach-others-registers", kept && known, evidence));
    Ok(())
}

/// The sum of the guest is the sum of the image.
fn on_host(job: &Job, name: &str, disk: usize, answer: &str) -> Result<Check> {
    let mut images = job.disks.iter().flatten();
    let image = images.nth(disk).context("the scenario has too few disks")?;
    let words: Vec<&str> = answer.split_whitespace().collect();
    let guest = words.iter().skip_while(|word| **word != "sha256").nth(1).copied();
    let host = sum(image, MIB << 20)?;
    let evidence = json!({ "guest": answer, "host": host });
    Ok(Check::new(name, guest == Some(host.as_str()), evidence))
}

fn sum(path: &Path, bytes: u64) -> Result<String> {
    use std::io::Read;
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut sum = Sha256::new();
    std::io::copy(&mut file.take(bytes), &mut sum)?;
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The file came whole, and three pings were answered.
fn network(job: &Job, vm: &str, card: usize, answer: &str) -> Result<Check> {
    let mut files = job.files.iter().flatten();
    let file = files.nth(card).context("the scenario has too few network cards")?;
    let host = sum(file, u64::MAX)?;
    let field = |key: &str| {
        let mut words = answer.split_whitespace();
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let passed = field("sha256") == Some(host.as_str()) && field("answers") == Some("3");
    let evidence = json!({ "guest": answer, "host": host });
    Ok(Check::new(&format!("{vm}-network-passes-traffic"), passed, evidence))
}

/// The first VM's disk goes to the second while the first reads and writes it.
fn moves(job: &Job, session: &mut Session, checks: &mut Vec<Check>) -> Result<()> {
    let mark = format!("mark-{:016x}-", crate::drive::disk::word(job.seed, 99));
    session.command(FIRST, &format!("busy dev=/dev/nvme0n1 mark={mark}"), PATIENCE)?;
    let own = holds(session, FIRST, &mark)?;
    let before = session.records.count();
    tell(session, &format!("detach {FIRST} {DISK}"))?;
    checks.push(isolation::freed(session, before, DISK));
    let gone = session.command(FIRST, "hide bdf=0000:00:01.0", PATIENCE)?;
    let left = session.command(FIRST, "pci", PATIENCE)?;
    let passed = !left.contains("0x1b36:0x0010");
    let evidence = json!({ "hide": gone, "pci": left });
    checks.push(Check::new("first-goes-on-without-its-disk", passed, evidence));

    let image = job.disks.iter().flatten().next().context("the scenario has no disk")?;
    let still = sum(image, u64::MAX)?;
    tell(session, &format!("assign {SECOND} {DISK} 00:05.0"))?;
    session.wait_a_while(Duration::from_secs(1))?;
    let after = sum(image, u64::MAX)?;
    let other = holds(session, SECOND, &mark)?;
    let passed = own > 0 && other == 0 && still == after;
    let evidence = json!({
        "marks_in_first": own,
        "marks_in_second": other,
        "image_at_detach": still,
        "image_after_assign": after,
    });
    checks.push(Check::new("no-transfer-of-firsts-reaches-second", passed, evidence));

    let found = session.command(SECOND, "find dev=/dev/nvme1n1", PATIENCE)?;
    let command = format!("disk dev=/dev/nvme1n1 mib={MIB} seed={}", 100 * job.seed + 3);
    let answer = session.command(SECOND, &command, PATIENCE)?;
    let check = on_host(job, "second-works-with-firsts-disk", 0, &answer)?;
    checks.push(Check::new(
        &check.name,
        check.passed,
        json!({ "found": found, "disk": check.evidence }),
    ));
    Ok(())
}

/// In how many sectors' worth of a VM's RAM a mark is, as the host sees it. What a disk brings is
/// full of it.
fn holds(session: &mut Session, vm: &str, mark: &str) -> Result<usize> {
    let ram = session.records.of("ram").filter(|record| text(record, "vm") == Some(vm));
    let places: Vec<(u64, u64)> =
        ram.filter_map(|record| number(record, "pa").zip(number(record, "size"))).collect();
    let mut count = 0;
    for (pa, bytes) in places {
        let memory = session.memory(pa, bytes)?;
        let starts = memory.chunks_exact(SECTOR).map(|sector| &sector[..2 * mark.len()]);
        count += starts.filter(|start| contains(start, mark.as_bytes())).count();
    }
    Ok(count)
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|window| window == mark)
}
