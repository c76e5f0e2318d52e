//! A hand-driven SMMU: what a driver does, in as few words as possible.

use palisade_smmu_model::{DriverFault, Event, Features, Model, SparseMemory, Temper};

pub const STRTAB: u64 = 0x10_0000;
pub const CMDQ: u64 = 0x20_0000;
pub const EVTQ: u64 = 0x21_0000;
pub const PRIQ: u64 = 0x22_0000;
pub const TABLES: u64 = 0x100_0000;

pub struct Bench {
    pub model: Model,
    pub memory: SparseMemory,
    prod: u32,
    next_table: u64,
}

pub const CMDQ_LOG2: u32 = 4;
pub const EVTQ_LOG2: u32 = 3;
pub const PRIQ_LOG2: u32 = 2;

impl Bench {
    /// Reset state, nothing enabled.
    pub fn cold(features: Features, seed: u64) -> Self {
        let memory = SparseMemory::new();
        let model = Model::new(features, Box::new(memory.clone()), seed);
        Bench { model, memory, prod: 0, next_table: TABLES }
    }

    /// Everything enabled: a linear table of 64 STEs, all aborting.
    pub fn new(features: Features, seed: u64) -> Self {
        let mut bench = Self::cold(features, seed);
        let features = bench.model.features().clone();
        for stream in 0..64 {
            bench.set_ste(stream, [1, 0, 0, 0, 0, 0, 0, 0]);
        }
        bench.write32(0x44, 1 << 31 | 1 << 20);
        bench.poll(0x44, 1 << 31, 0);
        bench.write64(0x80, STRTAB);
        bench.write32(0x88, 6);
        bench.write32(0x2c, 1 << 1);
        bench.write64(0x90, CMDQ | u64::from(CMDQ_LOG2));
        bench.write32(0x98, 0);
        bench.write32(0x9c, 0);
        bench.write64(0xa0, EVTQ | u64::from(EVTQ_LOG2));
        bench.write32(0x1_00a8, 0);
        bench.write32(0x1_00ac, 0);
        bench.cr0(1 << 3);
        bench.command([0x04, 31]);
        if features.hyp {
            bench.command([0x20, 0]);
        }
        bench.command([0x30, 0]);
        bench.sync();
        bench.cr0(1 << 3 | 1 << 2);
        let mut all = 1 << 3 | 1 << 2 | 1;
        if features.pri {
            bench.write64(0xc0, PRIQ | u64::from(PRIQ_LOG2));
            bench.write32(0x1_00c8, 0);
            bench.write32(0x1_00cc, 0);
            all |= 1 << 1;
        }
        if features.ats {
            all |= 1 << 4;
        }
        bench.write32(0x50, 7);
        bench.poll(0x54, 7, 7);
        bench.cr0(all);
        bench
    }

    /// Caches that always keep, never evict, never speculate: for exact expectations.
    pub fn calm(mut self) -> Self {
        self.model.set_temper(Temper { cache: 100, evict: 0, speculate: 0, contiguous: 100 });
        self
    }

    pub fn read32(&mut self, offset: u64) -> u32 {
        self.model.mmio_read(offset, 4) as u32
    }

    pub fn write32(&mut self, offset: u64, value: u32) {
        self.model.mmio_write(offset, 4, u64::from(value));
    }

    pub fn write64(&mut self, offset: u64, value: u64) {
        self.model.mmio_write(offset, 8, value);
    }

    pub fn poll(&mut self, offset: u64, mask: u32, value: u32) {
        for _ in 0..1000 {
            if self.read32(offset) & mask == value {
                return;
            }
            self.model.step();
        }
        panic!("register {offset:#x} never became {value:#x}");
    }

    pub fn cr0(&mut self, value: u32) {
        self.write32(0x20, value);
        self.poll(0x24, u32::MAX, value);
    }

    pub fn publish(&mut self, command: [u64; 2]) {
        let slot = u64::from(self.prod) & ((1 << CMDQ_LOG2) - 1);
        self.memory.set(CMDQ + 16 * slot, command[0]);
        self.memory.set(CMDQ + 16 * slot + 8, command[1]);
        self.prod = (self.prod + 1) & ((2 << CMDQ_LOG2) - 1);
        self.write32(0x98, self.prod);
    }

    /// Publishes a command and waits until it is consumed.
    pub fn command(&mut self, command: [u64; 2]) {
        self.publish(command);
        self.poll(0x9c, 0xf_ffff, self.prod);
    }

    pub fn sync(&mut self) {
        self.command([0x46, 0]);
    }

    /// Publishes a command that must fail, checks its code and replaces it by a CMD_SYNC.
    pub fn refused(&mut self, command: [u64; 2], code: u32) {
        let slot = u64::from(self.prod) & ((1 << CMDQ_LOG2) - 1);
        let before = self.read32(0x64);
        self.publish(command);
        self.poll(0x60, 1, !before & 1);
        assert_eq!(self.read32(0x9c) >> 24 & 0x7f, code, "{command:x?}");
        self.memory.set(CMDQ + 16 * slot, 0x46);
        self.memory.set(CMDQ + 16 * slot + 8, 0);
        self.write32(0x64, before ^ 1);
        self.poll(0x9c, 0xf_ffff, self.prod);
    }

