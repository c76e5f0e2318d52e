//! A minimal SMMU: registers with acknowledgements, and a command queue that is read at once or
//! as slowly as a test says. It translates nothing; the strict model lives in tests/smmu-model.

use std::sync::{Arc, Mutex, MutexGuard};

use palisade_hal::fake::{Device, SteppedClock, Width};
use palisade_hal::mmio::Mmio;
use palisade_hal::{PhysAddr, StreamId, Vmid};
use palisade_iommu::StageTwo;
use palisade_mem::{Arena, Frames, Owner, Use};
use palisade_smmuv3::{IdRegisters, Options, REGISTER_BYTES, Smmu};

pub const QEMU: IdRegisters =
    IdRegisters { idr0: 0x0d44_101b, idr1: 0x0273_0010, idr3: 0x1404, idr5: 0x74 };

/// What happens to the next commands, by opcode.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Fault {
    /// CERROR with this code at the next command with this opcode.
    Error { opcode: u8, code: u32, times: u32 },
    /// The consumer stops before the next command with this opcode, for ever.
    Stop { opcode: u8 },
    /// The consumer stops after so many more commands, for ever.
    StopAfter { commands: usize },
    /// The next command with this opcode is consumed so many turns late.
    Late { opcode: u8, turns: u32 },
    /// The next CMD_ATC_INV of this stream is completed so many turns after the CMD_SYNC that
    /// waits for it was reached.
    SlowDevice { stream: u32, turns: u32 },
}

#[derive(Default)]
pub struct State {
    pub id: IdRegisters,
    pub registers: std::collections::BTreeMap<u64, u64>,
    pub accesses: Vec<(bool, u64, u64)>,
    pub commands: Vec<[u64; 2]>,
    pub faults: Vec<Fault>,
    pub delay: u32,
    pub ignore: Vec<u64>,
    pub lose_messages: bool,
    /// The stream and substream whose CD is looked at at every CFGI_CD.
    pub watch_cd: Option<(u32, u32)>,
    pub seen_cds: Vec<[u64; 8]>,
    /// The stream whose STE is looked at at every CFGI_STE.
    pub watch_ste: Option<u32>,
    pub seen_stes: Vec<[u64; 8]>,
    /// Turns that the next CMD_SYNC waits for a device.
    device_wait: u32,
}

impl State {
    pub fn get(&self, offset: u64) -> u64 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    pub fn set(&mut self, offset: u64, value: u64) {
        self.registers.insert(offset, value);
    }
}

pub struct Fake {
    state: Mutex<State>,
    frames: Arc<Frames>,
}

const CR0: u64 = 0x20;
const GBPA: u64 = 0x44;
const IRQ_CTRL: u64 = 0x50;
const GERROR: u64 = 0x60;
const GERRORN: u64 = 0x64;
const CMDQ_BASE: u64 = 0x90;
const CMDQ_PROD: u64 = 0x98;
const CMDQ_CONS: u64 = 0x9c;
pub const EVENTQ_BASE: u64 = 0xa0;
pub const EVENTQ_PROD: u64 = 0x1_00a8;
pub const EVENTQ_CONS: u64 = 0x1_00ac;
pub const PRIQ_BASE: u64 = 0xc0;
pub const PRIQ_PROD: u64 = 0x1_00c8;
pub const PRIQ_CONS: u64 = 0x1_00cc;

impl Fake {
    pub fn new(frames: &Arc<Frames>, id: IdRegisters) -> Arc<Self> {
        let state = Mutex::new(State { id, ..State::default() });
        Arc::new(Self { state, frames: frames.clone() })
    }

    pub fn mmio(self: &Arc<Self>) -> Mmio {
        Mmio::fake(self.clone(), REGISTER_BYTES)
    }

