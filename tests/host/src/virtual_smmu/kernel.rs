//! A guest's kernel before its SMMU: registers, tables and queues, written from the manual (IHI 0070).

use std::sync::Arc;

use palisade_hal::{Ipa, barrier};
use palisade_vm::hypercall::GuestRam;
use palisade_vm::mmio::{Access, MmioDevice, Width};
use palisade_vm::smmu::SmmuDevice;

use crate::sharing::guest::Guest;
use crate::sharing::home::Wrong;
use crate::sharing::memory::{Ram, TABLES};
use crate::sharing::truth::{PAGES, Target};

/// Registers (6.2).
pub const IDR0: u64 = 0x00;
pub const IDR1: u64 = 0x04;
pub const IDR3: u64 = 0x0c;
pub const IDR5: u64 = 0x14;
pub const IIDR: u64 = 0x18;
pub const CR0: u64 = 0x20;
pub const CR0ACK: u64 = 0x24;
pub const CR1: u64 = 0x28;
pub const CR2: u64 = 0x2c;
pub const GBPA: u64 = 0x44;
pub const IRQ_CTRL: u64 = 0x50;
pub const IRQ_CTRLACK: u64 = 0x54;
pub const GERROR: u64 = 0x60;
pub const GERRORN: u64 = 0x64;
pub const STRTAB_BASE: u64 = 0x80;
pub const STRTAB_BASE_CFG: u64 = 0x88;
pub const CMDQ_BASE: u64 = 0x90;
pub const CMDQ_PROD: u64 = 0x98;
pub const CMDQ_CONS: u64 = 0x9c;
pub const EVENTQ_BASE: u64 = 0xa0;
pub const EVENTQ_PROD: u64 = 0x100a8;
pub const EVENTQ_CONS: u64 = 0x100ac;

/// Pages of RAM: level 1 of the stream table, both queues, words, level 2, descriptors of
/// contexts, three levels of tables for each process, and a page of contexts for each device.
pub const RAM_PAGES: usize = 9 + SPACES * 3 + 4;
/// Slots for processes.
pub const SPACES: usize = 8;
/// Level 1 of the stream table: 2^8 descriptors.
pub const LEVEL1: u64 = TABLES;
/// The command queue: 2^8 commands.
pub const COMMANDS: u64 = TABLES + 0x1000;
/// The event queue: 2^7 records.
pub const EVENTS: u64 = TABLES + 0x2000;
/// Words that messages are written to.
pub const WORDS: u64 = TABLES + 0x3000;
/// Level 2 of the stream table: 2^8 entries.
pub const LEVEL2: u64 = TABLES + 0x4000;
/// Context descriptors, a table of four for each device.
pub const CONTEXTS: u64 = TABLES + 0x8000;
const SPACE: u64 = TABLES + 0x9000;
/// Context descriptors again, 64 for each device.
pub const MANY_CONTEXTS: u64 = SPACE + SPACES as u64 * 0x3000;

/// log2 of the queues.
const COMMANDS_LOG2: u32 = 8;
const EVENTS_LOG2: u32 = 7;

/// A command (4.1).
pub type Command = [u64; 2];

/// CMD_PREFETCH_CONFIG (4.2.1).
pub fn prefetch(stream: u32) -> Command {
    [0x01 | u64::from(stream) << 32, 0]
}

/// CMD_CFGI_STE with Leaf (4.3.1).
pub fn cfgi_ste(stream: u32) -> Command {
    [0x03 | u64::from(stream) << 32, 1]
}

/// CMD_CFGI_STE_RANGE (4.3.2); range 31 is CMD_CFGI_ALL.
pub fn cfgi_range(stream: u32, range: u64) -> Command {
    [0x04 | u64::from(stream) << 32, range]
}

/// CMD_CFGI_CD with Leaf (4.3.3).
pub fn cfgi_cd(stream: u32, substream: u32) -> Command {
    [0x05 | u64::from(substream) << 12 | u64::from(stream) << 32, 1]
}

/// CMD_CFGI_CD_ALL (4.3.4).
pub fn cfgi_cd_all(stream: u32) -> Command {
    [0x06 | u64::from(stream) << 32, 0]
}

/// CMD_TLBI_NH_ASID (4.4.1).
pub fn tlbi_asid(asid: u64) -> Command {
    [0x11 | asid << 48, 0]
}

/// CMD_TLBI_NH_ALL and CMD_TLBI_NSNH_ALL (4.4.1, 4.4.3).
pub fn tlbi_all(everybody: bool) -> Command {
    [if everybody { 0x30 } else { 0x10 }, 0]
}

