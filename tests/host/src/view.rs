//! What the SMMU sees of the arena: never more than the CPU wrote, and often less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_hal::fake::{Barrier, Op};
use palisade_mem::Arena;
use palisade_smmu_model::{Abort, Memory, Rng};

/// Words of a cache line.
const LINE: usize = 8;

/// The SMMU's side of the arena: memory behind the CPU's cache.
///
/// Coherent: every store becomes visible at the next barrier, each doubleword by itself earlier
/// if chance says so. Not coherent: the CPU's cache holds lines of its own; a dirty one reaches
/// memory when it is cleaned (which is complete when the CPU's routine returns), or when chance
/// evicts it, whole, over whatever the SMMU wrote there; a clean one shows what the SMMU wrote only after it was
/// invalidated, or earlier by chance.
pub struct View {
    arena: Arc<Arena>,
    base: u64,
    coherent: bool,
    /// Memory.
    shadow: Vec<u64>,
    /// What the CPU's cache held when it last agreed with memory: a line that differs is dirty.
    agreed: Vec<u64>,
    whim: u32,
    rng: Rng,
    /// Device accesses that landed in the arena: hypervisor memory.
    pub intrusions: Vec<u64>,
}

impl View {
    /// A view of `arena`, which begins at physical address `base`; `whim` in percent is the
    /// chance that a read sees what nothing has published yet.
    pub fn new(arena: Arc<Arena>, coherent: bool, whim: u32, seed: u64) -> Self {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let shadow: Vec<u64> = arena.words().iter().map(load).collect();
        let base = arena.range().start.get();
        View {
            arena,
            base,
            coherent,
            agreed: shadow.clone(),
            shadow,
            whim,
            rng: Rng::new(seed),
            intrusions: Vec::new(),
        }
    }

    /// See [`View::new`].
    pub fn set_whim(&mut self, percent: u32) {
        self.whim = percent;
    }

    fn index(&self, pa: u64) -> Option<usize> {
        let index = usize::try_from(pa.checked_sub(self.base)? / 8).ok()?;
        (index < self.shadow.len()).then_some(index)
    }

    fn load(&self, index: usize) -> u64 {
        self.arena.words().get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn is_dirty(&self, line: usize) -> bool {
        (line * LINE..(line + 1) * LINE).any(|index| self.load(index) != self.agreed[index])
    }

    /// The CPU's line goes to memory, if it is dirty.
    fn write_back(&mut self, line: usize) {
        if self.is_dirty(line) {
            for index in line * LINE..(line + 1) * LINE {
                self.shadow[index] = self.load(index);
                self.agreed[index] = self.shadow[index];
            }
        }
    }

    /// The CPU takes a clean line anew from memory.
    fn refresh(&mut self, line: usize) {
        if !self.is_dirty(line) {
            for index in line * LINE..(line + 1) * LINE {
                self.agreed[index] = self.shadow[index];
                self.arena.words()[index].store(self.shadow[index], Ordering::Relaxed);
            }
        }
    }

    /// What an operation of the CPU publishes.
    pub fn observe(&mut self, op: &Op) {
        match op {
            Op::Barrier(Barrier::Isb | Barrier::DmbOshld) | Op::Tlbi(_) => {}
            Op::Barrier(_) if self.coherent => {
                for (shadow, word) in self.shadow.iter_mut().zip(self.arena.words()) {
                    *shadow = word.load(Ordering::Relaxed);
                }
            }
            Op::Barrier(_) => {}
            Op::Clean { start, bytes, invalidate } if !self.coherent => {
                let first = self.arena.words().as_ptr().addr();
                let Some(offset) = start.checked_sub(first) else { return };
                let (from, to) = (offset / 64, (offset + bytes.saturating_sub(1)) / 64);
                for line in from..=to.min(self.shadow.len() / LINE - 1) {
                    self.write_back(line);
                    if *invalidate {
                        self.refresh(line);
                    }
                }
            }
            Op::Clean { .. } => {}
        }
    }
}

/// The model's handle on a view. Addresses outside the arena are guests' RAM: nothing is stored
/// there, a read answers the address.
#[derive(Clone)]
pub struct ViewMemory(Arc<Mutex<View>>);

impl ViewMemory {
    /// A handle on `view`.
    pub fn new(view: View) -> Self {
        ViewMemory(Arc::new(Mutex::new(view)))
    }

    /// The view itself.
    pub fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory for ViewMemory {
    fn read64(&mut self, pa: u64) -> Result<u64, Abort> {
        let mut view = self.lock();
        let Some(index) = view.index(pa) else { return Err(Abort) };
        let whim = view.whim;
        if view.rng.percent(whim) {
            if view.coherent {
                view.shadow[index] = view.load(index);
            } else {
                view.write_back(index / LINE);
            }
        }
        Ok(view.shadow[index])
    }

    fn write64(&mut self, pa: u64, value: u64) -> Result<(), Abort> {
        let mut view = self.lock();
        let Some(index) = view.index(pa) else { return Err(Abort) };
        view.shadow[index] = value;
        let line = index / LINE;
        if view.coherent {
            view.arena.words()[index].store(value, Ordering::Relaxed);
        } else if view.is_dirty(line) {
            // The dirty line will be evicted over it one day; let that day be soon.
            if view.rng.percent(50) {
                view.write_back(line);
            }
        } else if view.rng.percent(50) {
            view.refresh(line);
        }
        Ok(())
    }

    fn device_read(&mut self, pa: u64) -> Result<u64, Abort> {
        let mut view = self.lock();
        if view.index(pa).is_some() {
            view.intrusions.push(pa);
        }
        Ok(pa)
    }

    fn device_write(&mut self, pa: u64, _value: u64) -> Result<(), Abort> {
        self.device_read(pa).map(|_| ())
    }
}
