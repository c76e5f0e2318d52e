//! `run --kernel` and `run --bundle`: VMs that no scenario judges.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use palisade_bundle::Bundle;
use palisade_e2e::console::{Guest, Screen, Terminal};
use palisade_e2e::drive::{self, GuestEnd, Job};
use palisade_e2e::machine::Spec;
use palisade_e2e::outcome::Outcome;
use palisade_e2e::scenario::{Device, Driver, Scenario};

use crate::bundle::{self, Address, Description, Vm, pack};
use crate::cli::{Board, RunOptions};
use crate::image::{Payloads, hypervisor};
use crate::run::Hardware;
use crate::run::scenario::PATIENCE;
use crate::run::terminal::Raw;
use crate::workspace::Workspace;
use crate::{guard, setup};

/// Boots a kernel or a bundle.
pub fn run(options: &RunOptions) -> Result<(ExitCode, Outcome)> {
    if options.board == Board::Rpi4 {
        bail!("--board rpi4: not there yet");
    }
    setup::target()?;
    let qemu = setup::qemu(options.qemu.as_deref())?;
    let workspace = Workspace::open()?;
    let devices = devices(&options.device)?;
    let folder = tempfile::Builder::new().prefix("palisade-run-").tempdir()?;
    let (bundle, vms, cores, alone) =
        match (options.kernel.as_ref().or(options.guest_firmware.as_ref()), &options.bundle) {
            (Some(kernel), _) => {
                let vm = vm(options, kernel, &devices)?;
                let (name, cores) = (vm.name.clone(), vm.vcpus);
                let description = Description { scenario: None, vms: vec![vm] };
                let bytes =
                    pack(&description, Path::new("."), &mut Payloads { workspace: &workspace })?;
                let path = folder.path().join("bundle.cpio");
                std::fs::write(&path, bytes)?;
                (path, vec![name], cores, true)
            }
            (None, Some(bundle)) => {
                let names = names(bundle)?;
                let cores = names.iter().map(|(_, vcpus)| *vcpus).sum();
                (bundle.clone(), names.into_iter().map(|(name, _)| name).collect(), cores, false)
            }
            (None, None) => bail!("give --kernel, --guest-firmware or --bundle"),
        };
    let kernel = hypervisor(&workspace, options.board)?;
    let scenario = scenario(options, &devices);
    let mut hardware = Hardware::machine(&scenario, cores)?;
    hardware.boot(
        &kernel,
        Some(&bundle),
        &format!("palisade.mux=1 palisade.seed={}", options.seed),
    );
    hardware.devices(&scenario.devices, folder.path())?;
    hardware.arguments.extend(options.qemu_arg.iter().map(Into::into));
    let job = Job {
        scenario,
        board: options.board.name().to_owned(),
        spec: Spec { qemu: qemu.path, arguments: hardware.arguments, guard: guard::words() },
        vms,
        disks: hardware.disks,
        files: hardware.files,
        seed: options.seed,
    };
    let screen: Box<dyn Screen> =
        if alone { Box::new(Guest) } else { Box::new(Terminal::default()) };
    let (end, outcome) = {
        let _raw = alone.then(Raw::enter);
        drive::guest(&job, screen)
    };
    tell(end, &outcome);
    Ok((ExitCode::from(end.status()), outcome))
}

fn tell(end: GuestEnd, outcome: &Outcome) {
    if end == GuestEnd::TimedOut {
        eprintln!("{}", outcome.error.as_deref().unwrap_or("time-out"));
        return;
    }
    let why = outcome.error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let word = match end {
        GuestEnd::Off => "the guest powered off",
        GuestEnd::Crashed => "the guest crashed",
        GuestEnd::Refused => "the guest was refused",
        GuestEnd::Left => "left",
        GuestEnd::TimedOut | GuestEnd::Broken => "failed",
    };
    eprintln!("{word}{why}");
}

/// `BDF=QEMU-DEVICE` words.
fn devices(words: &[String]) -> Result<Vec<(Address, String)>> {
    words
        .iter()
        .map(|word| {
            let (place, device) = word
                .split_once('=')
                .with_context(|| format!("--device {word:?}: want BDF=QEMU-DEVICE"))?;
            if device.is_empty() {
                bail!("--device {word:?}: no device after the =");
            }
            let place = place.parse().with_context(|| format!("--device {word:?}"))?;
            Ok((place, device.to_owned()))
        })
        .collect()
}

