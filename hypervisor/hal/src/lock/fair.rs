//! A spin lock that keeps nobody waiting for ever.
use core::{
    hint,
    sync::atomic::{AtomicU32, Ordering},
};

/// How often a waiter looks before it takes its place in the queue: some milliseconds, thousands of
/// turns of the lock. Where an emulator's cores outnumber its host's, a queue must stay rare: each
/// of its turns waits for the host to run just the core whose turn it is, and who has to wait so
/// long for each turn comes back before the queue is empty.
const PATIENCE: u32 = 1 << 20;

/// What [`FairMutex::lock`] returns.
pub type Guard<'a, T> = spin::MutexGuard<'a, T>;

/// A spin lock for what guests can keep busy from several cores. Whoever finds it open takes it;
/// but who waited long stands in a queue that all newcomers leave the way to: from then on it
/// waits for those before it in the queue, and for one turn at most of each who was about to take
/// the lock.
#[derive(Debug)]
pub struct FairMutex<T: ?Sized> {
    /// How many are in the queue or about to be.
    queued: AtomicU32,
    /// Held by the first of the queue; the others wait for it by the order in which they came.
    queue: spin::mutex::TicketMutex<()>,
    value: spin::Mutex<T>,
}

impl<T> FairMutex<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        let queue = spin::mutex::TicketMutex::new(());
        Self { queued: AtomicU32::new(0), queue, value: spin::Mutex::new(value) }
    }
}

impl<T: ?Sized> FairMutex<T> {
    /// Waits until the lock is open and takes it.
    pub fn lock(&self) -> Guard<'_, T> {
        for _ in 0..PATIENCE {
            if !self.value.is_locked()
                && let Some(guard) = self.try_lock()
            {
                return guard;
            }
            hint::spin_loop();
        }
        // No data hangs on this counter: a newcomer that sees it late takes one turn more.
        self.queued.fetch_add(1, Ordering::Relaxed);
        let first = self.queue.lock();
        let guard = self.value.lock();
        self.queued.fetch_sub(1, Ordering::Relaxed);
        drop(first);
        guard
    }

    /// Takes the lock if it is open and nobody is in the queue.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        match self.queued.load(Ordering::Relaxed) {
            0 => self.value.try_lock(),
            _ => None,
        }
    }

    /// How many are in the queue.
    #[cfg(test)]
    fn queued(&self) -> u32 {
        self.queued.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, vec::Vec};

    use super::FairMutex;

    #[test]
    fn whoever_waited_long_is_before_all_newcomers() {
        let lock = FairMutex::new(0);
        let (done, order) = mpsc::channel();
        thread::scope(|scope| {
            let mut held = lock.lock();
            let patient = scope.spawn(|| {
                let mut mine = lock.lock();
                *mine += 1;
                done.send("patient")
            });
            while lock.queued() == 0 {
                thread::yield_now();
            }
            // Open, but not to a newcomer: the lock is owed to the one in the queue.
            *held += 1;
            drop(held);
            while lock.try_lock().is_none() {
                thread::yield_now();
            }
            done.send("newcomer").unwrap();
            patient.join().unwrap().unwrap();
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["patient", "newcomer"]);
        assert_eq!((*lock.lock(), lock.queued()), (2, 0));
    }

    #[test]
    fn one_at_a_time() {
        let lock = FairMutex::new(0_u32);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        *lock.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), 4000);
    }
}
