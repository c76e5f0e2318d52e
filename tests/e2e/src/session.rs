//! A machine, its monitor and its wire together, and what they said so far.

use std::collections::VecDeque;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use thiserror::Error;

use crate::console::Screen;
use crate::interrupt;
use crate::machine::{self, Machine, Spec};
use crate::monitor::Monitor;
use crate::record::{Records, text};
use crate::wire::{Channel, Decoder, Lines, encode};

/// Why a session stops before its scenario is over.
#[derive(Debug, Error)]
pub enum Stop {
    /// The time allowed for the whole run is over.
    #[error("time-out: the run did not end within {0} s")]
    TimedOut(u64),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// QEMU ended while something was still awaited.
    #[error("QEMU ended ({status}){complaints}")]
    Gone {
        /// Its exit status in words.
        status: String,
        /// What it said, with a leading ": ".
        complaints: String,
    },
}

/// One VM's console as the host sees it.
#[derive(Debug, Default)]
struct Console {
    name: String,
    lines: Lines,
    answers: VecDeque<String>,
    said: Vec<String>,
    ready: bool,
}

/// Lines kept of each console.
const MOST_LINES: usize = 1000;

/// A running machine.
pub struct Session {
    machine: Machine,
    monitor: Monitor,
    input: ChildStdin,
    wire: Receiver<Vec<u8>>,
    decoder: Decoder,
    log: Lines,
    report: Lines,
    plain: Lines,
    consoles: Vec<Console>,
    /// The report so far.
    pub records: Records,
    /// Lines of the hypervisor's log so far.
    pub log_lines: u64,
    screen: Box<dyn Screen>,
    allowed: Duration,
    deadline: Instant,
}

impl Session {
    /// Starts the machine; `vms` are the manifest's names in order.
    ///
    /// # Errors
    /// QEMU does not start, or ends at once with a complaint.
    pub fn start(
        spec: &Spec,
        vms: &[String],
        screen: Box<dyn Screen>,
        allowed: Duration,
    ) -> Result<Self> {
        let (mut machine, input, output) = Machine::start(spec)?;
        let monitor = match Monitor::connect(&machine.monitor(), Duration::from_secs(20)) {
            Ok(monitor) => monitor,
            Err(error) => {
                return match machine.finish(Duration::from_millis(300)) {
                    Ok(Some(status)) => bail!("QEMU ended ({status}): {}", machine.complaints()),
                    _ => Err(error),
                };
            }
        };
        let consoles =
            vms.iter().map(|name| Console { name: name.clone(), ..Console::default() }).collect();
        Ok(Self {
            machine,
            monitor,
            input,
            wire: machine::listen(output),
            decoder: Decoder::default(),
            log: Lines::default(),
            report: Lines::default(),
            plain: Lines::default(),
            consoles,
            records: Records::default(),
            log_lines: 0,
            screen,
            allowed,
            deadline: Instant::now() + allowed,
        })
    }

