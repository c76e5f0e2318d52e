//! `run --kernel` with images as they are shipped: packed, flat, broken; and what its exit status
//! then says.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use palisade_e2e::console::say;
use palisade_e2e::interrupt;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::bundle::Images as _;
use crate::debian;
use crate::image::Payloads;
use crate::test::run::announce;
use crate::test::tally::Tally;
use crate::workspace::Workspace;

/// What a Linux is told, and says when it was.
const LINUX: &[&str] = &[
    "--initrd",
    "debian:initramfs",
    "--append",
    "console=ttyAMA0 quiet palisade.jobs=cpus palisade.cpus=2",
    "--vcpus",
    "2",
];
const UP: &str = "job cpus: ok 2 online";
/// A branch to itself, and an instruction that is none: code of flat images.
const FOR_EVER: u32 = 0x1400_0000;
const UNDEFINED: u32 = 1;

/// One image.
struct Case {
    name: &'static str,
    /// Makes its bytes.
    image: fn(&Sources) -> Result<Vec<u8>>,
    /// More words of the command.
    words: &'static [&'static str],
    /// The exit status.
    status: i32,
    /// What the guest says on standard output.
    guest: &'static str,
    /// What is said on standard error.
    errors: &'static str,
}

/// Where images come from.
struct Sources {
    kernel: PathBuf,
    hello: PathBuf,
}

const CASES: &[Case] = &[
    Case {
        name: "kernel-gz",
        image: |sources| gz(&read(&sources.kernel)?),
        words: LINUX,
        status: 0,
        guest: UP,
        errors: "the guest powered off",
    },
    Case {
        name: "kernel-zboot",
        image: |sources| Ok(zboot(&zst(&read(&sources.kernel)?))),
        words: LINUX,
        status: 0,
        guest: UP,
        errors: "the guest powered off",
    },
    Case {
        name: "flat-zst",
        image: |sources| Ok(zst(&read(&sources.hello)?)),
        words: &["--append", "words of ours", "--memory", "4MiB"],
        status: 0,
        guest: "hello from 0x40000000, 4096 KiB, \"words of ours\"",
        errors: "the guest powered off",
    },
    Case {
        name: "flat-that-crashes",
        image: |_| Ok(UNDEFINED.to_le_bytes().to_vec()),
        words: &["--memory", "4MiB"],
        status: 3,
        guest: "",
        errors: "the guest crashed",
    },
    Case {
        name: "flat-for-ever",
        image: |_| Ok(FOR_EVER.to_le_bytes().to_vec()),
        words: &["--memory", "4MiB", "--timeout", "5"],
        status: 124,
        guest: "",
        errors: "time-out",
    },
    Case {
        name: "xz-is-refused",
        image: |_| Ok(b"\xfd7zXZ\0\0\x04 and more".to_vec()),
        words: &[],
        status: 1,
        guest: "",
        errors: "xz data",
    },
    Case {
        name: "elf-is-refused",
        image: |_| Ok(b"\x7fELF\x02\x01\x01 and more".to_vec()),
        words: &[],
        status: 1,
        guest: "",
        errors: "an ELF program",
    },
];

/// Runs the cases whose names hold `only`.
pub fn run(workspace: &Workspace, only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(only)).collect();
    if cases.is_empty() {
        return Ok(tally);
    }
    let hello = Payloads { workspace }.payload("hello")?;
    let sources = Sources { kernel: debian::files()?.kernel, hello };
    for case in cases {
        if interrupt::asked() {
            anyhow::bail!("interrupted");
        }
        let start = Instant::now();
        let why = play(case, &sources).unwrap_or_else(|error| format!("{error:#}"));
        announce(case.name, why.is_empty(), start);
        if !why.is_empty() {
            say(&why);
        }
        tally += Tally::one(why.is_empty());
    }
    Ok(tally)
}

/// Firmware for guests: what is waited for on its console, and typed then.
struct Firmware {
    name: &'static str,
    image: &'static str,
    words: &'static [&'static str],
    talk: &'static [(&'static str, &'static str)],
    /// What it has said at its end.
    says: &'static [&'static str],
}

