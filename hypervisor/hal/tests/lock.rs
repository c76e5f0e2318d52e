//! The fake lock tells of every wait in the wrong order, without another thread to meet it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use palisade_hal::lock::{FairMutex, Mutex, Rank};

fn panics(body: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

#[test]
fn ranks_only_rise() {
    let (map, domain) = (Mutex::new(Rank::VmMap, 1), Mutex::new(Rank::Domain, 2));
    {
        let held = map.lock();
        assert_eq!(*held + *domain.lock(), 3);
    }
    assert!(panics(|| {
        let _held = domain.lock();
        let _waits = map.lock();
    }));
    // What was held when it panicked is let go.
    assert_eq!(*map.lock(), 1);
}

#[test]
fn two_of_one_rank_are_never_held() {
    let (one, other) = (Mutex::new(Rank::Group, ()), Mutex::new(Rank::Group, ()));
    assert!(panics(|| {
        let _held = one.lock();
        let _waits = other.lock();
    }));
}

#[test]
fn a_lock_that_is_let_go_early_does_not_count() {
    let (map, group, domain) =
        (Mutex::new(Rank::VmMap, ()), Mutex::new(Rank::Group, ()), Mutex::new(Rank::Domain, ()));
    let first = map.lock();
    let last = domain.lock();
    drop(first);
    assert!(panics(|| drop(group.lock())), "the later one is held still");
    drop(last);
    drop(group.lock());
}

#[test]
fn trying_waits_for_nobody_but_is_held() {
    let (streams, events) = (Mutex::new(Rank::SmmuStreams, ()), Mutex::new(Rank::SmmuEvents, ()));
    let _events = events.lock();
    let tried = streams.try_lock();
    assert!(tried.is_some());
    let group = Mutex::new(Rank::Group, ());
    assert!(panics(|| drop(group.lock())));
}

#[test]
fn each_thread_holds_its_own() {
    let (map, domain) = (Mutex::new(Rank::VmMap, ()), Mutex::new(Rank::Domain, ()));
    let _held = domain.lock();
    std::thread::scope(|threads| {
        threads.spawn(|| drop(map.lock()));
    });
}

#[test]
fn fair_locks_have_their_rank_too() {
    let (its, map) = (FairMutex::new(Rank::VirtualIts, ()), Mutex::new(Rank::VmMap, ()));
    drop((its.lock(), map.lock()));
    assert!(panics(|| {
        let _held = map.lock();
        let _waits = its.lock();
    }));
}
