//! The least that the driver takes for an SMMU: registers that acknowledge, and a command queue
//! that is consumed as soon as it is published. What it does is not the driver's work, so its two
//! functions carry names by which callgrind leaves them out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use palisade_hal::fake::{Device, Width};
use palisade_hal::{Env, PhysAddr};
use palisade_mem::{Frames, Owner, Use};

/// IDR0, IDR1, IDR3 and IDR5: both stages, 16-bit ASIDs and VMIDs, range invalidation, coherent,
/// terminating faults, two-level tables, 5 bits of SubstreamID, 44-bit addresses.
const ID: [(u64, u64); 4] =
    [(0x00, 0x0d4c_101b), (0x04, 0x0273_0010 | 5 << 6), (0x0c, 0x1404), (0x14, 0x74)];

const CR0: u64 = 0x20;
const GBPA: u64 = 0x44;
const IRQ_CTRL: u64 = 0x50;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
/// CMD_SYNC (IHI 0070, 4.7.3).
const SYNC: u64 = 0x46;

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Commands, syncs not among them.
    pub commands: u64,
    /// CMD_SYNCs.
    pub syncs: u64,
    /// Writes of CMDQ_PROD.
    pub prod_writes: u64,
    /// Register accesses.
    pub accesses: u64,
}

#[derive(Default)]
struct State {
    registers: BTreeMap<u64, u64>,
    seen: Seen,
}

/// The device.
pub struct Minimal {
    state: Mutex<State>,
    frames: Arc<Frames>,
}

impl Minimal {
    /// One whose tables and queues are in `frames`.
    pub fn new(frames: Arc<Frames>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), frames })
    }

    /// What was seen until now.
    pub fn seen(&self) -> Seen {
        self.state.lock().map(|state| state.seen).unwrap_or_default()
    }

    fn opcode(&self, pa: u64) -> u64 {
        let words = self.frames.words(PhysAddr::new(pa), 1, Use::Dma, Owner::HYPERVISOR);
        let word = words.and_then(|words| words.first());
        word.map_or(0, |word| word.load(std::sync::atomic::Ordering::Relaxed) & 0xff)
    }
}

impl State {
    fn get(&self, offset: u64) -> u64 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }
}

/// One load.
#[inline(never)]
#[unsafe(no_mangle)]
extern "Rust" fn palisade_other_side_read(smmu: &Minimal, offset: u64) -> u64 {
    let Ok(mut state) = smmu.state.lock() else { return 0 };
    state.seen.accesses += 1;
    if let Some((_, value)) = ID.iter().find(|(at, _)| *at == offset) {
        return *value;
    }
    match offset {
        // CR0ACK and IRQ_CTRLACK follow at once.
        0x24 => state.get(CR0),
        0x54 => state.get(IRQ_CTRL),
        GBPA => state.get(GBPA) & !(1 << 31),
        _ => state.get(offset),
    }
}

/// One store.
#[inline(never)]
#[unsafe(no_mangle)]
extern "Rust" fn palisade_other_side_write(smmu: &Minimal, offset: u64, value: u64) {
    let Ok(mut state) = smmu.state.lock() else { return };
    state.seen.accesses += 1;
    state.registers.insert(offset, value);
    if offset != CMDQ_PROD {
        return;
    }
    state.seen.prod_writes += 1;
    let (base, mut cons) = (state.get(CMDQ_BASE), state.get(CMDQ_CONS));
    let log2 = base & 0x1f;
    let mask = (2u64 << log2) - 1;
    while cons & mask != value & mask {
        let pa = (base & 0x00ff_ffff_ffff_ffe0) + (cons & ((1 << log2) - 1)) * 16;
        let sync = smmu.opcode(pa) == SYNC;
        state.seen.syncs += u64::from(sync);
        state.seen.commands += u64::from(!sync);
        cons = (cons + 1) & mask;
    }
    state.registers.insert(CMDQ_CONS, cons);
}

impl Device for Minimal {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        palisade_other_side_read(self, offset)
    }

    fn write(&self, offset: u64, _width: Width, value: u64) {
        palisade_other_side_write(self, offset, value);
    }
}

/// A clock that nobody has to wait for.
pub struct Still;

impl Env for Still {
    fn relax(&self) {}
    fn now(&self) -> u64 {
        0
    }
    fn frequency(&self) -> u64 {
        1_000_000
    }
}