const FIRMWARE: &[Firmware] = &[
    Firmware {
        name: "firmware-u-boot",
        image: "debian:u-boot",
        words: &["--memory", "256MiB"],
        talk: &[
            ("stop autoboot", "\n"),
            ("=> ", "nvme scan\n"),
            ("=> ", "nvme info\n"),
            ("=> ", "poweroff\n"),
        ],
        says: &["U-Boot", "Vendor: "],
    },
    Firmware {
        name: "firmware-edk2",
        image: "debian:edk2",
        words: &["--memory", "512MiB"],
        talk: &[("Shell> ", "reset -s\r")],
        says: &["UEFI Interactive Shell"],
    },
];

/// Boots firmware that others ship, with an NVMe, talks to it, and has it power off. Runs those
/// whose names hold `only`.
pub fn firmware(only: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    for case in FIRMWARE.iter().filter(|case| case.name.contains(only)) {
        let start = Instant::now();
        let why = converse(case).unwrap_or_else(|error| format!("{error:#}"));
        announce(case.name, why.is_empty(), start);
        if !why.is_empty() {
            say(&why);
        }
        tally += Tally::one(why.is_empty());
    }
    Ok(tally)
}

/// Plays one dialogue; an empty result is a pass.
fn converse(case: &Firmware) -> Result<String> {
    let folder = tempfile::Builder::new().prefix("palisade-firmware-").tempdir()?;
    let disk = folder.path().join("disk");
    File::create(&disk)?.set_len(64 << 20)?;
    let drive = format!("--qemu-arg=file={},if=none,id=own,format=raw", disk.display());
    let mut child = Command::new(std::env::current_exe()?)
        .args(["run", "--guest-firmware", case.image, "--timeout", "300"])
        .args(["--device", "00:01.0=nvme,serial=palisade,drive=own", "--qemu-arg=-drive"])
        .arg(drive)
        .args(case.words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("we do not start once more")?;
    let mut input = child.stdin.take().context("no standard input")?;
    let mut output = child.stdout.take().context("no standard output")?;
    let (mut said, mut heard, mut talk) = (String::new(), 0, case.talk.iter());
    let mut next = talk.next();
    let mut buffer = [0; 4096];
    // The run ends by itself, by its own time-out at the latest.
    while let Ok(count @ 1..) = output.read(&mut buffer) {
        said.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()));
        while let Some((wait, word)) = next {
            let Some(at) = said.get(heard..).and_then(|rest| rest.find(wait)) else { break };
            heard += at + wait.len();
            input.write_all(word.as_bytes())?;
            input.flush()?;
            next = talk.next();
        }
    }
    let status = child.wait()?;
    let missing: Vec<_> = case.says.iter().filter(|words| !said.contains(**words)).collect();
    if status.success() && next.is_none() && missing.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("{status}, missing {missing:?}, still to type {next:?}\n--- said\n{said}\n---"))
}

/// Runs one case as anybody would; an empty answer is a pass.
fn play(case: &Case, sources: &Sources) -> Result<String> {
    let folder = tempfile::Builder::new().prefix("palisade-kernel-").tempdir()?;
    let image = folder.path().join("image");
    std::fs::write(&image, (case.image)(sources)?)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["run", "--kernel"])
        .arg(&image)
        .args(case.words)
        .stdin(Stdio::null())
        .output()
        .context("we do not start once more")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code();
    // The hypervisor's own lines are on the other stream.
    let alone = !said.contains(" INFO ") && (!case.guest.is_empty() || said.is_empty());
    let right = status == Some(case.status)
        && said.contains(case.guest)
        && errors.contains(case.errors)
        && alone;
    if right {
        return Ok(String::new());
    }
    Ok(format!("status {status:?}\n--- standard output\n{said}\n--- standard error\n{errors}\n---"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn gz(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes)?;
    Ok(packed.finish()?)
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Uncompressed)
}

/// An EFI zboot image around zstd data.
fn zboot(payload: &[u8]) -> Vec<u8> {
    const HEADER: u32 = 512;
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut image = Vec::new();
    image.extend_from_slice(b"MZ\0\0zimg");
    image.extend_from_slice(&HEADER.to_le_bytes());
    image.extend_from_slice(&size.to_le_bytes());
    image.resize(24, 0);
    image.extend_from_slice(b"zstd22");
    image.resize(HEADER as usize, 0);
    image.extend_from_slice(payload);
    image
}
