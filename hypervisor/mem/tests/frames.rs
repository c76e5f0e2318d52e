//! What the frame allocator promises.
//!
//! 1. Every frame is somewhere: the footprint always sums to the same total.
//! 2. An exposed block cannot be freed; it is released against a proof only.
//! 3. A proof of another scope, of too few agents, or begun before the detaching
//!    releases nothing.
//! 4. A dropped `Detached` is leaked and counted, never reused.
//! 5. Released memory is wiped.
//! 6. Words and copies reach only frames of the stated use and owner.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use palisade_hal::PhysAddr;
use palisade_mem::{Arena, Footprint, FrameError, Frames, Owner, Proof, Scope, Use};

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
