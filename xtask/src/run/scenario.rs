//! Scenarios: tests/scenarios/*.toml, or any file like them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use palisade_e2e::console::Terminal;
use palisade_e2e::drive::{self, Job};
use palisade_e2e::machine::Spec;
use palisade_e2e::outcome::Outcome;
use palisade_e2e::scenario::Scenario;
use tempfile::TempDir;

use crate::bundle::{Description, Vm, pack, pack_unchecked};
use crate::card::Card;
use crate::cli::{Board, Boot, RunOptions};
use crate::esp::Volume;
use crate::image::{Payloads, hypervisor};
use crate::run::Hardware;
use crate::workspace::Workspace;
use crate::{debian, guard, setup};

/// What may differ from what the scenario's file says.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The board.
    pub board: Board,
    /// The board's device tree, where the board's loader does not make one.
    pub tree: Option<PathBuf>,
    /// How the machine gets to the hypervisor.
    pub boot: Boot,
    /// The machine's firmware, where that is not Debian's.
    pub firmware: Option<PathBuf>,
    /// Moves the placement of VMs and canaries.
    pub seed: u64,
    /// Another GIC.
    pub gic: Option<u8>,
    /// Another CPU.
    pub cpu: Option<String>,
    /// Another time-out.
    pub timeout: Option<u64>,
    /// More arguments for QEMU.
    pub qemu_arguments: Vec<String>,
    /// What happens to the bundle before it is booted.
    pub damage: Option<fn(&mut Vec<u8>)>,
    /// There is no bundle.
    pub bare: bool,
    /// What else is different.
    pub change: Option<Change>,
}

/// Something that is different from what the scenario's file says.
pub type Change = fn(&mut Scenario, &mut [Vm]);

impl Default for Wish {
    fn default() -> Self {
        Self {
            board: Board::QemuVirt,
            tree: None,
            boot: Boot::Direct,
            firmware: None,
            seed: 0,
            gic: None,
            cpu: None,
            timeout: None,
            qemu_arguments: Vec::new(),
            damage: None,
            bare: false,
            change: None,
        }
    }
}

/// Runs a scenario on the terminal.
pub fn run(options: &RunOptions) -> Result<(ExitCode, Outcome)> {
    setup::target()?;
    let qemu = setup::qemu(options.qemu.as_deref())?;
    let workspace = Workspace::open()?;
    let name = options.scenario.as_deref().unwrap_or(match options.board {
        Board::QemuVirt => "isolation",
        Board::Rpi4 => "honest",
    });
    let wish = Wish {
        board: options.board,
        tree: options.dtb.clone(),
        boot: options.boot,
        firmware: options.firmware.clone(),
        seed: options.seed,
        gic: options.gic,
        cpu: options.cpu.clone(),
        timeout: options.timeout,
        qemu_arguments: options.qemu_arg.clone(),
        ..Wish::default()
    };
    let kernel = hypervisor(&workspace, options.board)?;
    let (job, _folder) = prepare(&workspace, &qemu.path, &kernel, name, &wish)?;
    let outcome = drive::run(&job, Box::new(Terminal::default()));
    outcome.show();
    let status = if outcome.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok((status, outcome))
}

/// A scenario's file by its name or path.
fn find(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let given = Path::new(name);
    if given.extension().is_some_and(|extension| extension == "toml") {
        return Ok(given.to_path_buf());
    }
    let folder = workspace.root.join("tests/scenarios");
    let path = folder.join(format!("{name}.toml"));
    if path.is_file() {
        return Ok(path);
    }
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .collect();
    names.sort();
    bail!("there is no scenario {name:?}; there are: {}", names.join(", "))
}

/// Makes a job of a scenario; the folder holds its files and must outlive the run.
pub fn prepare(
    workspace: &Workspace,
    qemu: &Path,
    kernel: &Path,
    name: &str,
    wish: &Wish,
) -> Result<(Job, TempDir)> {
    let path = find(workspace, name)?;
    let mut description = Description::read(&path)?;
    let file = || path.display().to_string();
    let mut scenario = description
        .scenario
        .take()
        .with_context(|| format!("{}: no [scenario]; use run --bundle for plain VMs", file()))?;
    scenario.gic = wish.gic.unwrap_or(scenario.gic);
    scenario.timeout = wish.timeout.unwrap_or(scenario.timeout);
    if let Some(change) = wish.change {
        change(&mut scenario, &mut description.vms);
    }
    if let Some(cpu) = &wish.cpu {
        scenario.cpu.clone_from(cpu);
    }
    let folder = tempfile::Builder::new().prefix("palisade-run-").tempdir()?;
    let beside = path.parent().unwrap_or(Path::new("."));
    let mut payloads = Payloads { workspace };
    let pack = if scenario.unchecked { pack_unchecked } else { pack };
    let mut bytes = pack(&description, beside, &mut payloads).with_context(file)?;
    if let Some(damage) = wish.damage {
        damage(&mut bytes);
    }
    let bundle = folder.path().join("bundle.cpio");
    std::fs::write(&bundle, bytes)?;
    let cores = description.vms.iter().map(|vm| vm.vcpus).sum::<u32>();
    let cores = scenario.cores.unwrap_or(cores);
    let append = format!("palisade.mux=1 palisade.seed={} {}", wish.seed, scenario.bootargs);
    let append = append.trim();
    let mut hardware = match wish.board {
        Board::QemuVirt => {
            let mut hardware = Hardware::machine(&scenario, cores).with_context(file)?;
            let initrd = (!wish.bare).then_some(bundle.as_path());
            match wish.boot {
                Boot::Direct => hardware.boot(kernel, initrd, append),
                Boot::Uefi => {
                    let place = folder.path().join("esp");
                    let volume = Volume { hypervisor: kernel, bundle: initrd, append };
                    volume.write(workspace, &place)?;
                    hardware.boot_uefi(&firmware(wish)?, &place);
                }
            }
            hardware
        }
        Board::Rpi4 => {
            let place = folder.path().join("card");
            let card = Card::write(workspace, &place, &bundle, wish.tree.as_deref(), append)?;
            Hardware { arguments: card.qemu()?, ..Hardware::default() }
        }
    };
    hardware.devices(&scenario.devices, folder.path()).with_context(file)?;
    hardware.arguments.extend(wish.qemu_arguments.iter().map(Into::into));
    let job = Job {
        scenario,
        board: wish.board.name().to_owned(),
        spec: Spec {
            qemu: qemu.to_path_buf(),
            arguments: hardware.arguments,
            guard: guard::words(),
        },
        vms: description.vms.iter().map(|vm| vm.name.clone()).collect(),
        disks: hardware.disks,
        files: hardware.files,
        seed: wish.seed,
    };
    Ok((job, folder))
}

/// The machine's own firmware.
fn firmware(wish: &Wish) -> Result<PathBuf> {
    match &wish.firmware {
        Some(file) => Ok(file.clone()),
        None => debian::firmware("edk2")?.context("Debian has no such firmware"),
    }
}

/// A sane limit for a run whose file or options name none.
pub const PATIENCE: Duration = Duration::from_secs(600);