    /// Listens to the wire until something came or `until`; tells whether something came.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn pump(&mut self, until: Instant) -> Result<bool> {
        loop {
            if interrupt::asked() {
                return Err(Stop::Interrupted.into());
            }
            let now = Instant::now();
            if now >= self.deadline {
                return Err(Stop::TimedOut(self.allowed.as_secs()).into());
            }
            if now >= until {
                return Ok(false);
            }
            let wait = (until - now).min(Duration::from_millis(50));
            match self.wire.recv_timeout(wait) {
                Ok(bytes) => {
                    self.take(&bytes);
                    return Ok(true);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()?.into()),
            }
        }
    }

    fn gone(&mut self) -> Result<Stop> {
        let status = match self.machine.finish(Duration::from_secs(5))? {
            Some(status) => status.to_string(),
            None => "it closed its UART and had to be killed".to_owned(),
        };
        let complaints = self.machine.complaints();
        let complaints = if complaints.is_empty() { complaints } else { format!(": {complaints}") };
        Ok(Stop::Gone { status, complaints })
    }

    fn take(&mut self, bytes: &[u8]) {
        let Self { decoder, log, report, plain, consoles, records, screen, log_lines, .. } = self;
        decoder.feed(bytes, |channel, bytes| match channel {
            Channel::Log => log.feed(bytes, |line| {
                *log_lines += 1;
                screen.log(line);
            }),
            Channel::Plain => plain.feed(bytes, |line| screen.log(line)),
            Channel::Report => report.feed(bytes, |line| records.take(line)),
            Channel::Vm(index) => {
                screen.bytes(index, bytes);
                let Some(console) = consoles.get_mut(usize::from(index)) else { return };
                let Console { name, lines, answers, said, ready } = console;
                lines.feed(bytes, |line| {
                    screen.line(index, name, line);
                    if said.len() < MOST_LINES {
                        said.push(line.to_owned());
                    }
                    if line.starts_with("ready") {
                        *ready = true;
                    } else if line.starts_with("ok") || line.starts_with("err") {
                        answers.push_back(line.to_owned());
                    }
                });
            }
        });
    }

    /// Waits for `what` to become true.
    ///
    /// # Errors
    /// [`Stop`], or `patience` is over: the error names `what`.
    pub fn wait(
        &mut self,
        what: &str,
        patience: Duration,
        mut done: impl FnMut(&Records) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + patience;
        while !done(&self.records) {
            if !self.pump(until)? && !done(&self.records) {
                bail!("{what} did not happen within {} s", patience.as_secs());
            }
        }
        Ok(())
    }

    /// Listens for a while.
    ///
    /// # Errors
    /// [`Stop`].
    pub fn wait_a_while(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while self.pump(until)? {}
        Ok(())
    }

    /// The index of a VM in the manifest.
    ///
    /// # Errors
    /// There is no such VM.
    pub fn vm(&self, name: &str) -> Result<u8> {
        let index = self.consoles.iter().position(|console| console.name == name);
        index
            .and_then(|index| u8::try_from(index).ok())
            .with_context(|| format!("the scenario has no VM {name}"))
    }

    /// The first lines of a VM's console.
    #[must_use]
    pub fn said(&self, name: &str) -> &[String] {
        let mut consoles = self.consoles.iter();
        consoles.find(|console| console.name == name).map_or(&[], |console| &console.said)
    }

    /// Waits for a payload to say that it takes commands.
    ///
    /// # Errors
    /// [`Stop`], or the VM is refused, crashes or stays silent.
    pub fn ready(&mut self, name: &str, patience: Duration) -> Result<()> {
        let index = usize::from(self.vm(name)?);
        let until = Instant::now() + patience;
        loop {
            if self.consoles.get(index).is_some_and(|console| console.ready) {
                return Ok(());
            }
            if let Some(record) = self.records.vm(name)
                && let Some(state @ ("refused" | "crashed" | "off")) = text(record, "state")
            {
                bail!("{name} is {state}: {}", text(record, "error").unwrap_or("no reason given"));
            }
            if !self.pump(until)? {
                bail!("{name} was not ready within {} s", patience.as_secs());
            }
        }
    }

    /// A VM starts anew: it is to say once more that it takes commands.
    ///
    /// # Errors
    /// There is no such VM.
    pub fn starts_anew(&mut self, name: &str) -> Result<()> {
        let vm = usize::from(self.vm(name)?);
        if let Some(console) = self.consoles.get_mut(vm) {
            console.ready = false;
        }
        Ok(())
    }

    /// Sends a VM's payload one command and waits for its one line of answer.
    ///
    /// # Errors
    /// [`Stop`], no answer in time, or an answer that says `err`.
    pub fn command(&mut self, name: &str, command: &str, patience: Duration) -> Result<String> {
        self.begin(name, command)?;
        self.answer(name, command, patience)
    }

    /// Sends a VM's payload one command.
    ///
    /// # Errors
    /// There is no such VM.
    pub fn begin(&mut self, name: &str, command: &str) -> Result<()> {
        let vm = self.vm(name)?;
        if let Some(console) = self.consoles.get_mut(usize::from(vm)) {
            console.answers.clear();
        }
        self.send(vm, format!("{command}\n").as_bytes());
        Ok(())
    }

    /// Waits for the answer to a command that was [begun](Self::begin).
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn answer(&mut self, name: &str, command: &str, patience: Duration) -> Result<String> {
        let answer = self.any_answer(name, command, patience)?;
        if answer.starts_with("err") {
            bail!("{name} answers {command:?} with {answer:?}");
        }
        Ok(answer)
    }

    /// The same, also where the answer says `err`.
    ///
    /// # Errors
    /// [`Stop`], or no answer in time.
    pub fn any_answer(&mut self, name: &str, command: &str, patience: Duration) -> Result<String> {
        let vm = self.vm(name)?;
        let until = Instant::now() + patience;
        loop {
            let console = self.consoles.get_mut(usize::from(vm));
            if let Some(answer) = console.and_then(|console| console.answers.pop_front()) {
                return Ok(answer);
            }
            if !self.pump(until)? {
                bail!("{name} did not answer {command:?} within {} s", patience.as_secs());
            }
        }
    }

    /// Sends bytes to a VM's console.
    pub fn send(&mut self, vm: u8, bytes: &[u8]) {
        // A machine that is gone is noticed by the next pump.
        let _ = machine::write(&mut self.input, &encode(Channel::Vm(vm), bytes));
    }

    /// Sends bytes to the hypervisor's own prompt.
    pub fn prompt(&mut self, bytes: &[u8]) {
        let _ = machine::write(&mut self.input, &encode(Channel::Log, bytes));
    }

    /// Physical memory as the host sees it now.
    ///
    /// # Errors
    /// QEMU refuses the range or is gone.
    pub fn memory(&mut self, address: u64, length: u64) -> Result<Vec<u8>> {
        self.monitor.memory(address, length)
    }

    /// First address and bytes of each region of a PCI device, by its bus.
    ///
    /// # Errors
    /// QEMU does not say.
    pub fn regions(&mut self, bus: u64) -> Result<Vec<(u64, u64)>> {
        self.monitor.regions(bus)
    }

    /// Ends the machine; gives what was reported and the screen back.
    #[must_use]
    pub fn end(self) -> (Records, Box<dyn Screen>) {
        let Self { records, screen, machine, .. } = self;
        drop(machine);
        (records, screen)
    }

    /// Waits for the report's end and for QEMU to leave with status 0.
    ///
    /// # Errors
    /// [`Stop`]; a report without its end; another status.
    pub fn finish(&mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            match self.pump(until) {
                Ok(true) => {}
                Ok(false) => bail!("the machine did not power off within {} s", patience.as_secs()),
                Err(error) if matches!(error.downcast_ref(), Some(Stop::Gone { .. })) => break,
                Err(error) => return Err(error),
            }
        }
        let status = self.machine.finish(Duration::from_secs(5))?;
        for rest in [self.log.rest(), self.plain.rest()] {
            if !rest.is_empty() {
                self.screen.log(&rest);
            }
        }
        if !self.records.ended() {
            bail!("the report has no end record");
        }
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("QEMU ended with {status}: {}", self.machine.complaints()),
            None => bail!("QEMU had to be killed"),
        }
    }
}
