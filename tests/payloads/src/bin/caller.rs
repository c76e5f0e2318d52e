//! Calls the hypervisor's interface 100,000 times with random arguments, from two cores at once,
//! while its device tries every address and its own memory changes under the calls. Whatever it
//! breaks must be its own.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use palisade_abi::{BindFlags, Status, call};
use palisade_payloads::command::argument;
use palisade_payloads::edu::{Edu, IDENTITY};
use palisade_payloads::hypercall;
use palisade_payloads::memory::{Page, write64};
use palisade_payloads::pattern::Random;
use palisade_payloads::pci::Bus;
use palisade_payloads::platform::Platform;
use palisade_payloads::stage1::{BASE, MAIR, Space, TCR};
use palisade_payloads::{payload, println, start, time};

payload!(main, second);

/// What the manifest calls our device: 00:01.0.
const DEVICE: u64 = 8;
/// Calls of each core.
const CALLS: u64 = 50_000;

static SEED: AtomicU64 = AtomicU64::new(1);
static DONE: AtomicBool = AtomicBool::new(false);
static SPACES: [Space; 4] = [const { Space::new() }; 4];
/// What structures are read from, and what changes all the time.
static SCRATCH: [Page; 4] = [const { Page::new() }; 4];
/// Given up again and again.
static SPARE: Page = Page::new();

fn main(platform: &Platform<'_>) {
    let seed = argument(platform.bootargs, "seed").unwrap_or(1);
    SEED.store(seed, Ordering::Relaxed);
    let edu = Bus::open(platform).and_then(|mut bus| {
        let (device, _) = bus.find(|info| (info.vendor_id, info.device_id) == IDENTITY)?;
        bus.enable(device).map(Edu::new)
    });
    for space in &SPACES {
        space.tie();
        space.set(BASE, Some(SCRATCH[0].address() as u64));
    }
    println!("# edu {}, interface {}", edu.is_some(), hypercall::present());
    println!("# second core: {}", start::second_core());
    let well = storm(&mut Random::new(seed), edu);
    while !DONE.load(Ordering::Acquire) {
        time::pause(1000);
    }
    println!("ok calls={} successes={well}", 2 * CALLS);
}

fn second() {
    let seed = SEED.load(Ordering::Relaxed);
    storm(&mut Random::new(!seed), None);
    DONE.store(true, Ordering::Release);
}

/// One core's calls; answers how many succeeded.
fn storm(random: &mut Random, edu: Option<Edu>) -> u64 {
    let mut well = 0;
    for n in 0..CALLS {
        let page = &SCRATCH[random.below(4) as usize];
        let at = page.address() + 8 * random.below(512) as usize;
        // SAFETY: inside our own pages, aligned; nobody minds what stands there.
        unsafe { write64(at, word(random)) };
        if let (Some(edu), true) = (edu, n % 64 == 0) {
            edu.arm(BASE + (random.draw() & 0x1f_f000), 64);
        }
        let function = call::BASE + random.below(u64::from(call::CALLS) + 1) as u32;
        if let (Status::Success, _) = hypercall::call(function, arguments(random, function)) {
            well += 1;
        }
    }
    well
}

/// A word that may stand in a structure: an entry, a command, a record, or nonsense.
fn word(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 1 | random.below(8) << 1 | SCRATCH[1].address() as u64,
        1 => [0x05, 0x06, 0x10, 0x11, 0x12, 0x30][random.below(6) as usize] | DEVICE << 32,
        2 => SPACES[random.below(4) as usize].root(),
        3 => 1 + random.below(4),
        4 => 0,
        _ => random.draw(),
    }
}

fn arguments(random: &mut Random, function: u32) -> [u64; 6] {
    if random.below(3) == 0 {
        return [(); 6].map(|()| match random.below(5) {
            0 => DEVICE,
            1 => random.below(16),
            2 => 0x4000_0000 + (random.draw() & 0x1f_ffff),
            3 => !0,
            _ => random.draw(),
        });
    }
    let space = random.below(4);
    let page = SCRATCH[random.below(4) as usize].address() as u64;
    match function {
        call::BIND => {
            let root = SPACES[space as usize].root();
            let flags = BindFlags::REBIND * random.below(2);
            [DEVICE, 0, root, TCR, MAIR, (space + 1) | flags]
        }
        call::INVALIDATE => [space + 1, BASE, BASE + 0x1000 * random.below(8), 0, 0, 0],
        call::INVALIDATE_BATCH => [page, random.below(70), 0, 0, 0, 0],
        call::EXIT => [space + 1, 0, 0, 0, 0, 0],
        call::FAULT_RING => [page, 4096 * random.below(2), 0, 0, 0, 0],
        call::CONTEXTS_ENABLE => [DEVICE, 0, 2, 0, 0, 0],
        call::STREAM_ENTRY => [DEVICE, page, 0, 0, 0, 0],
        call::COMMANDS => [DEVICE, page, random.below(66), 0, 0, 0],
        call::GIVE_UP => [SPARE.address() as u64, 4096, 0, 0, 0, 0],
        _ => [DEVICE, 0, random.below(3), 0, 0, 0],
    }
}
