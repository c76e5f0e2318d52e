//! Who is told of what the fake CPU does.

use core::panic::Location;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Ipa, PhysAddr, Vmid};

/// The barriers of [`super::barrier`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Barrier {
    /// ISB.
    Isb,
    /// DSB ISH.
    DsbIsh,
    /// DSB ISHST.
    DsbIshst,
    /// DSB SY.
    DsbSy,
    /// DSB ST.
    DsbSt,
    /// DMB OSHST.
    DmbOshst,
    /// DMB OSHLD.
    DmbOshld,
    /// DMB ISH.
    DmbIsh,
    /// STLR of a table pointer: earlier stores are seen before it.
    Publish,
}

/// The invalidations of [`super::tlb`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tlbi {
    /// Everything of one VMID.
    Vmid(Vmid, PhysAddr),
    /// A range of one VMID: start, bytes, step.
    Ipa(Vmid, PhysAddr, Ipa, u64, u64),
    /// EL2's own.
    El2,
    /// Every VMID.
    AllGuests,
}

/// One operation of the fake CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// A barrier.
    Barrier(Barrier),
    /// A cache clean of `bytes` bytes at host address `start`.
    Clean {
        /// Host address of the first byte.
        start: usize,
        /// Length in bytes.
        bytes: usize,
        /// Whether the lines are also invalidated.
        invalidate: bool,
    },
    /// A TLB invalidation of the CPUs.
    Tlbi(Tlbi),
}

/// Sees every operation of the thread that installed it.
pub trait Observer {
    /// `op` was asked for at `site`.
    fn observe(&self, op: Op, site: &'static Location<'static>);
}

/// How many observers are installed, over all threads: zero is the fast way out.
static INSTALLED: AtomicUsize = AtomicUsize::new(0);

std::thread_local! {
    static OBSERVER: RefCell<Option<Rc<dyn Observer>>> = const { RefCell::new(None) };
}

/// Installs `observer` for this thread while `body` runs; nests.
pub fn observe<R>(observer: Rc<dyn Observer>, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Rc<dyn Observer>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let old = self.0.take();
            OBSERVER.with(|slot| *slot.borrow_mut() = old);
            INSTALLED.fetch_sub(1, Ordering::Relaxed);
        }
    }
    INSTALLED.fetch_add(1, Ordering::Relaxed);
    let _restore = Restore(OBSERVER.with(|slot| slot.borrow_mut().replace(observer)));
    body()
}

/// Tells the observer of this thread, if there is one.
#[inline]
pub(super) fn tell(op: Op, site: &'static Location<'static>) {
    if INSTALLED.load(Ordering::Relaxed) != 0 {
        tell_installed(op, site);
    }
}

#[cold]
fn tell_installed(op: Op, site: &'static Location<'static>) {
    // Cloned out first: an observer may itself run code that tells.
    let observer = OBSERVER.with(|slot| slot.borrow().clone());
    if let Some(observer) = observer {
        observer.observe(op, site);
    }
}
