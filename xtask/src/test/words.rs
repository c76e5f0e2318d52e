//! Machines that cannot do their work must say why, in plain words on the serial line. Then they
//! switch themselves off, where they can; others are stopped once the words are out.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use palisade_e2e::console::say;
use palisade_e2e::interrupt;
use palisade_e2e::machine::{Machine, Spec};

use crate::bundle::{Description, pack};
use crate::card::Card;
use crate::cli::Board;
use crate::image::{Payloads, all_formats, hypervisor};
use crate::test::run::announce;
use crate::test::tally::Tally;
use crate::workspace::Workspace;
use crate::{debian, guard};

const PATIENCE: Duration = Duration::from_secs(120);

/// One machine.
struct Case {
    name: &'static str,
    machine: Kind,
    /// All of these must come out.
    words: &'static [&'static str],
    /// It switches itself off then.
    off: bool,
}

/// Which machine.
enum Kind {
    /// A Raspberry Pi whose device tree was changed so.
    Pi(fn(&mut [u8])),
    /// A Raspberry Pi without one: the loader passes ATAGs.
    PiWithout,
    /// QEMU's virt, where x0 points at this.
    Virt(fn() -> Result<Vec<u8>>),
    /// The same without EL2, and x0 points at nothing.
    VirtEl1,
    /// QEMU's virt, counting instructions, with an image that has every page-table format.
    AllFormats,
}

const CASES: &[Case] = &[
    Case {
        name: "all-formats",
        machine: Kind::AllFormats,
        words: &[
            "pgtable: arm-32-lpae-s1: self-test passed, 33 checks on 3 page sizes, ",
            "pgtable: arm-32-lpae-s2: self-test passed, 33 checks on 3 page sizes, ",
            "pgtable: arm-64-lpae-s1: self-test passed, 33 checks on 3 page sizes, ",
            "pgtable: arm-64-lpae-s2: self-test passed, 33 checks on 3 page sizes, ",
            "pgtable: arm-mali-lpae: self-test passed, 33 checks on 3 page sizes, ",
            "pgtable: arm-v7s: self-test passed, 40 checks on 4 page sizes, ",
            " instructions\r\n",
            "no bundle: there is nothing to run",
        ],
        off: true,
    },
    Case {
        name: "virt-tree-missing",
        machine: Kind::Virt(|| Ok(vec![0; 64])),
        words: &["the loader gave no device tree", "goes off: by PSCI and SMC"],
        off: true,
    },
    Case {
        name: "virt-tree-damaged",
        machine: Kind::Virt(|| {
            let mut bytes = tree(|_| Ok(()))?;
            // The last token, FDT_END.
            let end = bytes.len().saturating_sub(4);
            let last = bytes.windows(8).rposition(|two| two == [0, 0, 0, 2, 0, 0, 0, 9]);
            let at = last.map_or(end, |at| at + 4);
            bytes.get_mut(at..at + 4).context("a token")?.copy_from_slice(&7u32.to_be_bytes());
            Ok(bytes)
        }),
        words: &["device tree is malformed at byte 0x", "goes off: by PSCI and SMC"],
        off: true,
    },
    Case {
        name: "virt-el1-tree-missing",
        machine: Kind::VirtEl1,
        words: &["palisade was entered at EL1, but it needs EL2"],
        off: true,
    },
    Case {
        name: "virt-tree-of-no-machine",
        machine: Kind::Virt(|| tree(|fdt| fdt.property_string("model", "none at all"))),
        words: &["cannot go on: device tree: ", "goes off: by PSCI and SMC"],
        off: true,
    },
    Case {
        name: "rpi4-atags",
        machine: Kind::PiWithout,
        words: &["the loader gave no device tree", "this core stops here"],
        off: false,
    },
    Case {
        name: "rpi4-one-core",
        machine: Kind::Pi(|bytes| (1..4).for_each(|core| remove(bytes, &format!("cpu@{core}")))),
        words: &["1 cores up", "vm plain is refused: ", "needs 1 cores, 0 are left"],
        off: false,
    },
    Case {
        name: "rpi4-no-cores",
        machine: Kind::Pi(|bytes| remove(bytes, "cpus")),
        words: &["cannot go on: device tree: "],
        off: false,
    },
];

