//! The spin locks, which know what their thread holds.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use std::cell::RefCell;
use std::vec::Vec;

use crate::lock::{Rank, fair};

/// A lock that the thread holds: its rank, and where it is.
type Held = (Rank, usize);

std::thread_local! {
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
}

/// Builds that are measured do not look.
const CHECKED: bool = cfg!(debug_assertions);

/// Panics if a thread that holds what this one holds must not wait for a lock of `rank`.
#[track_caller]
fn check(rank: Rank) {
    if CHECKED {
        let last = HELD.with_borrow(|held| held.iter().map(|&(rank, _)| rank).max());
        if let Some(last) = last.filter(|&last| last >= rank) {
            panic!("lock order: waits for {rank:?} and holds {last:?}");
        }
    }
}

/// Holds a lock; lets go when dropped, on the thread that took it.
#[derive(Debug)]
pub struct Guard<G> {
    guard: G,
    held: Held,
    /// What is held is the thread's.
    _here: PhantomData<*const ()>,
}

impl<G> Guard<G> {
    fn new(guard: G, held: Held) -> Self {
        if CHECKED {
            HELD.with_borrow_mut(|all| all.push(held));
        }
        Self { guard, held, _here: PhantomData }
    }
}

/// The thread does not hold this lock any more.
fn forget(one: Held) {
    if CHECKED {
        // A thread that ends may have nothing left to note it in.
        let _ = HELD.try_with(|all| {
            let mut all = all.borrow_mut();
            if let Some(index) = all.iter().rposition(|other| *other == one) {
                all.remove(index);
            }
        });
    }
}

impl<G> Drop for Guard<G> {
    fn drop(&mut self) {
        forget(self.held);
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

/// Holds a [`Mutex`]; lets go when dropped.
pub type MutexGuard<'a, T> = Guard<spin::MutexGuard<'a, T>>;

/// A spin lock. Waiting for one whose rank is not above all that the thread holds panics.
#[derive(Debug)]
pub struct Mutex<T: ?Sized> {
    rank: Rank,
    lock: spin::Mutex<T>,
}

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, lock: spin::Mutex::new(value) }
    }

    /// What it guarded.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is open and takes it.
    ///
    /// # Panics
    /// If the thread holds a lock of this rank or a later one: another core that takes the two in
    /// the right order would wait for this one for ever.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        check(self.rank);
        Guard::new(self.lock.lock(), self.held())
    }

    /// Takes the lock if it is open. It does not wait, so any order will do.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.lock.try_lock().map(|guard| Guard::new(guard, self.held()))
    }

    /// What it guards; whoever holds the lock alone needs not take it.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }

    /// Opens a lock whose holder will never run again.
    ///
    /// # Safety
    ///
    /// Nobody uses a guard of this lock any more.
    pub unsafe fn force_unlock(&self) {
        forget(self.held());
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.lock.force_unlock() };
    }

    fn held(&self) -> Held {
        (self.rank, (&raw const self.lock).cast::<()>().addr())
    }
}

/// Holds a [`FairMutex`]; lets the next one in when dropped.
pub type FairMutexGuard<'a, T> = Guard<fair::Guard<'a, T>>;

/// A spin lock for what guests can keep busy from several cores: nobody waits for ever. Waiting for
/// one whose rank is not above all that the thread holds panics.
#[derive(Debug)]
pub struct FairMutex<T: ?Sized> {
    rank: Rank,
    lock: fair::FairMutex<T>,
}

impl<T> FairMutex<T> {
    /// An open lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, lock: fair::FairMutex::new(value) }
    }
}

impl<T: ?Sized> FairMutex<T> {
    /// Waits until the lock is open and takes it.
    ///
    /// # Panics
    /// As [`Mutex::lock`].
    #[track_caller]
    pub fn lock(&self) -> FairMutexGuard<'_, T> {
        check(self.rank);
        Guard::new(self.lock.lock(), self.held())
    }

    /// Takes the lock if it is open and nobody has waited long for it.
    pub fn try_lock(&self) -> Option<FairMutexGuard<'_, T>> {
        self.lock.try_lock().map(|guard| Guard::new(guard, self.held()))
    }

    fn held(&self) -> Held {
        (self.rank, (&raw const self.lock).cast::<()>().addr())
    }
}
