//! The rules of IOASID allocation, one test each; the names say which.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use palisade_iommu::ioasid::{Family, IoasidAllocator, IoasidError, Scope, Set};

const SET: Set = Set(7);

/// Gives numbers from `next` on, and notes in its own list what comes back.
struct Custom {
    family: u32,
    next: AtomicU32,
    freed: Mutex<Vec<u32>>,
    alive: Arc<AtomicBool>,
}

impl Custom {
    fn new(family: u32, first: u32) -> Arc<Self> {
        Arc::new(Self {
            family,
            next: AtomicU32::new(first),
            freed: Mutex::default(),
            alive: Arc::new(AtomicBool::new(true)),
        })
    }
}

impl Drop for Custom {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

impl IoasidAllocator for Custom {
    fn family(&self) -> Family {
        Family(self.family)
    }
    fn alloc(&self, _min: u32, _max: u32) -> Option<u32> {
        Some(self.next.fetch_add(1, Ordering::SeqCst))
    }
    fn free(&self, id: u32) {
        self.freed.lock().unwrap().push(id);
    }
}

fn dynamic(custom: &Arc<Custom>) -> Arc<dyn IoasidAllocator> {
    custom.clone()
}

fn scope() -> Scope {
    Scope::new(1024, 1024)
}

#[test]
fn the_default_exists_before_anything_is_registered() {
    let scope = scope();
    assert_eq!(scope.alloc(SET, 1, 10, 0), Ok(1));
    assert_eq!(scope.alloc(SET, 1, 10, 0), Ok(2));
    assert_eq!(scope.free(SET, 1), Ok(()));
    assert_eq!(scope.alloc(SET, 1, 10, 0), Ok(1));
}

#[test]
fn a_registered_allocator_takes_precedence() {
    let scope = scope();
    scope.register(dynamic(&Custom::new(1, 500))).unwrap();
    assert_eq!(scope.alloc(SET, 0, 1000, 0), Ok(500));
}

#[test]
fn the_last_of_a_family_orphans_and_counts_what_is_out() {
    let scope = scope();
    let (a, b) = (Custom::new(1, 100), Custom::new(1, 200));
    scope.register(dynamic(&a)).unwrap();
    scope.register(dynamic(&b)).unwrap();
    let ids: Vec<u32> = (0..3).map(|n| scope.alloc(SET, 0, 999, n).unwrap()).collect();
    scope.free(SET, ids[0]).unwrap();
    assert_eq!(scope.unregister(&dynamic(&a)), 0, "a relative is left");
    assert_eq!(scope.unregister(&dynamic(&b)), 2);
    assert_eq!(scope.orphans(), 2);
    assert_eq!(scope.find(ids[1], None), Err(IoasidError::Unknown(ids[1])));
    assert_eq!(scope.free(SET, ids[1]), Err(IoasidError::Unknown(ids[1])));
    assert_eq!(scope.used(), 0, "what comes next starts with an empty space");
    assert_eq!(scope.alloc(SET, 0, 999, 0), Ok(0), "the default is back");
}

#[test]
fn switching_inside_a_family_keeps_what_is_out() {
    let scope = scope();
    let (a, b) = (Custom::new(1, 100), Custom::new(1, 200));
    scope.register(dynamic(&a)).unwrap();
    scope.register(dynamic(&b)).unwrap();
    let id = scope.alloc(SET, 0, 999, 42).unwrap();
    assert_eq!(scope.unregister(&dynamic(&a)), 0);
    assert_eq!(scope.find(id, Some(SET)), Ok(42));
    assert_eq!(scope.alloc(SET, 0, 999, 0), Ok(200), "the relative is active");
    scope.free(SET, id).unwrap();
    assert_eq!(*b.freed.lock().unwrap(), [id]);
}

#[test]
fn nothing_takes_over_from_a_default_with_numbers_out() {
    let scope = scope();
    let custom = Custom::new(1, 500);
    let id = scope.alloc(SET, 1, 10, 0).unwrap();
    assert_eq!(scope.register(dynamic(&custom)), Err(IoasidError::Again(1)));
    assert_eq!(scope.alloc(SET, 1, 10, 0), Ok(2), "the default goes on");
    scope.free(SET, id).unwrap();
    scope.free(SET, 2).unwrap();
    assert_eq!(scope.register(dynamic(&custom)), Ok(()));
}

#[test]
fn the_same_allocator_twice_leaves_the_list_intact() {
    let scope = scope();
    let (a, b, c) = (Custom::new(1, 100), Custom::new(2, 200), Custom::new(3, 300));
    for allocator in [&a, &b, &c] {
        scope.register(dynamic(allocator)).unwrap();
    }
    for allocator in [&a, &b, &c] {
        assert_eq!(scope.register(dynamic(allocator)), Err(IoasidError::Exists));
    }
    // Every one is there once: taking them out in turn activates the next in order.
    for (allocator, first) in [(&a, 100), (&b, 200), (&c, 300)] {
        let id = scope.alloc(SET, 0, 999, 0).unwrap();
        assert_eq!(id, first);
        scope.free(SET, id).unwrap();
        assert_eq!(scope.unregister(&dynamic(allocator)), 0);
    }
    assert_eq!(scope.alloc(SET, 1, 999, 0), Ok(1), "none left: the default");
}

#[test]
fn the_next_in_order_of_registration_becomes_active() {
    let scope = scope();
    let (a, b, c) = (Custom::new(1, 100), Custom::new(2, 200), Custom::new(1, 300));
    for allocator in [&a, &b, &c] {
        scope.register(dynamic(allocator)).unwrap();
    }
    assert_eq!(scope.unregister(&dynamic(&b)), 0, "it was not active");
    assert_eq!(scope.alloc(SET, 0, 999, 0), Ok(100));
    // c is of a's family and inherits, though nothing else stands between them.
    assert_eq!(scope.unregister(&dynamic(&a)), 0);
    assert_eq!(scope.alloc(SET, 0, 999, 0), Ok(300));
    assert_eq!(scope.used(), 2);
    assert_eq!(scope.unregister(&dynamic(&b)), 0, "unregistering a stranger does nothing");
}

#[test]
fn numbers_belong_to_a_set_and_carry_data() {
    let scope = scope();
    let id = scope.alloc(SET, 1, 10, 0xdead_beef).unwrap();
    assert_eq!(scope.find(id, Some(SET)), Ok(0xdead_beef));
    assert_eq!(scope.find(id, None), Ok(0xdead_beef));
    assert_eq!(scope.find(id, Some(Set(8))), Err(IoasidError::WrongSet(id)));
    assert_eq!(scope.find(id + 1, Some(SET)), Err(IoasidError::Unknown(id + 1)));
    assert_eq!(scope.find(u32::MAX, None), Err(IoasidError::Unknown(u32::MAX)));
    assert_eq!(scope.free(Set(8), id), Err(IoasidError::WrongSet(id)));
    scope.set_private(SET, id, 5).unwrap();
    assert_eq!(scope.find(id, Some(SET)), Ok(5));
    assert_eq!(scope.alloc(Set(1 << 31), 0, 1, 0), Err(IoasidError::Set));
}

#[test]
fn a_number_that_cannot_be_stored_goes_back_to_the_one_who_gave_it() {
    let scope = scope();
    // Beyond the scope, and then one that is in use.
    let beyond = Custom::new(1, 1024);
    scope.register(dynamic(&beyond)).unwrap();
    assert_eq!(scope.alloc(SET, 0, u32::MAX, 0), Err(IoasidError::Store(1024)));
    assert_eq!(*beyond.freed.lock().unwrap(), [1024]);
    assert_eq!(IoasidError::Store(1024).to_string(), "failed to store IOASID 1024");
    beyond.next.store(5, Ordering::SeqCst);
    assert_eq!(scope.alloc(SET, 0, 99, 0), Ok(5));
    beyond.next.store(5, Ordering::SeqCst);
    assert_eq!(scope.alloc(SET, 0, 99, 1), Err(IoasidError::Store(5)));
    assert_eq!(scope.find(5, Some(SET)), Ok(0), "the entry that was there is untouched");
    // Outside the bounds that were asked for.
    beyond.next.store(50, Ordering::SeqCst);
    assert_eq!(scope.alloc(SET, 0, 10, 0), Err(IoasidError::Store(50)));
    assert_eq!(scope.used(), 1);
}

#[test]
fn quotas_and_bounds_are_kept() {
    let scope = Scope::new(8, 3);
    for _ in 0..3 {
        scope.alloc(SET, 0, 100, 0).unwrap();
    }
    assert_eq!(scope.alloc(SET, 0, 100, 0), Err(IoasidError::Quota(3)));
    let scope = Scope::new(8, 100);
    for expected in 5..8 {
        assert_eq!(scope.alloc(SET, 5, 100, 0), Ok(expected));
    }
    assert_eq!(scope.alloc(SET, 5, 100, 0), Err(IoasidError::Exhausted(5, 100)));
    assert_eq!(Scope::new(0, 1).alloc(SET, 0, 0, 0), Err(IoasidError::Exhausted(0, 0)));
}

#[test]
fn a_find_never_needs_the_allocator_nor_its_lock() {
    let scope = scope();
    let custom = Custom::new(1, 100);
    let alive = custom.alive.clone();
    scope.register(dynamic(&custom)).unwrap();
    let id = scope.alloc(SET, 0, 999, 3).unwrap();
    let as_dynamic = dynamic(&custom);
    drop(custom);
    assert_eq!(scope.unregister(&as_dynamic), 1);
    drop(as_dynamic);
    assert!(!alive.load(Ordering::SeqCst), "nothing holds on to it");
    assert_eq!(scope.find(id, None), Err(IoasidError::Unknown(id)));
}

#[test]
fn finds_beside_every_kind_of_change_see_whole_entries_only() {
    let scope = scope();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for id in 0..16 {
                        match scope.find(id, Some(SET)) {
                            Ok(private) => assert_eq!(private & 0xffff, private >> 16),
                            Err(IoasidError::Unknown(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            });
        }
        for round in 0..2000u32 {
            let custom = Custom::new(1, round % 8);
            let id = if round % 2 == 0 {
                scope.register(dynamic(&custom)).unwrap();
                scope.alloc(SET, 0, 15, round | round << 16).unwrap()
            } else {
                scope.alloc(SET, 0, 15, round | round << 16).unwrap()
            };
            scope.set_private(SET, id, !round & 0xffff | (!round & 0xffff) << 16).unwrap();
            if round % 2 == 0 {
                assert_eq!(scope.unregister(&dynamic(&custom)), 1);
            } else {
                scope.free(SET, id).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!((scope.used(), scope.orphans()), (0, 1000));
}