/// A device tree of one node.
fn tree(fill: fn(&mut vm_fdt::FdtWriter) -> vm_fdt::FdtWriterResult<()>) -> Result<Vec<u8>> {
    let mut fdt = vm_fdt::FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fill(&mut fdt)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

/// Runs the cases whose names hold `only`.
pub fn run(workspace: &Workspace, qemu: &Path, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    for case in CASES.iter().filter(|case| case.name.contains(only)) {
        let start = Instant::now();
        let folder = tempfile::Builder::new().prefix("palisade-words-").tempdir()?;
        let arguments = arguments(workspace, case, folder.path())?;
        let spec = Spec { qemu: qemu.to_path_buf(), arguments, guard: guard::words() };
        let (said, off) = listen(&spec, case)?;
        let missing: Vec<_> = case.words.iter().filter(|words| !said.contains(**words)).collect();
        let passed = missing.is_empty() && off == case.off;
        announce(case.name, passed, start);
        if !passed {
            say(&format!("{missing:?} did not come out; off: {off}\n--- said\n{said}\n---"));
        }
        tally += Tally::one(passed);
    }
    Ok(tally)
}

fn arguments(workspace: &Workspace, case: &Case, folder: &Path) -> Result<Vec<OsString>> {
    let change = match case.machine {
        Kind::Pi(change) => change,
        Kind::PiWithout => {
            let kernel = hypervisor(workspace, Board::Rpi4)?;
            return Ok(["-M".into(), "raspi4b".into(), "-kernel".into(), kernel.into()].into());
        }
        Kind::Virt(tree) => return virt(workspace, "virt,virtualization=on", &tree()?, folder),
        Kind::VirtEl1 => return virt(workspace, "virt", &[0; 64], folder),
        Kind::AllFormats => {
            let machine = "virt,virtualization=on,gic-version=3,iommu=smmuv3";
            let words = ["-M", machine, "-cpu", "cortex-a72", "-m", "1G", "-icount", "shift=0"];
            let mut arguments: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            arguments.extend(["-kernel".into(), all_formats(workspace)?.into()]);
            return Ok(arguments);
        }
    };
    let source = debian::files()?.rpi4_tree;
    let mut bytes = std::fs::read(&source).with_context(|| source.display().to_string())?;
    change(&mut bytes);
    let tree = folder.join("changed.dtb");
    std::fs::write(&tree, bytes)?;
    let scenarios = workspace.root.join("tests/scenarios");
    let description = Description::read(&scenarios.join("honest.toml"))?;
    let bundle = folder.join("bundle.cpio");
    std::fs::write(&bundle, pack(&description, &scenarios, &mut Payloads { workspace })?)?;
    Card::write(workspace, &folder.join("card"), &bundle, Some(&tree), "")?.qemu()
}

/// QEMU's virt with x0 at `tree`, past QEMU's own loader, which refuses what is no tree.
fn virt(workspace: &Workspace, machine: &str, tree: &[u8], folder: &Path) -> Result<Vec<OsString>> {
    // movz x0, #0x5000, lsl #16; movz x1, #0x4020, lsl #16; br x1
    let entry: Vec<u8> =
        [0xd2aa_0000u32, 0xd2a8_0401, 0xd61f_0020].into_iter().flat_map(u32::to_le_bytes).collect();
    let (entry_file, tree_file) = (folder.join("entry"), folder.join("tree"));
    std::fs::write(&entry_file, entry)?;
    std::fs::write(&tree_file, tree)?;
    let mut arguments: Vec<OsString> =
        ["-M", machine, "-cpu", "cortex-a72", "-m", "1G"].map(OsString::from).into();
    let image = hypervisor(workspace, Board::QemuVirt)?;
    for (file, place) in [
        (image, "addr=0x40200000"),
        (tree_file, "addr=0x50000000"),
        (entry_file, "addr=0x48000000,cpu-num=0"),
    ] {
        let words = format!("loader,file={},{place},force-raw=on", file.display());
        arguments.extend(["-device".into(), words.into()]);
    }
    Ok(arguments)
}

/// Everything that came out until the words were there, and where it is to switch itself off the
/// machine ended, or until time was up; and whether it ended.
fn listen(spec: &Spec, case: &Case) -> Result<(String, bool)> {
    let (machine, _input, mut output) = Machine::start(spec)?;
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let Some(bytes) = buffer.get(..count) else { return };
            if send.send(bytes.to_vec()).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&said).into_owned();
        let all = !case.off && case.words.iter().all(|word| text.contains(word));
        if all || Instant::now() > end {
            drop(machine);
            return Ok((text, false));
        }
        if interrupt::asked() {
            bail!("interrupted");
        }
        match receive.recv_timeout(Duration::from_millis(100)) {
            Ok(bytes) => said.extend(bytes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok((text, true)),
        }
    }
}

/// Overwrites the first node of this name, with all that is in it, by deleted entries.
fn remove(bytes: &mut [u8], name: &str) {
    const BEGIN: u32 = 1;
    const END: u32 = 2;
    const PROPERTY: u32 = 3;
    const NOP: u32 = 4;
    let word = |bytes: &[u8], at: usize| {
        let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        chunk.map_or(9, |chunk| u32::from_be_bytes(*chunk))
    };
    let wanted = [&BEGIN.to_be_bytes(), name.as_bytes(), b"\0"].concat();
    let Some(start) = bytes.windows(wanted.len()).position(|window| window == wanted) else {
        return;
    };
    let (mut at, mut depth) = (start, 0);
    loop {
        match word(bytes, at) {
            BEGIN => {
                let rest = bytes.get(at + 4..).unwrap_or_default();
                let length = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
                at = (at + 4 + length + 1).next_multiple_of(4);
                depth += 1;
            }
            PROPERTY => at = (at + 12 + word(bytes, at + 4) as usize).next_multiple_of(4),
            END => {
                at += 4;
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            NOP => at += 4,
            _ => return,
        }
    }
    for chunk in bytes.get_mut(start..at).unwrap_or_default().chunks_exact_mut(4) {
        chunk.copy_from_slice(&NOP.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_node_is_gone_and_the_rest_reads() {
        let mut fdt = vm_fdt::FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        for name in ["cpu@0", "cpu@1"] {
            let node = fdt.begin_node(name).unwrap();
            fdt.property_u32("reg", 1).unwrap();
            fdt.end_node(node).unwrap();
        }
        fdt.end_node(root).unwrap();
        let mut bytes = fdt.finish().unwrap();
        remove(&mut bytes, "cpu@0");
        palisade_fdt::compact(&mut bytes).unwrap();
        let tree = palisade_fdt::Tree::new(&bytes).unwrap();
        assert!(tree.node("/cpu@0").is_none() && tree.node("/cpu@1").is_some());
    }
}