fn vm(options: &RunOptions, kernel: &Path, devices: &[(Address, String)]) -> Result<Vm> {
    let text = |path: &PathBuf| {
        path.to_str().map(str::to_owned).with_context(|| format!("{path:?} is not UTF-8"))
    };
    let absolute = |path: &Path| -> Result<PathBuf> {
        std::path::absolute(path).with_context(|| path.display().to_string())
    };
    let file = |path: &PathBuf| match path.to_str().filter(|name| ours(name)) {
        Some(ours) => Ok(ours.to_owned()),
        None => text(&absolute(path)?),
    };
    let kernel = file(&kernel.to_path_buf())?;
    let initrd = match &options.initrd {
        Some(initrd) => Some(file(initrd)?),
        None => None,
    };
    let devices = (1..)
        .zip(devices)
        .map(|(bus, (place, device))| bundle::Device {
            pci: Some(Address { segment: 0, bus, device: 0, function: 0 }.to_string()),
            guest: Some(place.to_string()),
            // One that cannot be reset and that nobody has owned before is accepted here.
            reset: Some("none".to_owned()),
            settle_ms: device.starts_with("edu").then_some(200),
            ..bundle::Device::default()
        })
        .collect();
    Ok(Vm {
        name: "guest".to_owned(),
        vcpus: options.vcpus,
        memory: options.memory.clone(),
        kernel,
        initrd,
        firmware: options.guest_firmware.is_some(),
        bootargs: options.append.clone().unwrap_or_default(),
        dma_isolation: None,
        iommu: options.iommu.clone(),
        devices,
        readonly: Vec::new(),
    })
}

/// Whether a name means a file that is made or fetched here.
fn ours(name: &str) -> bool {
    name.starts_with("payload:") || name.starts_with("debian:")
}

fn scenario(options: &RunOptions, devices: &[(Address, String)]) -> Scenario {
    let devices = devices.iter().map(|(_, device)| {
        let mut qemu = device.clone();
        // Without these words a virtio device goes past the SMMU.
        if qemu.starts_with("virtio-") && !qemu.contains("iommu_platform") {
            qemu.push_str(",iommu_platform=on,disable-legacy=on");
        }
        Device { qemu, disk: None, net: false, port: true, function: 0, bridge: false }
    });
    Scenario {
        name: if options.bundle.is_none() { "kernel" } else { "bundle" }.to_owned(),
        about: String::new(),
        machine: "virt".to_owned(),
        cpu: options.cpu.clone().unwrap_or_else(|| "cortex-a72".to_owned()),
        smmu: true,
        gic: options.gic.unwrap_or(3),
        cores: None,
        memory: "2GiB".to_owned(),
        timeout: options.timeout.unwrap_or(PATIENCE.as_secs()),
        driver: Driver::States,
        checks: vec!["guest-powers-off".to_owned()],
        unchecked: false,
        cycles: 0,
        icount: false,
        instructions: BTreeMap::new(),
        bootargs: String::new(),
        devices: devices.collect(),
        expected: Vec::new(),
    }
}

/// The VMs of a bundle with their vCPUs. The hypervisor judges each VM; a bundle that is broken as
/// a whole is refused here.
fn names(bundle: &Path) -> Result<Vec<(String, u32)>> {
    let file = || bundle.display().to_string();
    let bytes = std::fs::read(bundle).with_context(|| format!("cannot read {}", file()))?;
    let parsed = Bundle::parse(&bytes, usize::MAX);
    let parsed = parsed.map_err(|error| anyhow!("{error}")).with_context(file)?;
    let vcpus = |entry: &palisade_bundle::Entry<'_>| {
        entry.vm.as_ref().ok().and_then(|vm| u32::try_from(vm.vcpus).ok()).unwrap_or(1)
    };
    Ok(parsed.entries().iter().map(|entry| (entry.name.to_owned(), vcpus(entry))).collect())
}
