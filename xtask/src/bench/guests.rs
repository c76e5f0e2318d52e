//! A Linux under Palisade beside the same Linux on plain QEMU: the same kernel, initramfs, CPU, cores,
//! memory and disk; there no hypervisor and no SMMU, or, where the guest is to have an SMMU, QEMU's
//! own in the place of the hypervisor's. Both take turns, and the best of each counts.
//! The machines have all their memory before the clock starts, as real ones do: else a first look
//! at a page would cost the host's time for finding one.

use std::ffi::OsString;
use std::fs;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec, listen};
use palisade_e2e::monitor::Monitor;
use serde_json::{Value, json};

use palisade_e2e::scenario::Scenario;

use crate::bench::command::Numbers;
use crate::bundle::Vm;
use crate::cli::Board;
use crate::image::hypervisor;
use crate::run::{Hardware, Wish, prepare};
use crate::workspace::Workspace;
use crate::{debian, guard, setup};

const ROUNDS: usize = 3;
const CORES: u32 = 2;
const MEMORY: &str = "512MiB";
const WORDS: &str = "console=ttyAMA0 quiet palisade.jobs=disk palisade.mib=48";
const PATIENCE: Duration = Duration::from_secs(300);
/// What a guest with an SMMU is told besides: it invalidates at every unmap.
const STRICT: &str = "iommu.strict=1";
/// Both times may be this many times plain QEMU's; and where both have an SMMU.
const GOAL: f64 = 1.3;
const GOAL_WITH_IOMMU: f64 = 1.1;

/// The unit of /proc's times, in milliseconds.
const TICK: f64 = 10.0;

/// Moments of a run: what a line holds, and what begins there.
const STARTED: &str = "vm linux: started";
const UP: &str = "palisade: Linux";
const DONE: &str = "job disk: ok";

/// Since the machine started, in milliseconds: by the wall's clock, and of the processors.
#[derive(Clone, Copy, Debug, Default)]
struct Moment {
    wall: f64,
    cpu: f64,
}

impl Moment {
    fn since(self, start: Self) -> Self {
        Self { wall: self.wall - start.wall, cpu: self.cpu - start.cpu }
    }

