//! A small driver of an SMMUv3 (IHI 0070), from the manual: one linear stream table, one queue of
//! commands, one of events.

use crate::memory::{Page, barrier, read32, read64, write32, write64};
use crate::time;

/// Registers (6.3).
const CR0: usize = 0x20;
const CR0ACK: usize = 0x24;
const CR1: usize = 0x28;
const STRTAB_BASE: usize = 0x80;
const STRTAB_BASE_CFG: usize = 0x88;
const CMDQ_BASE: usize = 0x90;
const CMDQ_PROD: usize = 0x98;
const CMDQ_CONS: usize = 0x9c;
const EVENTQ_BASE: usize = 0xa0;
const EVENTQ_PROD: usize = 0x1_00a8;
const EVENTQ_CONS: usize = 0x1_00ac;
/// CR0: SMMUEN, EVENTQEN, CMDQEN.
const SMMUEN: u32 = 1 << 0;
const EVENTQEN: u32 = 1 << 2;
const CMDQEN: u32 = 1 << 3;
/// CR1: tables and queues are write-back and inner shareable.
const CACHEABLE: u32 = 0xd75;
/// log2 of what fills a page: commands of 16 bytes, events of 32; and of the entries we keep.
const COMMANDS: u32 = 8;
const EVENTS: u32 = 7;
const ENTRIES: u32 = 4;
/// CMD_CFGI_STE_RANGE of everything (4.3.2), CMD_TLBI_NSNH_ALL (4.4.2).
const CONFIGURATION: [u64; 2] = [0x04, 31];
const TRANSLATIONS: [u64; 2] = [0x30, 0];
const PATIENCE_MS: u64 = 5_000;

static TABLE: Page = Page::new();
static QUEUE: Page = Page::new();
static RECORDS: Page = Page::new();
/// Where CMD_SYNC says that it is complete.
static WORD: Page = Page::new();

/// An event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its number (7.3).
    pub number: u8,
    /// Whose it is.
    pub stream: u32,
    /// The input address.
    pub address: u64,
}

/// The SMMU.
#[derive(Debug)]
pub struct Smmu {
    base: usize,
    prod: u32,
    cons: u32,
    syncs: u32,
}

impl Smmu {
    /// Brings it up with a table of entries that abort.
    pub fn new(base: u64) -> Option<Self> {
        let mut smmu = Self { base: base as usize, prod: 0, cons: 0, syncs: 0 };
        smmu.enable(0)?;
        for entry in 0..1 << ENTRIES {
            put(&TABLE, entry * 8, 1);
        }
        smmu.set32(CR1, CACHEABLE);
        smmu.set64(STRTAB_BASE, TABLE.address() as u64);
        smmu.set32(STRTAB_BASE_CFG, ENTRIES);
        smmu.set64(CMDQ_BASE, QUEUE.address() as u64 | u64::from(COMMANDS));
        smmu.set32(CMDQ_PROD, 0);
        smmu.set32(CMDQ_CONS, 0);
        smmu.set64(EVENTQ_BASE, RECORDS.address() as u64 | u64::from(EVENTS));
        smmu.set32(EVENTQ_PROD, 0);
        smmu.set32(EVENTQ_CONS, 0);
        smmu.enable(CMDQEN)?;
        smmu.send(&[CONFIGURATION, TRANSLATIONS])?;
        smmu.enable(CMDQEN | EVENTQEN)?;
        smmu.enable(CMDQEN | EVENTQEN | SMMUEN)?;
        Some(smmu)
    }

    /// Off: what its devices do then, GBPA says.
    pub fn disable(&self) -> Option<()> {
        self.enable(0)
    }

    fn enable(&self, bits: u32) -> Option<()> {
        self.set32(CR0, bits);
        until(|| self.get32(CR0ACK) == bits)
    }

    /// Writes a stream's entry, its first word last, and has it read again.
    pub fn set_entry(&mut self, stream: u32, words: [u64; 2]) -> Option<()> {
        let at = stream as usize * 8;
        put(&TABLE, at + 1, words[1]);
        put(&TABLE, at, words[0]);
        // CMD_CFGI_STE (4.3.1).
        self.send(&[[0x03 | u64::from(stream) << 32, 1]])
    }

    /// Sends commands and a CMD_SYNC by one store, and waits for the word of the CMD_SYNC.
    pub fn send(&mut self, commands: &[[u64; 2]]) -> Option<()> {
        self.syncs = self.syncs.wrapping_add(1);
        // CMD_SYNC (4.7.3): CS = 1 with an address writes MSIData there.
        let sync = [0x46 | 1 << 12 | u64::from(self.syncs) << 32, WORD.address() as u64];
        for command in commands.iter().chain([&sync]) {
            let index = self.prod as usize & ((1 << COMMANDS) - 1);
            put(&QUEUE, index * 2, command[0]);
            put(&QUEUE, index * 2 + 1, command[1]);
            self.prod = (self.prod + 1) & ((2 << COMMANDS) - 1);
        }
        self.set32(CMDQ_PROD, self.prod);
        // SAFETY: inside our own page, aligned.
        until(|| unsafe { read32(WORD.address()) } == self.syncs)
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Event> {
        const MASK: u32 = (2 << EVENTS) - 1;
        if self.get32(EVENTQ_PROD) & MASK == self.cons {
            return None;
        }
        let at = (self.cons as usize & ((1 << EVENTS) - 1)) * 32;
        // SAFETY: inside our own page, aligned.
        let word = |n: usize| unsafe { read64(RECORDS.address() + at + n * 8) };
        let event =
            Event { number: word(0) as u8, stream: (word(0) >> 32) as u32, address: word(2) };
        self.cons = (self.cons + 1) & MASK;
        self.set32(EVENTQ_CONS, self.cons);
        Some(event)
    }

    fn get32(&self, register: usize) -> u32 {
        // SAFETY: a register of the SMMU's two pages.
        unsafe { read32(self.base + register) }
    }

    fn set32(&self, register: usize, value: u32) {
        barrier();
        // SAFETY: as above.
        unsafe { write32(self.base + register, value) };
    }

    fn set64(&self, register: usize, value: u64) {
        barrier();
        // SAFETY: as above.
        unsafe { write64(self.base + register, value) };
    }
}

fn until(mut done: impl FnMut() -> bool) -> Option<()> {
    let start = time::now();
    while !done() {
        if time::passed(start, PATIENCE_MS) {
            return None;
        }
    }
    barrier();
    Some(())
}

fn put(page: &Page, word: usize, value: u64) {
    // SAFETY: inside our own page, aligned.
    unsafe { write64(page.address() + word * 8, value) };
    barrier();
}
