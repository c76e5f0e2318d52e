//! The command.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use palisade_e2e::outcome::Outcome;
use palisade_e2e::record::Records;

use crate::cli::RunOptions;
use crate::run::{kernel, scenario};
use crate::workspace::Workspace;

/// Bytes of the interactive guest's disk.
const DISK: u64 = 256 << 20;

/// Runs what was asked for. The report is written whatever happens.
pub fn run(options: &RunOptions) -> Result<ExitCode> {
    let shell;
    let options = match interactive(options)? {
        Some(wish) => {
            shell = wish;
            &shell
        }
        None => options,
    };
    let own = options.kernel.is_some() || options.guest_firmware.is_some();
    let result =
        if own || options.bundle.is_some() { kernel::run(options) } else { scenario::run(options) };
    match result {
        Ok((status, outcome)) => {
            write(options.json.as_deref(), &outcome)?;
            Ok(status)
        }
        Err(error) => {
            let name = options.scenario.as_deref().unwrap_or("isolation");
            let why = Some(format!("{error:#}"));
            let board = options.board.name();
            let outcome = Outcome::judge(name, board, &[], Vec::new(), why, Records::default());
            write(options.json.as_deref(), &outcome)?;
            Err(error)
        }
    }
}

/// `run linux` on a terminal: a shell in the guest instead of its jobs.
fn interactive(options: &RunOptions) -> Result<Option<RunOptions>> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if options.scenario.as_deref() != Some("linux") || !terminal || options.json.is_some() {
        return Ok(None);
    }
    let disk = Workspace::open()?.scratch()?.join("linux-disk.img");
    File::options().create(true).truncate(false).write(true).open(&disk)?.set_len(DISK)?;
    let drive = format!("-drive=file={},if=none,id=own,format=raw", disk.display());
    let (flag, value) = drive.split_once('=').unwrap_or_default();
    eprintln!("A shell on the guest follows; 'poweroff -f' ends it, and so does Ctrl-A x.");
    eprintln!("Ctrl-A o opens the hypervisor's own prompt: vms, posture, faults, stats, detach …");
    Ok(Some(RunOptions {
        scenario: None,
        kernel: Some("debian:kernel".into()),
        initrd: Some("debian:initramfs".into()),
        append: Some(options.append.clone().unwrap_or_else(|| "console=ttyAMA0 quiet".to_owned())),
        device: vec!["00:01.0=nvme,serial=palisade,drive=own".to_owned()],
        qemu_arg: [options.qemu_arg.clone(), vec![flag.to_owned(), value.to_owned()]].concat(),
        timeout: Some(options.timeout.unwrap_or(24 * 3600)),
        ..options.clone()
    }))
}

fn write(path: Option<&Path>, outcome: &Outcome) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut text = serde_json::to_string_pretty(&outcome.json())?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