    pub fn clock(self: &Arc<Self>) -> SteppedClock {
        let fake = self.clone();
        SteppedClock::with_hook(move || fake.step())
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn word(&self, pa: u64) -> u64 {
        let words = self.frames.words(PhysAddr::new(pa), 1, Use::Dma, Owner::HYPERVISOR);
        words.expect("the SMMU was told of this memory")[0]
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    pub fn put_word(&self, pa: u64, value: u64) {
        let words = self.frames.words(PhysAddr::new(pa), 1, Use::Dma, Owner::HYPERVISOR);
        words.expect("the SMMU was told of this memory")[0]
            .store(value, std::sync::atomic::Ordering::Relaxed);
    }

    /// The STE of `stream`, found as hardware finds it.
    pub fn ste(&self, stream: u32) -> [u64; 8] {
        let (base, cfg) = {
            let state = self.state();
            (state.get(0x80) & 0x00ff_ffff_ffff_ffc0, state.get(0x88))
        };
        let first = if cfg >> 16 & 3 == 0 {
            base + u64::from(stream) * 64
        } else {
            let descriptor = self.word(base + u64::from(stream >> 8) * 8);
            assert_eq!(descriptor & 0x1f, 9, "no second level");
            (descriptor & 0x00ff_ffff_ffff_ffc0) + u64::from(stream & 0xff) * 64
        };
        std::array::from_fn(|word| self.word(first + 8 * word as u64))
    }

    /// Records an event, or an entry of the PRI queue.
    pub fn produce(&self, base_register: u64, prod_register: u64, entry: &[u64]) {
        let (base, prod) = {
            let state = self.state();
            (state.get(base_register), state.get(prod_register))
        };
        let log2 = base & 0x1f;
        let index = prod & ((1 << log2) - 1);
        let pa = (base & 0x00ff_ffff_ffff_ffe0) + index * entry.len() as u64 * 8;
        for (at, word) in entry.iter().enumerate() {
            self.put_word(pa + 8 * at as u64, *word);
        }
        let next = (prod & 0x7fff_ffff).wrapping_add(1) & ((2 << log2) - 1);
        self.state().set(prod_register, next | prod & 0x8000_0000);
    }

    /// Consumes what it may; one turn.
    pub fn step(&self) {
        let mut state = self.state();
        if state.delay > 0 {
            state.delay -= 1;
            return;
        }
        loop {
            let (prod, cons) = (state.get(CMDQ_PROD), state.get(CMDQ_CONS));
            let base = state.get(CMDQ_BASE);
            let log2 = base & 0x1f;
            let mask = (2u64 << log2) - 1;
            let error_active = (state.get(GERROR) ^ state.get(GERRORN)) & 1 != 0;
            let sfm = (state.get(GERROR) ^ state.get(GERRORN)) & 1 << 8 != 0;
            if state.get(CR0) & 8 == 0 || prod & mask == cons & mask || error_active || sfm {
                return;
            }
            let pa = (base & 0x00ff_ffff_ffff_ffe0) + (cons & ((1 << log2) - 1)) * 16;
            drop(state);
            let command = [self.word(pa), self.word(pa + 8)];
            state = self.state();
            let opcode = command[0] as u8;
            if opcode == 0x46 && state.device_wait > 0 {
                state.device_wait -= 1;
                return;
            }
            let slow = state.faults.iter().position(|fault| {
                matches!(fault, Fault::SlowDevice { stream, .. }
                    if opcode == 0x40 && u64::from(*stream) == command[0] >> 32)
            });
            if let Some(at) = slow
                && let Fault::SlowDevice { turns, .. } = state.faults.remove(at)
            {
                state.device_wait = turns;
            }
            let hit = state.faults.iter().position(|fault| match *fault {
                Fault::Error { opcode: at, .. }
                | Fault::Stop { opcode: at }
                | Fault::Late { opcode: at, .. } => at == opcode,
                Fault::StopAfter { .. } => true,
                Fault::SlowDevice { .. } => false,
            });
            if let Some(at) = hit {
                match state.faults[at] {
                    Fault::SlowDevice { .. } => unreachable!("not among the hits"),
                    Fault::Stop { .. } | Fault::StopAfter { commands: 0 } => return,
                    Fault::StopAfter { commands } => {
                        state.faults[at] = Fault::StopAfter { commands: commands - 1 };
                    }
                    Fault::Late { turns, .. } => {
                        state.faults.remove(at);
                        state.delay = turns;
                        return;
                    }
                    Fault::Error { opcode, code, times } => {
                        state.faults.remove(at);
                        if times > 1 {
                            let again = Fault::Error { opcode, code, times: times - 1 };
                            state.faults.insert(at, again);
                        }
                        let cons = cons & mask | u64::from(code) << 24;
                        state.set(CMDQ_CONS, cons);
                        let error = state.get(GERROR) ^ 1;
                        state.set(GERROR, error);
                        return;
                    }
                }
            }
            state.commands.push(command);
            if opcode == 0x05
                && let Some((stream, substream)) = state.watch_cd
            {
                drop(state);
                let pointer = self.ste(stream)[0] & 0x000f_ffff_ffff_ffc0;
                let first = pointer + u64::from(substream) * 64;
                let image = std::array::from_fn(|word| self.word(first + 8 * word as u64));
                state = self.state();
                state.seen_cds.push(image);
            }
            if opcode == 0x03
                && let Some(stream) = state.watch_ste
            {
                drop(state);
                let image = self.ste(stream);
                state = self.state();
                state.seen_stes.push(image);
            }
            let message = (command[0] >> 12 & 3 == 1 && opcode == 0x46)
                .then_some((command[1] & 0x00ff_ffff_ffff_fffc, command[0] >> 32));
            let next = (cons & mask).wrapping_add(1) & mask;
            state.set(CMDQ_CONS, next);
            if let Some((pa, data)) = message.filter(|_| !state.lose_messages) {
                drop(state);
                self.put_word(pa, data);
                state = self.state();
            }
        }
    }
}

impl Device for Fake {
    fn read(&self, offset: u64, width: Width) -> u64 {
        // Whatever the driver polls, time has passed for the SMMU too.
        let mut state = self.state();
        let value = match offset {
            0x00 => state.id.idr0.into(),
            0x04 => state.id.idr1.into(),
            0x0c => state.id.idr3.into(),
            0x14 => state.id.idr5.into(),
            0x24 => state.get(CR0),
            0x54 => state.get(IRQ_CTRL),
            GBPA => state.get(GBPA) & !(1 << 31),
            _ => state.get(offset),
        };
        assert!(width == Width::Bits32, "every register the driver reads has 32 bits");
        state.accesses.push((false, offset, value));
        value
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let mut state = self.state();
        state.accesses.push((true, offset, value));
        let wide =
            matches!(offset, 0x68 | 0x80 | CMDQ_BASE | EVENTQ_BASE | 0xb0 | PRIQ_BASE | 0xd0);
        assert_eq!(width == Width::Bits64, wide, "width of {offset:#x}");
        if state.ignore.contains(&offset) {
            return;
        }
        state.set(offset, value);
        drop(state);
        if matches!(offset, CMDQ_PROD | GERRORN) {
            self.step();
        }
    }
}

/// An SMMU, its memory, and the driver on it.
pub struct Bench {
    pub fake: Arc<Fake>,
    pub frames: Arc<Frames>,
    pub smmu: Smmu<SteppedClock>,
    _arena: Arena,
}

/// The parts without a driver.
pub struct Bare {
    pub fake: Arc<Fake>,
    pub frames: Arc<Frames>,
    pub arena: Arena,
}

pub fn bare(id: IdRegisters) -> Bare {
    bare_at(id, 0x8000_0000, 4096)
}

/// With so many frames of memory from `base` on.
pub fn bare_at(id: IdRegisters, base: u64, count: u64) -> Bare {
    let arena = Arena::new(PhysAddr::new(base), count);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    Bare { fake: Fake::new(&frames, id), frames, arena }
}

pub fn options() -> Options {
    Options { sync_micros: 2_000, register_micros: 500, ..Options::default() }
}

impl Bare {
    pub fn mmio(&self) -> Mmio {
        self.fake.mmio()
    }

    pub fn clock(&self) -> SteppedClock {
        self.fake.clock()
    }

    pub fn bring_up(self, options: Options) -> Bench {
        let smmu = Smmu::bring_up(self.mmio(), &self.frames, self.clock(), options).unwrap();
        self.fake.state().accesses.clear();
        self.fake.state().commands.clear();
        Bench { fake: self.fake, frames: self.frames, smmu, _arena: self.arena }
    }
}

pub fn bench(id: IdRegisters) -> Bench {
    bare(id).bring_up(options())
}

pub fn stage_two(vmid: u16) -> StageTwo {
    // T0SZ 24 (40 bits), SL0 1, write-back inner-shareable, 4K, PS 4 (44 bits).
    StageTwo { vmid: Vmid::new(vmid), table: PhysAddr::new(0x9000_0000), control: 0x4_3558 }
}

pub fn stream(number: u32) -> StreamId {
    StreamId::new(number)
}

impl Bench {
    /// Forgets what was recorded.
    pub fn clear(&self) {
        let mut state = self.fake.state();
        state.accesses.clear();
        state.commands.clear();
    }

    /// Opcodes of the commands consumed since the last clear.
    pub fn opcodes(&self) -> Vec<u8> {
        self.fake.state().commands.iter().map(|command| command[0] as u8).collect()
    }

    /// Writes to one register since the last clear.
    pub fn writes(&self, offset: u64) -> usize {
        let state = self.fake.state();
        state.accesses.iter().filter(|&&(write, at, _)| write && at == offset).count()
    }

    pub fn inject(&self, fault: Fault) {
        self.fake.state().faults.push(fault);
    }
}
