//! What the frame allocator promises.
//!
//! 1. Every frame is somewhere: the footprint always sums to the same total.
//! 2. An exposed block cannot be freed; it is released against a proof only.
//! 3. A proof of another scope, of too few agents, or begun before the detaching
//!    releases nothing.
//! 4. A dropped `Detached` is leaked and counted, never reused.
//! 5. Released memory is wiped.
//! 6. Words and copies reach only frames of the stated use and owner.
//! 7. What its tables still map, and their roots, wait for the closing of their space.
//! 8. What is set aside is taken by its holder alone, and comes back to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_hal::PhysAddr;
use palisade_mem::{
    Arena, Footprint, FrameError, FrameTables, Frames, Mapped, Owner, Proof, Reserve, Scope, Space,
    TableMemory, Use,
};

const BASE: PhysAddr = PhysAddr::new(0x8000_0000);
const VM: Owner = Owner::vm(3);

fn frames(arena: &Arena) -> Arc<Frames> {
    Frames::new(arena.map(), &[arena.range()]).unwrap()
}

fn total(f: Footprint) -> u64 {
    f.free + f.private + f.table + f.guest + f.dma + f.detached + f.quarantined
}

#[test]
fn footprint_sums_and_returns() {
    let arena = Arena::new(BASE, 1024);
    let frames = frames(&arena);
    let before = frames.footprint();
    let blocks: Vec<_> = (0..5).map(|o| frames.alloc(o, Use::Table, VM).unwrap()).collect();
    for block in &blocks {
        assert!(block.start().is_aligned(block.bytes()), "naturally aligned");
        assert_eq!(total(frames.footprint()), total(before));
    }
    for block in blocks {
        frames.free(block).unwrap();
    }
    assert_eq!(frames.footprint(), before);
    // All of it is still there as one block: the singles were merged back.
    let mut all = Vec::new();
    while let Ok(block) = frames.alloc(0, Use::Guest, VM) {
        all.push(block);
    }
    assert_eq!(frames.footprint().free, 0);
    for block in all {
        frames.free(block).unwrap();
    }
    let big = frames.alloc(9, Use::Guest, VM).expect("512 frames in one block");
    frames.free(big).unwrap();
}

#[test]
fn exposed_needs_a_proof_of_scope_agents_and_epoch() {
    let arena = Arena::new(BASE, 256);
    let frames = frames(&arena);
    let (cpu, smmu) =
        (frames.register_agent("cpu").unwrap(), frames.register_agent("smmu").unwrap());
    let scope = Scope::new(7);
    let block = frames.alloc(1, Use::Guest, VM).unwrap();
    let at = block.start();
    frames.expose(&block);
    let (error, block) = frames.free(block).unwrap_err();
    assert_eq!(error, FrameError::Exposed(at));

    let early = (cpu.begin(scope), smmu.begin(scope));
    let detached = frames.detach(block, scope, cpu.set().with(smmu.set()));
    assert_eq!(frames.tag(at).unwrap().usage(), Use::Detached);

    let old_word = early.0.complete();
    let old = Proof::new(scope).with(old_word).with(early.1.complete());
    let detached = frames.release(detached, &old).expect_err("begun before").0;
    let half = Proof::new(scope).with(old_word).with(smmu.begin(scope).complete());
    let detached = frames.release(detached, &half).expect_err("one word is too old").0;
    let part = Proof::new(scope).with(cpu.begin(scope).complete());
    let detached = frames.release(detached, &part).expect_err("one agent missing").0;
    let other = Scope::new(8);
    let wrong =
        Proof::new(other).with(cpu.begin(other).complete()).with(smmu.begin(other).complete());
    let detached = frames.release(detached, &wrong).expect_err("another scope").0;
    let good =
        Proof::new(scope).with(cpu.begin(scope).complete()).with(smmu.begin(scope).complete());
    frames.release(detached, &good).unwrap();
    assert_eq!(frames.tag(at).unwrap().usage(), Use::Free);
}

#[test]
fn a_proof_from_another_allocator_releases_nothing() {
    let (one, two) = (Arena::new(BASE, 64), Arena::new(BASE, 64));
    let (mine, theirs) = (frames(&one), frames(&two));
    let (agent, stranger) =
        (mine.register_agent("a").unwrap(), theirs.register_agent("b").unwrap());
    let scope = Scope::new(1);
    let block = mine.alloc(0, Use::Table, VM).unwrap();
    let detached = mine.detach(block, scope, agent.set());
    let block = theirs.alloc(0, Use::Table, VM).unwrap();
    let also = theirs.detach(block, scope, stranger.set());
    let proof = Proof::new(scope).with(stranger.begin(scope).complete());
    theirs.release(also, &proof).unwrap();
    let kept = mine.release(detached, &proof).expect_err("a stranger's word").0;
    mine.quarantine(kept);
    assert_eq!(mine.footprint().quarantined, 1);
}

