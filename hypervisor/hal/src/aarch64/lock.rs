//! The spin locks.

use crate::lock::{Rank, fair};

/// Holds a [`Mutex`]; lets go when dropped.
pub type MutexGuard<'a, T> = spin::MutexGuard<'a, T>;

/// A spin lock whose waiting is a function instead of a dozen instructions at every place that
/// locks: locks of one layout share it. Its rank costs nothing here.
#[derive(Debug)]
pub struct Mutex<T: ?Sized>(spin::Mutex<T>);

impl<T> Mutex<T> {
    /// An open lock.
    pub const fn new(_rank: Rank, value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    /// What it guarded.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the lock is open and takes it.
    #[inline(never)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is open.
    #[inline(never)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }

    /// What it guards; whoever holds the lock alone needs not take it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// Opens a lock whose holder will never run again.
    ///
    /// # Safety
    ///
    /// Nobody uses a guard of this lock any more.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.force_unlock() };
    }
}

/// Holds a [`FairMutex`]; lets the next one in when dropped.
pub type FairMutexGuard<'a, T> = fair::Guard<'a, T>;

/// A spin lock for what guests can keep busy from several cores: nobody waits for ever. Its rank
/// costs nothing here.
#[derive(Debug)]
pub struct FairMutex<T: ?Sized>(fair::FairMutex<T>);

impl<T> FairMutex<T> {
    /// An open lock.
    pub const fn new(_rank: Rank, value: T) -> Self {
        Self(fair::FairMutex::new(value))
    }
}

impl<T: ?Sized> FairMutex<T> {
    /// Waits until the lock is open and takes it.
    #[inline(never)]
    pub fn lock(&self) -> FairMutexGuard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is open and nobody has waited long for it.
    #[inline(never)]
    pub fn try_lock(&self) -> Option<FairMutexGuard<'_, T>> {
        self.0.try_lock()
    }
}
