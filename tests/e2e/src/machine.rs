//! One QEMU process: its arguments, its life, its end. Whatever happens to us, it ends with us.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// What is needed to start a machine.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The QEMU binary.
    pub qemu: PathBuf,
    /// Everything on QEMU's command line except the UART and the monitor.
    pub arguments: Vec<OsString>,
    /// A program (with first arguments) that starts QEMU so that it cannot outlive us.
    pub guard: Vec<OsString>,
}

/// A running QEMU, killed when dropped.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    folder: TempDir,
    complaints: Arc<Mutex<String>>,
}

impl Machine {
    /// Starts QEMU; gives the machine and both ends of its UART.
    ///
    /// # Errors
    /// QEMU does not start or there is no room for temporary files.
    pub fn start(spec: &Spec) -> Result<(Self, ChildStdin, ChildStdout)> {
        let folder = tempfile::Builder::new().prefix("palisade-").tempdir()?;
        let mut words = spec.guard.iter();
        let mut command = match words.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(words).arg(&spec.qemu);
                command
            }
            None => Command::new(&spec.qemu),
        };
        let mut qmp = OsString::from("unix:");
        qmp.push(folder.path().join("qmp"));
        qmp.push(",server=on,wait=off");
        command
            .args(&spec.arguments)
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-chardev", "stdio,id=uart,signal=off", "-serial", "chardev:uart"])
            .arg("-qmp")
            .arg(qmp)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        {
            // Out of the terminal's foreground group: a Ctrl-C is ours to handle.
            use std::os::unix::process::CommandExt;
            command.process_group(0);
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", spec.qemu.display()))?;
        let input = child.stdin.take().context("QEMU has no standard input")?;
        let output = child.stdout.take().context("QEMU has no standard output")?;
        let errors = child.stderr.take().context("QEMU has no standard error")?;
        let complaints = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&complaints);
        std::thread::spawn(move || keep(errors, &kept));
        Ok((Self { child, folder, complaints }, input, output))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where QEMU's monitor listens.
    #[must_use]
    pub fn monitor(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }

    /// A folder that lives as long as the machine.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What QEMU itself wrote to its standard error so far.
    #[must_use]
    pub fn complaints(&self) -> String {
        self.complaints.lock().map(|text| text.trim().to_owned()).unwrap_or_default()
    }

    /// Whether QEMU has ended, and how.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for QEMU to end by itself; kills it after `patience` and answers `None`.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn finish(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        Ok(None)
    }

    fn kill(&mut self) {
        // Both fail only when the process is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(mut from: impl Read, into: &Mutex<String>) {
    const MOST: usize = 64 * 1024;
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let Ok(mut text) = into.lock() else { return };
        if text.len() < MOST
            && let Some(bytes) = buffer.get(..count)
        {
            text.push_str(&String::from_utf8_lossy(bytes));
        }
    }
}

/// Writes to a UART whose machine may be gone; tells whether it was taken.
pub fn write(input: &mut ChildStdin, bytes: &[u8]) -> bool {
    input.write_all(bytes).and_then(|()| input.flush()).is_ok()
}

/// What a machine says on its serial line, piece by piece, until it ends.
#[must_use]
pub fn listen(mut output: ChildStdout) -> Receiver<Vec<u8>> {
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
    receive
}
