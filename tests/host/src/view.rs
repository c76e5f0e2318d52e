//! What the SMMU sees of the arena: never more than the CPU wrote, and often less.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_hal::fake::{Barrier, Op};
use palisade_mem::Arena;
use palisade_smmu_model::{Abort, Memory, Rng};

/// Words of a cache line.
const LINE: usize = 8;

/// The SMMU's side of the arena.
///
/// Coherent: every store becomes visible at the next barrier, each doubleword by itself earlier
/// if chance says so. Not coherent: a line becomes visible when it was cleaned and a barrier
/// followed, or when chance evicts it; what the SMMU writes is seen by the CPU after the line
/// was invalidated, or earlier by chance.
pub struct View {
    arena: Arc<Arena>,
    base: u64,
    coherent: bool,
    shadow: Vec<u64>,
    /// Lines cleaned since the last barrier, as they were then.
    cleaned: BTreeMap<usize, [u64; LINE]>,
    /// Words that the SMMU wrote and the CPU's cache may hide.
    incoming: BTreeMap<usize, u64>,
    whim: u32,
    rng: Rng,
    /// Device accesses that landed in the arena: hypervisor memory.
    pub intrusions: Vec<u64>,
}

impl View {
    /// A view of `arena`, which begins at physical address `base`; `whim` in percent is the
    /// chance that a read sees what nothing has published yet.
    pub fn new(arena: Arc<Arena>, coherent: bool, whim: u32, seed: u64) -> Self {
        let shadow = arena.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let base = arena.range().start.get();
        View {
            arena,
            base,
            coherent,
            shadow,
            cleaned: BTreeMap::new(),
            incoming: BTreeMap::new(),
            whim,
            rng: Rng::new(seed),
            intrusions: Vec::new(),
        }
    }

    fn index(&self, pa: u64) -> Option<usize> {
        let index = usize::try_from(pa.checked_sub(self.base)? / 8).ok()?;
        (index < self.shadow.len()).then_some(index)
    }

    fn load(&self, index: usize) -> u64 {
        self.arena.words().get(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn line(&self, line: usize) -> [u64; LINE] {
        core::array::from_fn(|i| self.load(line * LINE + i))
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
            // A DMB or a release store orders but does not wait for cleans.
            Op::Barrier(Barrier::DmbIsh | Barrier::DmbOshst | Barrier::Publish) => {}
            Op::Barrier(_) => {
                for (line, words) in std::mem::take(&mut self.cleaned) {
                    if let Some(shadow) = self.shadow.get_mut(line * LINE..(line + 1) * LINE) {
                        shadow.copy_from_slice(&words);
                    }
                }
            }
            Op::Clean { start, bytes, invalidate } if !self.coherent => {
                let first = self.arena.words().as_ptr().addr();
                let Some(offset) = start.checked_sub(first) else { return };
                let (from, to) = (offset / 64, (offset + bytes.saturating_sub(1)) / 64);
                for line in from..=to.min(self.shadow.len() / LINE) {
                    if *invalidate {
                        self.refresh(line);
                    }
                    self.cleaned.insert(line, self.line(line));
                }
            }
            Op::Clean { .. } => {}
        }
    }

    /// The CPU drops its copy of a line: it sees what the SMMU wrote.
    fn refresh(&mut self, line: usize) {
        for index in line * LINE..(line + 1) * LINE {
            if let Some(value) = self.incoming.remove(&index) {
                self.arena.words()[index].store(value, Ordering::Relaxed);
            }
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
                let line = index / LINE;
                let words = view.line(line);
                view.shadow[line * LINE..(line + 1) * LINE].copy_from_slice(&words);
            }
        }
        Ok(view.shadow[index])
    }

    fn write64(&mut self, pa: u64, value: u64) -> Result<(), Abort> {
        let mut view = self.lock();
        let Some(index) = view.index(pa) else { return Err(Abort) };
        view.shadow[index] = value;
        if view.coherent || view.rng.percent(50) {
            view.incoming.remove(&index);
            view.arena.words()[index].store(value, Ordering::Relaxed);
        } else {
            view.incoming.insert(index, value);
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