    fn best(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Until the guest's first instruction.
    before: Moment,
    /// From there to the first line of PID 1.
    kernel: Moment,
    /// From the machine's start to the first line of PID 1.
    boot: Moment,
    /// Writing, reading and summing up the disk.
    io: Moment,
}

impl Times {
    fn best(self, other: Self) -> Self {
        Self {
            before: self.before.best(other.before),
            kernel: self.kernel.best(other.kernel),
            boot: self.boot.best(other.boot),
            io: self.io.best(other.io),
        }
    }
}

/// Runs both in turn and prints the table.
pub fn measure(workspace: &Workspace) -> Result<Numbers> {
    compare(workspace, false)
}

/// The same, both behind an SMMU that the guest drives.
pub fn measure_with_iommu(workspace: &Workspace) -> Result<Numbers> {
    compare(workspace, true)
}

fn compare(workspace: &Workspace, iommu: bool) -> Result<Numbers> {
    setup::target()?;
    let qemu = setup::qemu(None)?;
    let kernel = hypervisor(workspace, Board::QemuVirt)?;
    let wish = Wish {
        seed: 1,
        change: Some(if iommu { with_iommu } else { without_iommu }),
        ..Wish::default()
    };
    let (job, folder) = prepare(workspace, &qemu.path, &kernel, "linux", &wish)?;
    let mut ours = job.spec;
    ours.arguments.extend(populated("1G"));
    // Plain text is all that is wanted of the serial line.
    for word in &mut ours.arguments {
        if let Some(rest) = word.to_str().and_then(|word| word.strip_prefix("palisade.mux=1")) {
            *word = rest.trim().into();
        }
    }
    let files = debian::files()?;
    let initramfs = debian::initramfs(workspace, &files)?;
    let mut plain = Hardware::default();
    let cores = CORES.to_string();
    let cpu = job.scenario.cpu.as_str();
    let board = if iommu { "virt,gic-version=3,iommu=smmuv3" } else { "virt,gic-version=3" };
    let machine = ["-M", board, "-cpu", cpu, "-smp", &cores, "-m", "512M"];
    plain.arguments.extend(machine.map(Into::into));
    plain.arguments.extend(populated("512M"));
    plain.boot(&files.kernel, Some(&initramfs), &words(iommu));
    plain.devices(&job.scenario.devices, folder.path())?;
    let plain = Spec { qemu: qemu.path, arguments: plain.arguments, guard: guard::words() };

    let mut best: Option<(Times, Times)> = None;
    for round in 1..=ROUNDS {
        let (with, without) = (run(&ours, true)?, run(&plain, false)?);
        say(&format!(
            "round {round} of {ROUNDS}: boot {:.0} and {:.0} ms, disk {:.0} and {:.0} ms",
            with.boot.wall, without.boot.wall, with.io.wall, without.io.wall
        ));
        best = Some(best.map_or((with, without), |(a, b)| (a.best(with), b.best(without))));
    }
    let (with, without) = best.context("no round")?;
    Ok(table(&with, &without, iommu))
}

fn words(iommu: bool) -> String {
    if iommu { format!("{WORDS} {STRICT}") } else { WORDS.to_owned() }
}

fn without_iommu(scenario: &mut Scenario, vms: &mut [Vm]) {
    scenario.memory = "1GiB".to_owned();
    for vm in vms {
        (vm.vcpus, vm.memory, vm.bootargs) = (CORES, MEMORY.to_owned(), words(false));
    }
}

fn with_iommu(scenario: &mut Scenario, vms: &mut [Vm]) {
    without_iommu(scenario, vms);
    for vm in vms {
        (vm.iommu, vm.bootargs) = (Some("smmuv3".to_owned()), words(true));
    }
}

/// A number's name, where it is, and whether there is a goal for it.
type Row = (&'static str, fn(&Times) -> f64, bool);

fn table(with: &Times, without: &Times, iommu: bool) -> Numbers {
    let most = if iommu { GOAL_WITH_IOMMU } else { GOAL };
    let rows: [Row; 8] = [
        ("guest_boot", |times| times.boot.wall, true),
        ("guest_io", |times| times.io.wall, true),
        ("guest_boot_cpu", |times| times.boot.cpu, true),
        ("guest_io_cpu", |times| times.io.cpu, true),
        ("guest_before_first_instruction", |times| times.before.wall, false),
        ("guest_before_first_instruction_cpu", |times| times.before.cpu, false),
        ("guest_kernel_to_init", |times| times.kernel.wall, false),
        ("guest_kernel_to_init_cpu", |times| times.kernel.cpu, false),
    ];
    say(&format!(
        "{:<36} {:>10} {:>10} {:>7}  goal",
        "ms, the best of the rounds", "Palisade", "plain", "ratio"
    ));
    let mut numbers = Numbers::new();
    for (name, read, judged) in rows {
        let (ours, peer) = (read(with), read(without));
        let ratio = if peer > 0.0 { ours / peer } else { f64::NAN };
        let goal = if judged { format!("{most}") } else { String::new() };
        let shown = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
        say(&format!("{name:<36} {ours:>10.0} {peer:>10.0} {shown:>7}  {goal}"));
        let value = json!({
            "ours": ours.round(),
            "unit": "ms",
            "goal": if judged { json!(most) } else { Value::Null },
            "ratio": if ratio.is_finite() { json!((ratio * 100.0).round() / 100.0) } else { Value::Null },
            "peers": { "plain_qemu": peer.round() },
            "why": "goal and ratio are ours by plain QEMU's",
        });
        let prefix = if iommu { "iommu_" } else { "" };
        numbers.insert(format!("{prefix}{name}"), value);
    }
    numbers
}

/// QEMU's words for a machine that waits, with all of its memory there, until it is told to go.
fn populated(memory: &str) -> [OsString; 5] {
    let object = format!("memory-backend-ram,id=memory,prealloc=on,size={memory}");
    ["-S", "-machine", "memory-backend=memory", "-object", &object].map(Into::into)
}

/// Runs one machine to its end.
fn run(spec: &Spec, hypervisor: bool) -> Result<Times> {
    let (mut machine, _input, output) = Machine::start(spec)?;
    let mut monitor = Monitor::connect(&machine.monitor(), PATIENCE)?;
    let id = machine.id();
    let (start, before) = (Instant::now(), processor(id)?);
    monitor.execute("cont", json!({}))?;
    let wire = listen(output);
    let mut text = String::new();
    let mut moments = [None; 3];
    loop {
        match wire.recv_timeout(Duration::from_millis(100)) {
            Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if interrupt::asked() {
            bail!("interrupted");
        }
        if start.elapsed() > PATIENCE {
            bail!("not over within {} s:\n{text}", PATIENCE.as_secs());
        }
        for (words, moment) in [STARTED, UP, DONE].iter().zip(&mut moments) {
            if moment.is_none() && text.contains(words) {
                let wall = start.elapsed().as_secs_f64() * 1000.0;
                *moment = Some(Moment { wall, cpu: processor(id)? - before });
            }
        }
    }
    let _ = machine.finish(Duration::from_secs(5))?;
    let [started, up, done] = moments;
    let started = if hypervisor { started } else { Some(Moment::default()) };
    let (Some(before), Some(boot), Some(done)) = (started, up, done) else {
        bail!("the guest did not do its work:\n{text}\n{}", machine.complaints());
    };
    Ok(Times { before, kernel: boot.since(before), boot, io: done.since(boot) })
}

/// What a process and its threads have taken of the processors, in milliseconds.
fn processor(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let fields = text.rsplit_once(')').context("no stat")?.1;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Ok(ticks as f64 * TICK)
}