#[test]
fn dropped_detached_frames_leak_and_are_counted() {
    let arena = Arena::new(BASE, 64);
    let frames = frames(&arena);
    let agent = frames.register_agent("smmu").unwrap();
    let block = frames.alloc(2, Use::Guest, VM).unwrap();
    drop(frames.detach(block, Scope::new(1), agent.set()));
    let footprint = frames.footprint();
    assert_eq!((footprint.leaked, footprint.detached), (4, 4));
}

#[test]
fn a_list_of_detached_blocks_is_released_whole_and_wiped() {
    let arena = Arena::new(BASE, 256);
    let frames = frames(&arena);
    let agent = frames.register_agent("smmu").unwrap();
    let scope = Scope::new(1);
    let before = frames.footprint();
    let mut list = None;
    let mut places = Vec::new();
    for order in [0, 3, 0, 1] {
        let block = frames.alloc_zeroed(order, Use::Guest, VM).unwrap();
        places.push(block.start());
        frames.copy_to_guest(block.start(), b"secret of a guest", VM).unwrap();
        match &mut list {
            None => list = Some(frames.detach(block, scope, agent.set())),
            Some(list) => frames.detach_onto(list, block),
        }
    }
    let list = list.unwrap();
    assert_eq!(list.frames(), 1 + 8 + 1 + 2);
    frames.release(list, &Proof::new(scope).with(agent.begin(scope).complete())).unwrap();
    assert_eq!(frames.footprint(), before);
    // Take everything again and look for the secret.
    while let Ok(block) = frames.alloc(0, Use::Guest, VM) {
        if places.contains(&block.start()) {
            let words = frames.words(block.start(), 512, Use::Guest, VM).unwrap();
            assert!(words.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        }
    }
}

#[test]
fn words_and_copies_check_use_and_owner() {
    let arena = Arena::new(BASE, 64);
    let frames = frames(&arena);
    let guest = frames.alloc_zeroed(1, Use::Guest, VM).unwrap();
    let pa = guest.start();
    assert!(frames.words(pa, 1024, Use::Guest, VM).is_some());
    assert!(frames.words(pa, 1025, Use::Guest, VM).is_none(), "past the block");
    assert!(frames.words(pa, 1, Use::Table, VM).is_none());
    assert!(frames.words(pa, 1, Use::Guest, Owner::vm(4)).is_none());
    assert!(frames.words(PhysAddr::new(pa.get() + 4), 1, Use::Guest, VM).is_none(), "unaligned");
    let text: Vec<u8> = (0..100).collect();
    let odd = PhysAddr::new(pa.get() + 4096 - 51);
    frames.copy_to_guest(odd, &text, VM).unwrap();
    let mut back = [0; 100];
    frames.copy_from_guest(odd, &mut back, VM).unwrap();
    assert_eq!(&back[..], &text[..]);
    let end = PhysAddr::new(pa.get() + 8192 - 50);
    assert!(frames.copy_from_guest(end, &mut back, VM).is_err(), "runs out of the block");
    assert!(frames.copy_to_guest(PhysAddr::new(u64::MAX - 3), &text, VM).is_err(), "wraps");
}

#[test]
fn exhaustion_is_an_error_and_changes_nothing() {
    let arena = Arena::new(BASE, 16);
    let frames = frames(&arena);
    let before = frames.footprint();
    assert!(matches!(frames.alloc(12, Use::Guest, VM), Err(FrameError::OutOfMemory { order: 12 })));
    assert!(matches!(frames.alloc(255, Use::Guest, VM), Err(FrameError::OutOfMemory { .. })));
    assert_eq!(frames.footprint(), before);
}

#[test]
fn what_is_mapped_to_the_end_waits_for_the_closing_of_its_space() {
    let arena = Arena::new(BASE, 256);
    let frames = frames(&arena);
    let cpus = frames.register_agent("cpus").unwrap();
    let before = frames.footprint();
    let (space, other) = (Space::open(), Space::open());
    let scope = space.scope();
    assert_ne!(scope, other.scope());
    let tables = FrameTables::in_space(frames.clone(), VM, &space, cpus.set());
    let root = tables.alloc::<[AtomicU64; 512]>(2).unwrap();
    let lower = tables.alloc::<[AtomicU64; 512]>(1).unwrap();
    for at in [root, lower] {
        tables.table::<[AtomicU64; 512]>(at).unwrap().expose();
    }
    let mut ram = Mapped::new(frames.clone(), scope);
    for order in [0, 2] {
        ram.push(frames.alloc_zeroed(order, Use::Guest, VM).unwrap()).unwrap();
    }
    assert_eq!(frames.footprint().guest, 5);

    let proof = || Proof::new(scope).with(cpus.begin(scope).complete());
    // A table that was unlinked from a tree that lives on needs no closing.
    let mut unlinked = None;
    tables.retire(lower, &mut unlinked);
    frames.release(unlinked.unwrap(), &proof()).unwrap();

    let ram = ram.detach(cpus.set()).unwrap();
    let mut roots = None;
    tables.retire_root(root, &mut roots);
    let ram = frames.release(ram, &proof()).expect_err("the space is open").0;
    let mut wrong = proof();
    wrong.close(&other.close());
    let ram = frames.release(ram, &wrong).expect_err("another space was closed").0;
    let roots = frames.release(roots.unwrap(), &wrong).expect_err("roots too").0;
    let closed = space.close();
    let mut nobody = Proof::new(scope);
    nobody.close(&closed);
    let ram = frames.release(ram, &nobody).expect_err("no agent's word").0;
    let mut good = proof();
    good.close(&closed);
    assert_eq!(frames.release_or_quarantine(ram, Some(&good)), 0);
    assert_eq!(frames.release_or_quarantine(roots, Some(&good)), 0);
    assert_eq!(frames.footprint(), before);
}

#[test]
fn what_cannot_be_released_is_quarantined_and_counted() {
    let arena = Arena::new(BASE, 64);
    let frames = frames(&arena);
    let agent = frames.register_agent("smmu").unwrap();
    let scope = Scope::new(1);
    let take = |order| {
        let block = frames.alloc(order, Use::Guest, VM).unwrap();
        frames.detach(block, scope, agent.set())
    };
    assert_eq!(frames.release_or_quarantine(take(1), None), 2);
    let late = agent.begin(scope);
    assert_eq!(
        frames.release_or_quarantine(take(2), Some(&Proof::new(scope).with(late.complete()))),
        4
    );
    assert_eq!(frames.footprint().quarantined, 6);
    let proof = |list| {
        let proof = Proof::new(scope).with(agent.begin(scope).complete());
        frames.release_or_quarantine(list, Some(&proof))
    };
    assert_eq!(proof(take(3)), 0);
    let footprint = frames.footprint();
    assert_eq!((footprint.quarantined, footprint.detached, footprint.leaked), (6, 0, 0));
}

#[test]
fn what_is_set_aside_is_its_holders_alone() {
    let arena = Arena::new(BASE, 64);
    let frames = frames(&arena);
    let free = frames.available();
    let reserve = Reserve::new(frames.clone());
    let refused = FrameError::TooFew { wanted: free + 1, available: free };
    assert_eq!(reserve.grow(free + 1), Err(refused));
    reserve.grow(4).unwrap();
    reserve.grow(2).unwrap();
    assert_eq!((reserve.left(), frames.available()), (6, free - 6));
    assert_eq!(frames.footprint().free, free, "free all the same");
    // All the rest is used up by others, also in blocks.
    let take = |_| frames.alloc(0, Use::Private, Owner::HYPERVISOR).ok();
    let mut rest: Vec<_> = (0..).map_while(take).collect();
    assert_eq!(rest.len() as u64, free - 6);
    assert_eq!(frames.alloc(1, Use::Guest, VM), Err(FrameError::OutOfMemory { order: 1 }));

    let agent = frames.register_agent("cpus").unwrap();
    let scope = Scope::new(1);
    let shared = Arc::new(reserve);
    let tables = FrameTables::new(frames.clone(), VM, scope, agent.set());
    let tables = tables.from_reserve(shared.clone());
    type T = [AtomicU64; 512];
    let table = || tables.alloc::<T>(1);
    let all: Vec<_> = (0..6).map(|_| table().unwrap()).collect();
    assert_eq!((table(), shared.left()), (None, 0), "used up");
    // Back by every way: never linked, unlinked one by one, unlinked in a row.
    tables.discard(all[0]);
    let mut list = None;
    for &at in &all[1..] {
        tables.table::<T>(at).unwrap().expose();
    }
    tables.retire(all[1], &mut list);
    assert_eq!(tables.retire_full::<T>(4, 0, |nth| all[2 + nth], |_| {}, &mut list), 4);
    assert_eq!(shared.left(), 6);
    let proof = Proof::new(scope).with(agent.begin(scope).complete());
    frames.release(list.unwrap(), &proof).unwrap();
    assert_eq!(frames.available(), 0, "they are free again, and set aside");
    assert!(table().is_some());
    drop((tables, shared));
    assert_eq!(frames.available(), 5, "set free with their holder");
    rest.extend((0..5).map(|_| frames.alloc(0, Use::Private, VM).unwrap()));
    rest.into_iter().for_each(|block| frames.free(block).unwrap());
}
