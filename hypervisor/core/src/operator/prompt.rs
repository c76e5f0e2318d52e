//! The operator's prompt: one line, one command, one report record.
//!
//! Bytes come in on channel 0 of the wire, or in plain mode after Ctrl-]. A command runs on the
//! core that took the UART's interrupt, with no lock held; that core's guest waits meanwhile,
//! for a device's reset up to its settling time and a second.

use core::fmt;

use arrayvec::{ArrayString, ArrayVec};
use palisade_board::text::divide;
use palisade_hal::lock::{Mutex, Rank};
use palisade_pci::Address;
use thiserror::Error;

use crate::operator::{counts, devices, faults, footprint, posture};
use crate::vms::built::BuiltVm;
use crate::vms::hotplug::{self, HotplugError};
use crate::vms::rebuild::{RestartError, request_restart};
use crate::vms::system::System;
use crate::wire::console;
use crate::wire::report::Record;

/// Longest line; what is beyond is cut off, and refused.
const LINE: usize = 120;
/// Everything that can be said.
const COMMANDS: &str = "help, vms, posture, faults, stats, footprint, start VM, stop VM, \
                        detach VM DEVICE, assign VM DEVICE GUEST-BDF, reset DEVICE";

/// The line that is being typed.
static TYPED: Mutex<ArrayVec<u8, LINE>> = Mutex::new(Rank::OperatorLine, ArrayVec::new_const());

