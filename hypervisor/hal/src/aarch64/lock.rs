//! The spin locks.

use crate::lock::Rank;

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
pub type FairMutexGuard<'a, T> = spin::mutex::TicketMutexGuard<'a, T>;

/// A spin lock that lets those who wait in by the order in which they came. For what guests can
/// keep busy from several cores: whoever waits, waits for one turn of each of the others at most.
#[derive(Debug)]
pub struct FairMutex<T: ?Sized>(spin::mutex::TicketMutex<T>);

impl<T> FairMutex<T> {
    /// An open lock.
    pub const fn new(_rank: Rank, value: T) -> Self {
        Self(spin::mutex::TicketMutex::new(value))
    }
}

impl<T: ?Sized> FairMutex<T> {
    /// Waits for its turn and takes the lock.
    #[inline(never)]
    pub fn lock(&self) -> FairMutexGuard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is open and nobody waits for it.
    #[inline(never)]
    pub fn try_lock(&self) -> Option<FairMutexGuard<'_, T>> {
        self.0.try_lock()
    }
}
