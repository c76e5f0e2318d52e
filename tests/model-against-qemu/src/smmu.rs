//! The least that an SMMU needs: switched on, told commands, asked for events.

use anyhow::{Result, bail};

use crate::place;
use crate::witness::Witness;

/// Registers (IHI 0070, 6.2).
const CR0: u64 = 0x20;
const CR0ACK: u64 = 0x24;
const CR1: u64 = 0x28;
const CR2: u64 = 0x2c;
const GBPA: u64 = 0x44;
const GERROR: u64 = 0x60;
const GERRORN: u64 = 0x64;
const STRTAB_BASE: u64 = 0x80;
const STRTAB_BASE_CFG: u64 = 0x88;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
const EVENTQ_BASE: u64 = 0xa0;
const EVENTQ_PROD: u64 = 0x1_00a8;
const EVENTQ_CONS: u64 = 0x1_00ac;

/// CR0 (6.3.9).
const SMMUEN: u32 = 1 << 0;
const EVENTQEN: u32 = 1 << 2;
const CMDQEN: u32 = 1 << 3;
/// CR1: tables and queues are inner shareable and write-back (6.3.11).
const CACHED: u32 = 0xd75;
/// CR2.RECINVSID (6.3.12).
const RECINVSID: u32 = 1 << 1;
/// GBPA.Update and GBPA.ABORT (6.3.14).
const UPDATE: u32 = 1 << 31;
const ABORT: u32 = 1 << 20;

/// log2 of the commands and of the events that there is room for. QEMU cannot lose an event
/// before 2^11 of them.
const COMMANDS_LOG2: u32 = 7;
const EVENTS_LOG2: u32 = 11;
/// Turns after which an SMMU does not answer any more.
const PATIENCE: u32 = 1_000_000;
/// Turns in which an event reaches its queue.
const EVENT_TURNS: u32 = 400;

/// CFGI_ALL (4.3.6) and TLBI_NSNH_ALL (4.4.4).
const FORGET: [[u64; 2]; 2] = [[0x04, 31], [0x30, 0]];
/// CMD_SYNC, completion by polling (4.7.3).
const SYNC: [u64; 2] = [0x46, 0];

/// What stands in the SMMU's registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// CR0.SMMUEN; without it GBPA decides.
    pub enabled: bool,
    /// GBPA.ABORT.
    pub abort: bool,
    /// CR2.RECINVSID.
    pub record: bool,
    /// log2 of the StreamIDs.
    pub streams: u32,
    /// log2 of the StreamIDs of a second level; `None` for a linear stream table.
    pub split: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, abort: true, record: true, streams: 8, split: None }
    }
}

/// A position in a queue of 2^`log2` entries, wrap bit included.
fn next(position: u32, log2: u32) -> u32 {
    (position + 1) & ((2 << log2) - 1)
}

/// Where the entry at `position` lies.
fn entry(base: u64, position: u32, log2: u32, size: u64) -> u64 {
    base + u64::from(position & ((1 << log2) - 1)) * size
}

/// The queues' positions.
#[derive(Default)]
pub struct Smmu {
    prod: u32,
    cons: u32,
}

impl Smmu {
    /// Switched on with `settings` and everything forgotten.
    ///
    /// # Errors
    /// It does not answer, or refuses a command.
    pub fn start(on: &mut dyn Witness, settings: Settings) -> Result<Self> {
        until(on, "GBPA", GBPA, UPDATE, 0)?;
        on.set_register(GBPA, UPDATE | ABORT)?;
        until(on, "GBPA", GBPA, UPDATE, 0)?;
        set_cr0(on, 0)?;
        on.set_register(CR1, CACHED)?;
        on.set_register(CR2, if settings.record { RECINVSID } else { 0 })?;
        let (base, format) = match settings.split {
            None => (place::STREAMS, 0),
            Some(split) => (place::STREAMS_FIRST, 1 << 16 | split << 6),
        };
        on.set_register64(STRTAB_BASE, base)?;
        on.set_register(STRTAB_BASE_CFG, format | settings.streams)?;
        on.set_register64(CMDQ_BASE, place::COMMANDS | u64::from(COMMANDS_LOG2))?;
        on.set_register(CMDQ_PROD, 0)?;
        on.set_register(CMDQ_CONS, 0)?;
        on.set_register64(EVENTQ_BASE, place::EVENTS | u64::from(EVENTS_LOG2))?;
        on.set_register(EVENTQ_PROD, 0)?;
        on.set_register(EVENTQ_CONS, 0)?;
        let mut smmu = Self::default();
        set_cr0(on, CMDQEN)?;
        smmu.send(on, &FORGET)?;
        set_cr0(on, CMDQEN | EVENTQEN)?;
        if settings.enabled {
            set_cr0(on, CMDQEN | EVENTQEN | SMMUEN)?;
        } else {
            on.set_register(GBPA, UPDATE | if settings.abort { ABORT } else { 0 })?;
            until(on, "GBPA", GBPA, UPDATE, 0)?;
        }
        Ok(smmu)
    }

    /// Sends commands and a CMD_SYNC, and waits for it.
    ///
    /// # Errors
    /// It does not answer, or refuses a command.
    pub fn send(&mut self, on: &mut dyn Witness, commands: &[[u64; 2]]) -> Result<()> {
        for command in commands.iter().chain(&[SYNC]) {
            let at = entry(place::COMMANDS, self.prod, COMMANDS_LOG2, 16);
            on.store(&[(at, command[0]), (at + 8, command[1])])?;
            self.prod = next(self.prod, COMMANDS_LOG2);
        }
        on.set_register(CMDQ_PROD, self.prod)?;
        for _ in 0..PATIENCE {
            let errors = on.register(GERROR)? ^ on.register(GERRORN)?;
            if errors != 0 {
                bail!("{} refuses one of {commands:x?}: GERROR {errors:#x}", on.name());
            }
            if on.register(CMDQ_CONS)? == self.prod {
                return Ok(());
            }
            on.wait();
        }
        bail!("{} does not answer {commands:x?}", on.name())
    }

    /// The records that came since the last time.
    ///
    /// # Errors
    /// The machine is gone, or events were lost.
    pub fn events(&mut self, on: &mut dyn Witness) -> Result<Vec<[u64; 4]>> {
        (0..EVENT_TURNS).for_each(|_| on.wait());
        let prod = on.register(EVENTQ_PROD)?;
        if prod >> 31 != 0 || on.register(GERROR)? != on.register(GERRORN)? {
            bail!("{} has lost events", on.name());
        }
        let mut places = Vec::new();
        while self.cons != prod {
            let at = entry(place::EVENTS, self.cons, EVENTS_LOG2, 32);
            places.extend([at, at + 8, at + 16, at + 24]);
            self.cons = next(self.cons, EVENTS_LOG2);
        }
        let words = on.load(&places)?;
        on.set_register(EVENTQ_CONS, self.cons)?;
        Ok(words.as_chunks().0.to_vec())
    }
}

fn set_cr0(on: &mut dyn Witness, value: u32) -> Result<()> {
    on.set_register(CR0, value)?;
    until(on, "CR0ACK", CR0ACK, u32::MAX, value)
}

/// Waits until the bits `mask` of a register are `value`.
fn until(on: &mut dyn Witness, what: &str, offset: u64, mask: u32, value: u32) -> Result<()> {
    for _ in 0..PATIENCE {
        if on.register(offset)? & mask == value {
            return Ok(());
        }
        on.wait();
    }
    bail!("{}: {what} does not become {value:#x}", on.name())
}
