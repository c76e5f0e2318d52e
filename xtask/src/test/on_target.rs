//! The CPU's own walker about tables of `palisade-pgtable`: tests/on-target, booted at EL2 under
//! QEMU with each kind of CPU, must print exactly these lines and end with status 0.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec};

use crate::guard;
use crate::test::run::announce;
use crate::test::tally::Tally;
use crate::workspace::Workspace;

/// The package of both programs.
pub(super) const PACKAGE: &str = "palisade-on-target";
/// What every line of theirs starts with.
pub(super) const PREFIX: &str = "on-target: ";
/// It takes seconds; a busy host gets many times that.
const PATIENCE: Duration = Duration::from_secs(300);

/// One run.
struct Run {
    name: &'static str,
    cpu: &'static str,
    /// What it prints, without the prefix.
    lines: &'static [&'static str],
}

const RUNS: &[Run] = &[
    // 48 bits: each granule, every start level, 1 to 16 concatenated roots, every block size.
    Run {
        name: "on-target-neoverse-n1",
        cpu: "neoverse-n1",
        lines: &[
            "4K stage 2: 22676 addresses, 9757 hits, 12919 \
             misses (4421 by size), 0 wrong, 20 of 20 flips found\
             ; start 0 1 2; roots 1 2 4 8 16; sizes 4K 2M 1G",
            "16K stage 2: 16992 addresses, 7226 hits, 9766 \
             misses (2774 by size), 0 wrong, 20 of 20 flips found\
             ; start 1 2 3; roots 1 2 4 8 16; sizes 16K 32M",
            "64K stage 2: 16712 addresses, 6692 hits, 10020 \
             misses (3294 by size), 0 wrong, 20 of 20 flips found\
             ; start 1 2 3; roots 1 2 4 8 16; sizes 64K 512M",
            "4K stage 1: 10652 addresses, 4408 hits, 6244 \
             misses (1960 by size), 0 wrong, 10 of 10 flips found\
             ; start 0 1 2; roots 1; sizes 4K 2M 1G",
            "16K stage 1: 8160 addresses, 3320 hits, 4840 \
             misses (1174 by size), 0 wrong, 10 of 10 flips found\
             ; start 0 1 2 3; roots 1; sizes 16K 32M",
            "64K stage 1: 8160 addresses, 3012 hits, 5148 \
             misses (1582 by size), 0 wrong, 10 of 10 flips found\
             ; start 1 2 3; roots 1; sizes 64K 512M",
            "83352 addresses, 0 frames still held",
        ],
    },
    // FEAT_LPA2 and 52 bits.
    Run {
        name: "on-target-max",
        cpu: "max",
        lines: &[
            "4K LPA2 stage 2: 27716 addresses, 11441 hits, 16275 \
             misses (6459 by size), 0 wrong, 20 of 20 flips found\
             ; start -1 0 1 2; roots 1 2 4 8 16; sizes 4K 2M 1G 512G",
            "16K LPA2 stage 2: 22144 addresses, 8918 hits, 13226 \
             misses (4858 by size), 0 wrong, 20 of 20 flips found\
             ; start 0 1 2 3; roots 1 2 4 8 16; sizes 16K 32M 64G",
            "64K 52-bit stage 2: 15808 addresses, 6129 hits, 9679 \
             misses (3349 by size), 0 wrong, 18 of 18 flips found\
             ; start 1 2 3; roots 1 2 4 8 16; sizes 64K 512M 4T",
            "4K LPA2 stage 1: 11960 addresses, 4845 hits, 7115 \
             misses (2719 by size), 0 wrong, 8 of 8 flips found\
             ; start -1 0; roots 1; sizes 4K 2M 1G 512G",
            "16K LPA2 stage 1: 7276 addresses, 2958 hits, 4318 \
             misses (1466 by size), 0 wrong, 6 of 6 flips found\
             ; start 0 1; roots 1; sizes 16K 32M 64G",
            "64K 52-bit stage 1: 6548 addresses, 2495 hits, 4053 \
             misses (1525 by size), 0 wrong, 6 of 6 flips found\
             ; start 1; roots 1; sizes 64K 512M 4T",
            "91452 addresses, 0 frames still held",
        ],
    },
];

/// Builds the test and runs it on each CPU, where the name holds `only`.
pub fn run(workspace: &Workspace, qemu: &Path, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let runs: Vec<&Run> = RUNS.iter().filter(|run| run.name.contains(only)).collect();
    if runs.is_empty() {
        return Ok(tally);
    }
    let program = workspace.build(PACKAGE, PACKAGE)?;
    for run in runs {
        let start = Instant::now();
        let output = boot(qemu, &program, "virt,virtualization=on,gic-version=3", run.cpu, &[])?;
        let lines: Vec<&str> = output.lines().collect();
        let passed = output.status.is_none() && lines == run.lines;
        for line in &lines {
            say(&format!("{PREFIX}{}: {line}", run.cpu));
        }
        announce(run.name, passed, start);
        if !passed {
            let Output { printed, status } = &output;
            let status = status.as_deref().unwrap_or_default();
            let wanted = run.lines.join("\n");
            say(&format!("{status}\n--- wanted\n{wanted}\n--- printed\n{printed}\n---"));
        }
        tally += Tally::one(passed);
    }
    Ok(tally)
}

/// What came of a program.
pub(super) struct Output {
    /// What it printed.
    pub printed: String,
    /// What was wrong with its exit status.
    pub status: Option<String>,
}

impl Output {
    /// Its lines, without the prefix.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.printed.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX))
    }
}

/// Runs a program to its end.
pub(super) fn boot(
    qemu: &Path,
    program: &Path,
    machine: &str,
    cpu: &str,
    more: &[&str],
) -> Result<Output> {
    let machine = ["-machine", machine, "-m", "1G", "-cpu", cpu];
    let words = machine.iter().chain(more);
    let mut arguments: Vec<std::ffi::OsString> = words.map(Into::into).collect();
    arguments.extend(["-semihosting-config", "enable=on", "-kernel"].map(Into::into));
    arguments.push(program.into());
    let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard: guard::words() };
    let (mut machine, _input, mut output) = Machine::start(&spec)?;
    // Ends when QEMU does.
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).map(|_| bytes)
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = machine.ended()? {
            break (!status.success()).then(|| format!("QEMU: {status} {}", machine.complaints()));
        }
        if interrupt::asked() {
            bail!("interrupted");
        }
        if Instant::now() > end {
            break Some(format!("not done after {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    drop(machine);
    let bytes = reader.join().ok().context("reading the UART died")??;
    Ok(Output { printed: String::from_utf8_lossy(&bytes).into_owned(), status })
}
