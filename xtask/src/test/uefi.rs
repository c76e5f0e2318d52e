//! palisade.efi on QEMU's virt: what it refuses, with which words, and back in the firmware; and
//! what is quiet when the hypervisor's first instruction runs, seen from outside.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec, listen};
use palisade_e2e::monitor::Monitor;
use serde_json::json;

use crate::esp::Volume;
use crate::run::Hardware;
use crate::test::tally::{Tally, announce};
use crate::workspace::Workspace;
use crate::{debian, guard};

const PATIENCE: Duration = Duration::from_secs(120);
/// What the firmware says of an application that came back.
const BACK: &str = "failed to start";

/// One refusal.
struct Case {
    name: &'static str,
    /// QEMU's machine, after its GIC and SMMU.
    machine: &'static str,
    /// What happens to the volume.
    change: fn(&Path) -> Result<()>,
    /// What must come out.
    words: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "uefi-el1",
        machine: "virtualization=off",
        change: |_| Ok(()),
        words: "this is EL1, and a hypervisor needs EL2",
    },
    Case {
        name: "uefi-damaged",
        machine: "virtualization=on",
        change: |folder| {
            let file = folder.join("cmdline");
            Ok(fs::write(file, "palisade.log=trace")?)
        },
        words: "cmdline is damaged or another one's",
    },
    Case {
        name: "uefi-missing",
        machine: "virtualization=on",
        change: |folder| Ok(fs::remove_file(folder.join("bundle"))?),
        words: "bundle cannot be read",
    },
    Case {
        name: "uefi-swapped",
        machine: "virtualization=on",
        change: |folder| {
            fs::rename(folder.join("bundle"), folder.join("other"))?;
            fs::rename(folder.join("hypervisor"), folder.join("bundle"))?;
            Ok(fs::rename(folder.join("other"), folder.join("hypervisor"))?)
        },
        words: "hypervisor is damaged or another one's",
    },
];

/// Runs the cases whose names hold `only`.
pub fn run(workspace: &Workspace, qemu: &Path, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut one = |name: &str, test: &dyn Fn() -> Result<()>| {
        if !name.contains(only) {
            return;
        }
        let start = Instant::now();
        let result = test();
        announce(name, result.is_ok(), start);
        if let Err(error) = &result {
            say(&format!("{name}: {error:#}"));
        }
        tally += Tally::one(result.is_ok());
    };
    for case in CASES {
        one(case.name, &|| {
            let mut guest = Guest::start(workspace, qemu, case.machine, SPINS, case.change)?;
            guest.wait_for(&["palisade: cannot start: ", case.words, BACK])
        });
    }
    // An Image that reaches into what the firmware has at the end of little RAM.
    one("uefi-occupied", &|| {
        let mut guest = Guest::start(workspace, qemu, "virtualization=on", LARGE, |_| Ok(()))?;
        guest.wait_for(&["no room for the hypervisor at 0x44000000", BACK])
    });
    one("uefi-quiet", &|| quiet(workspace, qemu));
    Ok(tally)
}

/// An Image that stands in for the hypervisor: text_offset, image_size, and the machine's memory.
type Image = (u64, u64, &'static str);

/// As the hypervisor is, and where it comes to lie.
const SPINS: Image = (0x20_0000, 0x1_0000, "1G");
const LARGE: Image = (0x400_0000, 0x3f0_0000, "128M");
const BASE: u64 = 0x4020_0000;

/// An arm64 Image whose first instruction is a branch to itself.
fn spinning((offset, size, _): Image) -> Vec<u8> {
    let mut image = vec![0; 4096];
    let words =
        [(0, 0x1400_0000), (8, offset), (16, size), (24, 2), (56, u64::from(0x644d_5241u32))];
    for (at, word) in words {
        if let Some(bytes) = image.get_mut(at..at + 8) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
    image
}

struct Guest {
    machine: Machine,
    output: Receiver<Vec<u8>>,
    said: String,
}

impl Guest {
    /// A machine with two disks and a network card behind ports, which boots a volume.
    fn start(
        workspace: &Workspace,
        qemu: &Path,
        machine: &str,
        image: Image,
        change: fn(&Path) -> Result<()>,
    ) -> Result<Self> {
        let folder = workspace.scratch()?.join(format!("uefi-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let (kernel, bundle) = (folder.join("kernel"), folder.join("bundle"));
        fs::write(&kernel, spinning(image))?;
        fs::write(&bundle, "no bundle is looked at here")?;
        let disk = folder.join("disk");
        fs::File::create(&disk)?.set_len(4 << 20)?;
        let volume = Volume { hypervisor: &kernel, bundle: Some(&bundle), append: "" };
        let place = folder.join("esp");
        volume.write(workspace, &place)?;
        change(&place.join("palisade"))?;
        let mut hardware = Hardware::default();
        let machine = format!("virt,gic-version=3,iommu=smmuv3,{machine}");
        let words = ["-M", &machine, "-cpu", "cortex-a72", "-m", image.2];
        hardware.arguments.extend(words.map(Into::into));
        let firmware = debian::firmware("edk2")?.context("Debian has no such firmware")?;
        // Off a PCI disk, so that a device masters the bus while the firmware runs.
        let volume = format!("if=none,id=esp,format=raw,readonly=on,file=fat:{}", place.display());
        hardware.arguments.extend(["-bios".into(), firmware.into()]);
        hardware.arguments.extend(["-drive".into(), volume.into()]);
        for (number, device) in DEVICES.iter().enumerate() {
            let port = number + 1;
            let disk = disk.display();
            hardware.arguments.extend([
                "-device".into(),
                format!("pcie-root-port,id=port{port},addr={port},chassis={port}").into(),
                "-drive".into(),
                format!("if=none,id=disk{port},format=raw,readonly=on,file={disk}").into(),
                "-device".into(),
                format!("{device},bus=port{port}").into(),
            ]);
        }
        let arguments = hardware.arguments;
        let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard: guard::words() };
        let (machine, _input, output) = Machine::start(&spec)?;
        Ok(Self { machine, output: listen(output), said: String::new() })
    }

    /// Waits until all of these came out.
    fn wait_for(&mut self, words: &[&str]) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if words.iter().all(|words| self.said.contains(words)) {
                return Ok(());
            }
            if interrupt::asked() {
                bail!("interrupted");
            }
            match self.output.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.said.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(_) => bail!("{words:?} did not come out\n--- said\n{}\n---", self.said),
            }
        }
    }
}