/// CMD_TLBI_NH_VA of one page with Leaf, in the range form where the SMMU has it (4.4.1.1): TG 1,
/// TTL 3, one page; or CMD_TLBI_NH_VAA, of every ASID.
pub fn tlbi_page(asid: Option<u64>, page: u64, ranges: bool) -> Command {
    let form = if ranges { 1 << 10 | 3 << 8 } else { 0 };
    let first = asid.map_or(0x13, |asid| 0x12 | asid << 48);
    [first, page & !0xfff | form | 1]
}

/// CMD_SYNC (4.7.3): seen by CONS alone, or by a word written to an address.
pub fn sync(message: Option<(u64, u32)>) -> Command {
    match message {
        None => [0x46, 0],
        Some((at, data)) => [0x46 | 1 << 12 | u64::from(data) << 32, at & !3],
    }
}

/// An event record (7.3), as far as the tests look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub number: u8,
    pub stream: u32,
    pub substream: Option<u32>,
    pub stage2: bool,
    pub address: u64,
}

/// The driver of one virtual SMMU.
pub struct Kernel {
    pub device: Arc<SmmuDevice>,
    pub ram: Arc<Ram>,
    pub prod: u32,
    /// IDR3.RIL: ranges.
    pub ranges: bool,
}

impl Kernel {
    pub fn new(device: Arc<SmmuDevice>, ram: Arc<Ram>) -> Self {
        let mut kernel = Self { device, ram, prod: 0, ranges: false };
        kernel.ranges = kernel.read(IDR3) >> 10 & 1 == 1;
        kernel
    }

    /// Loads a 32-bit register.
    pub fn read(&self, offset: u64) -> u32 {
        self.device.read(Access { vcpu: 0, offset, width: Width::Bits32 }) as u32
    }

    /// Stores a register.
    pub fn store(&self, offset: u64, width: Width, value: u64) {
        // Everything before it is visible (a kernel's writel).
        barrier::dsb_sy();
        self.device.write(Access { vcpu: 0, offset, width }, value);
        // A vCPU's loop: what is left is gone on with after the next exit.
        for _ in 0..64 {
            if !self.device.is_behind() || !self.device.go_on() {
                break;
            }
        }
    }

    /// One store of a 32-bit register and no more: nothing is gone on with.
    pub fn device_store(&self, offset: u64, value: u64) {
        Self::raw(&self.device, offset, value);
    }

    /// The same from any thread.
    pub fn raw(device: &SmmuDevice, offset: u64, value: u64) {
        barrier::dsb_sy();
        device.write(Access { vcpu: 0, offset, width: Width::Bits32 }, value);
    }

    /// Stores a 32-bit register.
    pub fn write(&self, offset: u64, value: u32) {
        self.store(offset, Width::Bits32, u64::from(value));
    }