/// What an operator can want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command<'l> {
    Help,
    Vms,
    Posture,
    Faults,
    Stats,
    Footprint,
    Start { vm: &'l str },
    Stop { vm: &'l str },
    Detach { vm: &'l str, device: Address },
    Assign { vm: &'l str, device: Address, guest: u16 },
    Reset { device: Address },
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum ParseError {
    #[error("unknown command; there are: {COMMANDS}")]
    Unknown,
    #[error("something is missing or too much; there are: {COMMANDS}")]
    Words,
    #[error("a device is named like 0000:01:00.0")]
    Device,
    #[error("a place on the guest's bus is named like 00:02.0")]
    Place,
    #[error("the line is longer than {LINE} characters")]
    TooLong,
}

/// Why a command did not do what it says.
#[derive(Debug, Error)]
enum CommandError<'l> {
    #[error("{0}")]
    Parse(#[from] ParseError),
    #[error("no VM is called {0}")]
    NoVm(&'l str),
    #[error("vm {vm} is not started: {error}")]
    NotStarted { vm: &'l str, error: RestartError },
    #[error("vm {vm} does not run, it is {state}")]
    NotRunning { vm: &'l str, state: &'static str },
    #[error("{0}")]
    Hotplug(#[from] HotplugError),
}

/// A hexadecimal number of at most `digits` digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let plain = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u16::from_str_radix(text, 16).ok().filter(|_| plain)
}

/// `bus:device.function` as bus << 8 | device << 3 | function.
fn requester(text: &str) -> Option<u16> {
    let (bus, slot) = divide(text, b':')?;
    let (device, function) = divide(slot, b'.')?;
    let (bus, device, function) = (hex(bus, 2)?, hex(device, 2)?, hex(function, 1)?);
    (device < 32 && function < 8).then_some(bus << 8 | device << 3 | function)
}

/// `segment:bus:device.function`; without a segment it is 0.
fn device(text: &str) -> Result<Address, ParseError> {
    let parts = match text.bytes().filter(|byte| *byte == b':').count() {
        1 => requester(text).map(|requester| (0, requester)),
        _ => divide(text, b':')
            .and_then(|(segment, rest)| Some((hex(segment, 4)?, requester(rest)?))),
    };
    let (segment, requester) = parts.ok_or(ParseError::Device)?;
    Ok(Address::new(segment, requester))
}

impl<'l> Command<'l> {
    /// Reads a line; none if it is empty.
    fn parse(line: &'l str) -> Result<Option<Self>, ParseError> {
        let mut words = line.split_ascii_whitespace();
        let Some(verb) = words.next() else { return Ok(None) };
        let mut next = || words.next().ok_or(ParseError::Words);
        let command = match verb {
            "help" => Self::Help,
            "vms" => Self::Vms,
            "posture" => Self::Posture,
            "faults" => Self::Faults,
            "stats" => Self::Stats,
            "footprint" => Self::Footprint,
            "start" => Self::Start { vm: next()? },
            "stop" => Self::Stop { vm: next()? },
            "detach" => Self::Detach { vm: next()?, device: device(next()?)? },
            "assign" => {
                let (vm, device) = (next()?, device(next()?)?);
                Self::Assign { vm, device, guest: requester(next()?).ok_or(ParseError::Place)? }
            }
            "reset" => Self::Reset { device: device(next()?)? },
            _ => return Err(ParseError::Unknown),
        };
        match words.next() {
            Some(_) => Err(ParseError::Words),
            None => Ok(Some(command)),
        }
    }
}

/// A byte that the operator typed. Carries out the line that it ends.
pub(crate) fn key(system: &'static System, byte: u8) {
    let mut line = ArrayString::<LINE>::new();
    let whole = {
        let mut typed = TYPED.lock();
        match byte {
            b'\r' | b'\n' => {
                console::echo(b"\n");
                for &byte in typed.iter() {
                    let _fits = line.try_push(char::from(byte));
                }
                let whole = !typed.is_full();
                typed.clear();
                whole
            }
            // Backspace and Delete.
            0x08 | 0x7f => {
                if typed.pop().is_some() {
                    console::echo(b"\x08 \x08");
                }
                return;
            }
            0x20..=0x7e => {
                if typed.try_push(byte).is_ok() {
                    console::echo(&[byte]);
                }
                return;
            }
            console::ESCAPE => {
                typed.clear();
                log::info!("operator: Ctrl-] is the way back; there are: {COMMANDS}");
                return;
            }
            _ => return,
        }
    };
    let parsed = if whole { Command::parse(&line) } else { Err(ParseError::TooLong) };
    let result = match parsed {
        Ok(None) => return,
        Ok(Some(command)) => obey(system, command),
        Err(error) => Err(error.into()),
    };
    report(&line, &result);
}

fn report(line: &str, result: &Result<(), CommandError<'_>>) {
    let record = Record::new("operator").text("command", line);
    match result {
        Ok(()) => {
            log::info!("operator: {line}: ok");
            record.flag("ok", true).maybe_text("error", None).send();
        }
        Err(error) => {
            log::error!("operator: {line}: {error}");
            record.flag("ok", false).text("error", error).send();
        }
    }
}

fn obey<'l>(system: &'static System, command: Command<'l>) -> Result<(), CommandError<'l>> {
    let find = |name: &'l str| {
        let mut vms = system.vms().into_iter();
        vms.find(|built| built.vm.name() == name).ok_or(CommandError::NoVm(name))
    };
    match command {
        Command::Help => log::info!("{COMMANDS}"),
        Command::Vms => system.vms().iter().for_each(|built| log::info!("{}", VmLine(built))),
        Command::Posture => posture::report(system),
        Command::Faults => faults::report_counts(system),
        Command::Stats => {
            system.vms().iter().for_each(|built| stats(built));
            devices::report(system, true);
        }
        Command::Footprint => footprint::report(&system.machine),
        Command::Start { vm } => {
            let mut slots = system.slots().iter();
            let slot = slots.find(|slot| slot.built().vm.name() == vm);
            let slot = slot.ok_or(CommandError::NoVm(vm))?;
            request_restart(system, slot)
                .map_err(|error| CommandError::NotStarted { vm, error })?;
        }
        Command::Stop { vm } => {
            let built = find(vm)?;
            if !built.stop(&system.machine) {
                let state = built.standing().name();
                return Err(CommandError::NotRunning { vm, state });
            }
        }
        Command::Detach { vm, device } => hotplug::detach(system, &*find(vm)?, device)?,
        Command::Assign { vm, device, guest } => {
            hotplug::assign(system, &*find(vm)?, device, guest)?;
        }
        Command::Reset { device } => hotplug::reset(system, device)?,
    }
    Ok(())
}

/// One line about a VM.
struct VmLine<'u>(&'u BuiltVm);

impl fmt::Display for VmLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vm = &self.0.vm;
        write!(f, "vm {}: {}, cores", vm.name(), self.0.standing().name())?;
        vm.cores().iter().try_for_each(|core| write!(f, " {core}"))?;
        for (address, guest) in self.0.pci.places() {
            let (bus, slot) = (guest.bdf >> 8, guest.bdf & 0xff);
            write!(f, ", {address} as {bus:02x}:{:02x}.{}", slot >> 3, slot & 7)?;
        }
        Ok(())
    }
}

/// The counters of a VM, for people and for the report.
fn stats(built: &BuiltVm) {
    log::info!("vm {}: {}", built.vm.name(), Counts(built));
    built.report_counters();
}

struct Counts<'u>(&'u BuiltVm);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vm = &self.0.vm;
        for (cause, count) in palisade_vm::CAUSES.iter().zip(vm.counters().read()) {
            write!(f, "{cause} {count}, ")?;
        }
        let faults = counts::count_of(vm.index() as u16);
        let waited = self.0.waited();
        write!(f, "interrupts {}, faults {faults}, ", vm.vgic().raised())?;
        write!(f, "invalidations {}, {} us of waiting, ", waited.count, waited.micros)?;
        write!(f, "input lost {}", vm.lost_input())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said() {
        let device = Address::new(0, 0x0100);
        for (line, command) in [
            ("help", Command::Help),
            ("  vms ", Command::Vms),
            ("posture", Command::Posture),
            ("faults", Command::Faults),
            ("stats", Command::Stats),
            ("footprint", Command::Footprint),
            ("start a", Command::Start { vm: "a" }),
            ("stop a", Command::Stop { vm: "a" }),
            ("reset 01:00.0", Command::Reset { device }),
            ("detach a 0000:01:00.0", Command::Detach { vm: "a", device }),
            ("assign a 0:1:0.0 00:1f.7", Command::Assign { vm: "a", device, guest: 0xff }),
        ] {
            assert_eq!(Command::parse(line), Ok(Some(command)), "{line}");
        }
        assert_eq!(Command::parse("  "), Ok(None));
    }

    #[test]
    fn what_cannot() {
        for (line, error) in [
            ("halt", ParseError::Unknown),
            ("HELP", ParseError::Unknown),
            ("detach a", ParseError::Words),
            ("start", ParseError::Words),
            ("stop", ParseError::Words),
            ("stop a b", ParseError::Words),
            ("vms all", ParseError::Words),
            ("reset 01:20.0", ParseError::Device),
            ("reset 01:00.8", ParseError::Device),
            ("reset 10000:01:00.0", ParseError::Device),
            ("reset 0000:001:00.0", ParseError::Device),
            ("reset 0000:+1:00.0", ParseError::Device),
            ("reset :", ParseError::Device),
            ("reset ::.", ParseError::Device),
            ("assign a 01:00.0 2", ParseError::Place),
            ("assign a 01:00.0 0000:00:02.0", ParseError::Place),
        ] {
            assert_eq!(Command::parse(line), Err(error), "{line}");
        }
    }
}