/// What stands behind ports 1, 2 and 3. The first is what the firmware boots from.
const DEVICES: [&str; 3] = [
    "virtio-blk-pci,drive=esp,bootindex=0,disable-legacy=on,iommu_platform=on",
    "nvme,serial=1,drive=disk2",
    "virtio-net-pci,disable-legacy=on,romfile=",
];

/// What the monitor sees of a machine's PCI functions and its SMMU.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    /// Of each function: address, whether it masters the bus.
    masters: Vec<(u64, bool)>,
    /// Of each function: bus numbers of a bridge, or BARs.
    set_up: Vec<(u64, Vec<u64>)>,
    /// SMMUEN, and GBPA's ABORT.
    smmu: (bool, bool),
}

const ECAM: u64 = 0x40_1000_0000;
const SMMU: u64 = 0x0905_0000;
const BUSES: u64 = 5;

impl Seen {
    fn look(monitor: &mut Monitor) -> Result<Self> {
        let (mut masters, mut set_up) = (Vec::new(), Vec::new());
        for device in 0..BUSES * 32 {
            // Function 0 of each device.
            let number = device << 3;
            let words = words(monitor, ECAM + (number << 12), 10)?;
            let word = |at: usize| words.get(at).copied().unwrap_or(u64::MAX);
            if word(0) & 0xffff == 0xffff {
                continue;
            }
            masters.push((number, word(1) & 4 != 0));
            let bridge = (word(3) >> 16) & 0x7f == 1;
            let fields =
                if bridge { vec![word(6), word(8), word(9)] } else { words[4..10].to_vec() };
            set_up.push((number, fields));
        }
        let cr0 = words(monitor, SMMU + 0x20, 1)?;
        let gbpa = words(monitor, SMMU + 0x44, 1)?;
        let bit =
            |words: Vec<u64>, bit: u32| words.first().is_some_and(|word| word >> bit & 1 != 0);
        Ok(Self { masters, set_up, smmu: (bit(cr0, 0), bit(gbpa, 20)) })
    }
}

/// Words of 32 bits at a physical address, as a device there gives them.
fn words(monitor: &mut Monitor, address: u64, count: usize) -> Result<Vec<u64>> {
    let line = format!("xp /{count}xw {address:#x}");
    let answer = monitor.execute("human-monitor-command", json!({ "command-line": line }))?;
    let text = answer.as_str().context("the monitor says nothing")?;
    // Address and a colon begin each line.
    let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix("0x"));
    let numbers: Vec<u64> = numbers.filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
    ensure!(numbers.len() == count, "the monitor says {text:?}");
    Ok(numbers)
}

/// At the first instruction nobody masters the bus, everything aborts, and what the firmware set
/// up is as it was. Beside it the same machine whose loader refused: there it is otherwise.
fn quiet(workspace: &Workspace, qemu: &Path) -> Result<()> {
    let on = "virtualization=on";
    let refuse: fn(&Path) -> Result<()> = |folder| Ok(fs::remove_file(folder.join("SHA256SUMS"))?);
    let mut control = Guest::start(workspace, qemu, on, SPINS, refuse)?;
    control.wait_for(&["palisade: cannot start: ", BACK])?;
    let mut monitor = Monitor::connect(&control.machine.monitor(), PATIENCE)?;
    let before = Seen::look(&mut monitor)?;
    drop(control);

    let mut guest = Guest::start(workspace, qemu, on, SPINS, |_| Ok(()))?;
    guest.wait_for(&["palisade: leaving the firmware"])?;
    let mut monitor = Monitor::connect(&guest.machine.monitor(), PATIENCE)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let ask = json!({ "command-line": "info registers" });
        let answer = monitor.execute("human-monitor-command", ask)?;
        let there = format!("PC={BASE:016x}");
        if answer.as_str().is_some_and(|text| text.contains(&there)) {
            break;
        }
        ensure!(Instant::now() < end, "it never came to its first instruction: {answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = Seen::look(&mut monitor)?;
    let masters = |seen: &Seen| seen.masters.iter().filter(|(_, masters)| *masters).count();
    ensure!(after.masters.len() == 1 + 2 * DEVICES.len(), "functions: {:x?}", after.masters);
    ensure!(masters(&before) > 0 && !before.smmu.1, "nothing to be made quiet: {before:x?}");
    ensure!(masters(&after) == 0, "these master the bus: {:x?}", after.masters);
    ensure!(after.smmu == (false, true), "SMMUEN and ABORT: {:?}", after.smmu);
    ensure!(
        before.set_up == after.set_up,
        "before {:x?}, after {:x?}",
        before.set_up,
        after.set_up
    );
    say(&format!(
        "uefi-quiet: of {} functions {} mastered the bus in the firmware, none at the first \
         instruction; GBPA aborts; BARs and bus numbers are the firmware's",
        after.masters.len(),
        masters(&before)
    ));
    Ok(())
}
