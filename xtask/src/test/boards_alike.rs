//! Machines of QEMU by their device trees and by their ACPI tables: each is one machine.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use palisade_acpi::{Firmware, Tables, tree};
use palisade_e2e::console::say;
use palisade_e2e::machine::{Machine, Spec};
use palisade_fdt::Tree;
use palisade_model_against_qemu::qtest::Qtest;

use crate::guard;
use crate::progress;
use crate::test::tables::Files;
use crate::test::tally::{Tally, announce};

#[path = "../../../platform/acpi/tests/common/alike.rs"]
mod alike;

const NAME: &str = "board-by-acpi";
/// Where QEMU leaves the device tree, and how large it is at most.
const TREE: u64 = 0x4000_0000;
const LARGEST: usize = 2 << 20;

/// The machine's options, its CPU, cores and memory, and what is added.
type Variant = (&'static str, &'static str, u32, &'static str, &'static [&'static str]);

/// Cores 1 to 8, 512 MiB to 16 GiB, both GICs, several root buses, NUMA nodes, what lies low. Not
/// among them is `its=off`: QEMU 10.0's MADT names an ITS then that is not there.
const VARIANTS: &[Variant] = &[
    ("gic-version=3,iommu=smmuv3", "cortex-a72", 1, "512M", &[]),
    ("gic-version=3,iommu=smmuv3", "cortex-a72", 8, "2G", &[]),
    ("gic-version=3,iommu=smmuv3", "neoverse-n1", 4, "16G", &[]),
    ("gic-version=3,iommu=smmuv3", "max", 3, "1G", &[]),
    ("gic-version=2,iommu=smmuv3", "cortex-a72", 4, "2G", &[]),
    ("gic-version=2", "cortex-a53", 1, "512M", &[]),
    ("gic-version=2,iommu=smmuv3", "cortex-a72", 8, "16G", &[]),
    ("gic-version=3,iommu=smmuv3,highmem=off", "cortex-a72", 2, "2G", &[]),
    ("gic-version=3,iommu=smmuv3,highmem-ecam=off", "cortex-a72", 2, "1G", &[]),
    ("gic-version=3", "cortex-a76", 6, "4G", &[]),
    (
        "gic-version=3,iommu=smmuv3",
        "cortex-a72",
        4,
        "2G",
        &["-device", "pxb-pcie,bus_nr=64,bus=pcie.0", "-device", "pxb-pcie,bus_nr=128,bus=pcie.0"],
    ),
    (
        "gic-version=3,iommu=smmuv3",
        "cortex-a72",
        4,
        "2G",
        &[
            "-object",
            "memory-backend-ram,id=m0,size=1G",
            "-numa",
            "node,memdev=m0,cpus=0-1",
            "-object",
            "memory-backend-ram,id=m1,size=1G",
            "-numa",
            "node,memdev=m1,cpus=2-3",
        ],
    ),
];

/// Compares them, where the name holds `only`.
pub fn run(qemu: &Path, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    if !NAME.contains(only) {
        return Ok(tally);
    }
    let start = Instant::now();
    let step = progress::step("comparing device trees with ACPI tables");
    let mut alike = 0;
    for variant in VARIANTS {
        match one(qemu, variant) {
            Ok(()) => alike += 1,
            Err(error) => say(&format!("{NAME}: {variant:?}: {error:#}")),
        }
    }
    drop(step);
    let all = VARIANTS.len();
    say(&format!("{NAME}: {alike} of {all} machines alike but for:"));
    alike::DIFFERENCES.iter().for_each(|what| say(&format!("{NAME}:   {what}")));
    announce(NAME, alike == all, start);
    tally += Tally::one(alike == all);
    Ok(tally)
}

/// One machine: started, read twice, compared; and what the tables said is read back from the
/// tree that the loader would hand over.
fn one(qemu: &Path, (options, cpu, cores, memory, more): &Variant) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
    let socket = folder.path().join("qtest");
    let listener = UnixListener::bind(&socket)?;
    let machine = format!("virt,virtualization=on,{options}");
    let cores = cores.to_string();
    // Its CPUs never run.
    let mut arguments = vec!["-S", "-M", &machine, "-cpu", cpu, "-smp", &cores, "-m", memory];
    let qtest = format!("unix:{}", socket.display());
    arguments.extend(["-qtest-log", "none", "-qtest", &qtest]);
    arguments.extend(*more);
    let arguments = arguments.into_iter().map(Into::into).collect();
    let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard: guard::words() };
    let (mut machine, _input, _output) = Machine::start(&spec)?;
    let mut qtest = Qtest::accept(&listener, || match machine.ended()? {
        Some(status) => bail!("QEMU: {status} {}", machine.complaints()),
        None => Ok(()),
    })?;
    let head = qtest.bytes(TREE, 8)?;
    let size = head.get(4..).and_then(|rest| rest.first_chunk()).copied();
    let size = u32::from_be_bytes(size.unwrap_or_default()) as usize;
    let blob = qtest.bytes(TREE, size.min(LARGEST))?;
    let files = Files::read(&mut qtest).with_context(|| machine.complaints())?;
    let said = Tree::new(&blob).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let said = palisade_fdt::board(&said).map_err(|error| anyhow::anyhow!("{error}"))?;
    let tables = Tables::new(&files, files.root()?)?;
    let firmware = Firmware { memory: &said.memory, ..Firmware::default() };
    let board = palisade_acpi::board(&tables, &firmware)?;
    if let Some(note) = board.notes.first() {
        bail!("the tables: {note}");
    }
    alike::alike(&said, &board).map_err(anyhow::Error::msg)?;
    let blob = tree(&board)?;
    let back = Tree::new(&blob).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let back = palisade_fdt::board(&back).map_err(|error| anyhow::anyhow!("{error}"))?;
    if back != board {
        bail!("the tree that was made of them says something else");
    }
    Ok(())
}