    pub fn set_ste(&mut self, stream: u64, words: [u64; 8]) {
        for (i, word) in words.into_iter().enumerate() {
            self.memory.set(STRTAB + 64 * stream + 8 * i as u64, word);
        }
    }

    /// Stores the STE and invalidates it.
    pub fn change_ste(&mut self, stream: u64, words: [u64; 8]) {
        self.set_ste(stream, words);
        self.command([0x03 | stream << 32, 1]);
        self.sync();
    }

    pub fn set_words(&mut self, pa: u64, words: &[u64]) {
        for (i, word) in words.iter().enumerate() {
            self.memory.set(pa + 8 * i as u64, *word);
        }
    }

    pub fn table(&mut self) -> u64 {
        let table = self.next_table;
        self.next_table += 0x1000;
        table
    }

    /// Maps a 4 KiB page in a three-level table (39 bits) with leaf attributes `leaf`.
    pub fn map(&mut self, root: u64, address: u64, output: u64, leaf: u64) {
        let mut table = root;
        for level in [1u64, 2] {
            let slot = table + (address >> (39 - 9 * level) & 0x1ff) * 8;
            let word = self.memory.get(slot);
            table = if word & 1 == 0 {
                let next = self.table();
                self.memory.set(slot, next | 3);
                next
            } else {
                word & 0xffff_ffff_f000
            };
        }
        self.memory.set(table + (address >> 12 & 0x1ff) * 8, output | leaf | 3);
    }

    pub fn unmap(&mut self, root: u64, address: u64) {
        let mut table = root;
        for level in [1u64, 2] {
            let slot = table + (address >> (39 - 9 * level) & 0x1ff) * 8;
            table = self.memory.get(slot) & 0xffff_ffff_f000;
        }
        self.memory.set(table + (address >> 12 & 0x1ff) * 8, 0);
    }

    /// Takes one event from the queue.
    pub fn event(&mut self) -> Option<Event> {
        for _ in 0..64 {
            self.model.step();
        }
        let (prod, cons) = (self.read32(0x1_00a8), self.read32(0x1_00ac));
        let wrap = (2 << EVTQ_LOG2) - 1;
        if (prod ^ cons) & wrap == 0 {
            return None;
        }
        let slot = u64::from(cons) & ((1 << EVTQ_LOG2) - 1);
        let words = core::array::from_fn(|i| self.memory.get(EVTQ + 32 * slot + 8 * i as u64));
        let next = (cons + 1) & wrap;
        self.write32(0x1_00ac, cons & 1 << 31 | next);
        Event::decode(words)
    }

    /// Asserts that the driver has done nothing wrong.
    pub fn clean(&mut self) {
        assert_eq!(self.model.driver_faults(), &[] as &[DriverFault]);
    }
}

/// A stage 2 leaf: read and write, AF, normal memory, inner shareable.
pub const S2_RW: u64 = 0xf << 2 | 3 << 6 | 3 << 8 | 1 << 10;
/// A stage 2 leaf: read only.
pub const S2_RO: u64 = 0xf << 2 | 1 << 6 | 3 << 8 | 1 << 10;
/// A stage 1 leaf: unprivileged read and write, nG, AF.
pub const S1_RW: u64 = 1 << 6 | 3 << 8 | 1 << 10 | 1 << 11;
/// A stage 1 leaf: unprivileged read only.
pub const S1_RO: u64 = S1_RW | 1 << 7;

/// VTCR fields for 39 bits from level 1 with 4 KiB pages, 44-bit output; S2AA64, S2R.
const S2_FIELDS: u64 = (25 << 32) | (1 << 38) | (4 << 48) | (1 << 51) | (1 << 58);

/// A stage-2-only STE.
pub fn stage2(vmid: u64, root: u64) -> [u64; 8] {
    [1 | 6 << 1, 0, vmid | S2_FIELDS, root, 0, 0, 0, 0]
}

/// A stage-1-only STE with 2^`log2` CDs.
pub fn stage1(vmid: u64, cds: u64, log2: u64, dss: u64) -> [u64; 8] {
    [1 | 5 << 1 | cds | log2 << 59, dss, vmid, 0, 0, 0, 0, 0]
}

/// A nested STE.
pub fn nested(vmid: u64, cds: u64, log2: u64, root: u64) -> [u64; 8] {
    [1 | 7 << 1 | cds | log2 << 59, 0, vmid | S2_FIELDS, root, 0, 0, 0, 0]
}

/// A CD for 39 bits with 4 KiB pages through TTB0; A and R set.
pub fn cd(asid: u64, root: u64) -> [u64; 8] {
    let fields = 25 | 1 << 30 | 1 << 31 | 4 << 32 | 1 << 41 | 1 << 45 | 1 << 46;
    [fields | asid << 48, root, 0, 0, 0, 0, 0, 0]
}