    /// Stores words into its RAM.
    pub fn put(&self, at: u64, words: &[u64]) -> Result<(), Wrong> {
        for (nth, word) in words.iter().enumerate() {
            let at = Ipa::new(at + nth as u64 * 8);
            self.ram.write(at, &word.to_le_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Loads a word of its RAM.
    pub fn get(&self, at: u64) -> Result<u64, Wrong> {
        let mut bytes = [0; 8];
        self.ram.read(Ipa::new(at), &mut bytes).map_err(|error| error.to_string())?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Puts commands into the queue, without telling.
    pub fn queue(&mut self, commands: &[Command]) -> Result<(), Wrong> {
        for command in commands {
            let slot = self.prod & ((1 << COMMANDS_LOG2) - 1);
            self.put(COMMANDS + u64::from(slot) * 16, command)?;
            self.prod = (self.prod + 1) & ((2 << COMMANDS_LOG2) - 1);
        }
        Ok(())
    }

    /// Tells of everything queued, and waits for CONS.
    ///
    /// # Errors
    /// The queue does not get there.
    pub fn ring(&self) -> Result<(), Wrong> {
        self.write(CMDQ_PROD, self.prod);
        let cons = self.read(CMDQ_CONS);
        if cons & 0xf_ffff == self.prod && self.read(GERROR) == self.read(GERRORN) {
            return Ok(());
        }
        Err(format!("CONS is {cons:#x}, not {:#x}", self.prod))
    }

    /// Commands and a synchronisation.
    ///
    /// # Errors
    /// As [`Self::ring`].
    pub fn send(&mut self, commands: &[Command]) -> Result<(), Wrong> {
        self.queue(commands)?;
        self.queue(&[sync(None)])?;
        self.ring()
    }

    /// As Linux brings it up: everything but SMMUEN.
    pub fn bring_up(&mut self) -> Result<(), Wrong> {
        self.write(CR0, 0);
        self.write(CR1, 0xd75);
        self.write(CR2, 6);
        self.store(STRTAB_BASE, Width::Bits64, 1 << 62 | LEVEL1);
        self.write(STRTAB_BASE_CFG, 0x1_0210);
        self.store(CMDQ_BASE, Width::Bits64, 1 << 62 | COMMANDS | u64::from(COMMANDS_LOG2));
        self.write(CMDQ_PROD, 0);
        self.write(CMDQ_CONS, 0);
        self.prod = 0;
        self.write(CR0, 8);
        self.send(&[cfgi_range(0, 31)])?;
        self.send(&[tlbi_all(true)])?;
        self.store(EVENTQ_BASE, Width::Bits64, 1 << 62 | EVENTS | u64::from(EVENTS_LOG2));
        self.write(EVENTQ_PROD, 0);
        self.write(EVENTQ_CONS, 0);
        self.write(CR0, 0xc);
        self.write(IRQ_CTRL, 5);
        Ok(())
    }

    /// Level 1 of the stream table: the first 2^8 StreamIDs have entries, all of which abort.
    pub fn clear_table(&self) -> Result<(), Wrong> {
        for stream in 0..256 {
            self.put(LEVEL2 + stream * 64, &[1, 0, 0, 0, 0, 0, 0, 0])?;
        }
        // Span 9: 2^8 entries (5.1).
        self.put(LEVEL1, &[LEVEL2 | 9])
    }

    /// Where a stream's entry is.
    pub fn entry(stream: u32) -> u64 {
        LEVEL2 + u64::from(stream & 0xff) * 64
    }

    /// An entry with stage 1 (5.2): a linear table of `2^bits` descriptors at `contexts`; a
    /// transaction without a substream uses substream 0 where there are several.
    pub fn stage1(contexts: u64, bits: u64) -> [u64; 2] {
        let dss = if bits == 0 { 0 } else { 2 };
        // Write-back, inner shareable fetches of descriptors.
        [1 | 0b101 << 1 | contexts | bits << 59, dss | 1 << 2 | 1 << 4 | 3 << 6]
    }

    /// A context descriptor (5.4) of a space: 39 bits in 4 KiB pages, no TTB1.
    pub fn context(space: usize, asid: u64) -> [u64; 4] {
        let walk = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 30;
        // V, 40 bits out, AArch64, R, A, ASET.
        let word = walk | 1 << 31 | 2 << 32 | 1 << 41 | 1 << 45 | 1 << 46 | 1 << 47 | asid << 48;
        [word, Self::table(space, 1), 0, 0xff]
    }

    /// One of three levels of tables of a space.
    pub fn table(space: usize, level: u64) -> u64 {
        SPACE + (space as u64 * 3 + level - 1) * 0x1000
    }

    /// Empty tables for a space: every page that devices know of but the last has a leaf.
    pub fn clear_space(&self, space: usize) -> Result<(), Wrong> {
        for level in 1..=3 {
            self.put(Self::table(space, level), &[0; 512])?;
        }
        let next = |level| Self::table(space, level) | 0b11;
        self.put(Self::table(space, 1) + (PAGES[0] >> 30 & 511) * 8, &[next(2)])?;
        self.put(Self::table(space, 2) + (PAGES[0] >> 21 & 511) * 8, &[next(3)])
    }

    /// Maps a page of a space, or unmaps it, without telling anybody.
    pub fn map(&self, space: usize, page: u64, target: Target) -> Result<(), Wrong> {
        let leaf = Self::table(space, 3) + (page >> 12 & 511) * 8;
        self.put(leaf, &[Guest::descriptor(target)])?;
        barrier::dsb_sy();
        Ok(())
    }

    /// Takes every record out of the event queue.
    ///
    /// # Errors
    /// The guest's RAM.
    pub fn events(&self) -> Result<Vec<Seen>, Wrong> {
        let (prod, mut cons) = (self.read(EVENTQ_PROD), self.read(EVENTQ_CONS));
        let mask = (2u32 << EVENTS_LOG2) - 1;
        let mut seen = Vec::new();
        while (cons ^ prod) & mask != 0 {
            let at = EVENTS + u64::from(cons & ((1 << EVENTS_LOG2) - 1)) * 32;
            let words = [self.get(at)?, self.get(at + 8)?, self.get(at + 16)?];
            seen.push(Seen {
                number: words[0] as u8,
                stream: (words[0] >> 32) as u32,
                substream: (words[0] >> 11 & 1 == 1).then_some((words[0] >> 12) as u32 & 0xf_ffff),
                stage2: words[1] >> 39 & 1 == 1,
                address: words[2],
            });
            cons = cons.wrapping_add(1) & mask;
        }
        // The overflow flag is acknowledged with it (7.4).
        self.write(EVENTQ_CONS, cons | prod & 1 << 31);
        Ok(seen)
    }
}
