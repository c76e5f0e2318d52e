//! Whether a vCPU has to look at its interrupts, without a lock.
//!
//! Three words for each VM. `changed`: something about the state has changed for this vCPU since it
//! last looked. `unsettled`: its list registers hold something that is to be looked at again before
//! each entry, because it depends on more than the state: a timer's line that falls, a queue longer
//! than the registers. With neither, its turn through the exit leaves the controller alone, and what
//! its list registers hold stays there. `listed`: they may hold something that the state has not
//! taken back; who asks what is pending or active takes it back first.
//!
//! **Nothing is lost.** Whoever changes the state does so under its lock, and before the lock opens
//! sets `changed` (1); after it, the bit in `kicks` (2); then whoever takes that bit sends the vCPU
//! an interrupt (3). A vCPU that is about to go in takes `kicks` first, dropping its own bit (a),
//! and looks at `changed` afterwards (b). Did it drop the bit of (2), then (1) happened before (b),
//! since (2) and (a) are read-modify-writes with release and acquire: it looks. Did it not, then
//! another takes the bit and sends the interrupt: EL2 has interrupts masked, so it is pending when
//! the guest goes in, brings the vCPU out at once, and to (b) again; `dsb ishst` before the
//! interrupt is sent and `dsb sy` after it is acknowledged order (1) before that. The words of a
//! vCPU are cleared by itself alone and under the lock, so no change can fall between its looking
//! and its clearing; `unsettled` and `listed` are set by itself alone too.
use super::atomic::{AtomicU32, Ordering};

/// One bit for each vCPU in each word.
#[derive(Debug)]
pub struct Attention {
    changed: AtomicU32,
    unsettled: AtomicU32,
    listed: AtomicU32,
    kicks: AtomicU32,
}

impl Attention {
    /// All have to look; nobody is to be kicked.
    pub fn new() -> Self {
        let [unsettled, listed, kicks] = [0; 3].map(AtomicU32::new);
        Self { changed: AtomicU32::new(!0), unsettled, listed, kicks }
    }

    /// As after [`Attention::new`]. With the state's lock held.
    pub fn reset(&self) {
        self.unsettled.store(0, Ordering::Relaxed);
        self.listed.store(0, Ordering::Relaxed);
        self.kicks.store(0, Ordering::Relaxed);
        self.changed.store(!0, Ordering::Release);
    }

    /// These vCPUs have to look. With the state's lock held.
    pub fn change(&self, vcpus: u32) {
        if vcpus & !self.changed.load(Ordering::Relaxed) != 0 {
            self.changed.fetch_or(vcpus, Ordering::Release);
        }
    }

    /// These are to be sent an interrupt. After the state's lock was opened.
    pub fn kick(&self, vcpus: u32) {
        if vcpus != 0 {
            self.kicks.fetch_or(vcpus, Ordering::AcqRel);
        }
    }

    /// Takes the vCPUs that are to be sent an interrupt.
    pub fn take_kicks(&self) -> u32 {
        match self.kicks.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.kicks.swap(0, Ordering::AcqRel),
        }
    }

    /// Whether a vCPU can go in with its list registers as they are. After
    /// [`Attention::take_kicks`], on its own core.
    pub fn is_quiet(&self, vcpu: usize) -> bool {
        let words = self.changed.load(Ordering::Acquire) | self.unsettled.load(Ordering::Relaxed);
        words & bit(vcpu) == 0
    }

    /// Whether its list registers may hold something that the state has not taken back. On its
    /// own core.
    pub fn is_listed(&self, vcpu: usize) -> bool {
        self.listed.load(Ordering::Relaxed) & bit(vcpu) != 0
    }

    /// A vCPU took its list registers back: they are to be filled. With the state's lock held.
    pub fn folded(&self, vcpu: usize) {
        set(&self.listed, bit(vcpu), false);
        set(&self.unsettled, bit(vcpu), false);
        self.change(bit(vcpu));
    }

    /// A vCPU looked: whether its list registers hold anything, and whether it has to look again
    /// before each entry. With the state's lock held.
    pub fn flushed(&self, vcpu: usize, listed: bool, unsettled: bool) {
        set(&self.listed, bit(vcpu), listed);
        set(&self.unsettled, bit(vcpu), unsettled);
        // It is set under the lock alone, which is held.
        set(&self.changed, bit(vcpu), false);
    }
}

/// A vCPU's bit; there are far fewer than bits.
const fn bit(vcpu: usize) -> u32 {
    1u32.wrapping_shl(vcpu as u32)
}

/// Sets or clears a bit that nobody else can change meanwhile.
fn set(word: &AtomicU32, bit: u32, to: bool) {
    match (word.load(Ordering::Relaxed) & bit != 0, to) {
        (false, true) => word.fetch_or(bit, Ordering::Relaxed),
        (true, false) => word.fetch_and(!bit, Ordering::Relaxed),
        _ => 0,
    };
}
