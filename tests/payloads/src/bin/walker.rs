//! Walks all of its memory, then tries what stage 2 must refuse: writes to its read-only page and
//! accesses beside its memory.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_payloads::command::argument;
use palisade_payloads::memory::{barrier, read64, write64};
use palisade_payloads::pattern::word;
use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, println, start};

payload!(main);

const PAGE: usize = 4096;
/// What lies below belongs to the image, its stack and the device tree's slack.
const OURS: usize = 1 << 20;
/// The device tree lies at the memory's end or after the image; it was read before.
const SEED: u64 = 0x3a1c;

fn main(platform: &Platform<'_>) {
    let (base, size) = platform.ram;
    let readonly = argument(platform.bootargs, "readonly").map(|at| at as usize);
    let pages = || (base + OURS..base + size).step_by(PAGE).filter(move |at| Some(*at) != readonly);
    start::step_over_faults();
    for at in pages() {
        // SAFETY: memory of ours that holds nothing any more.
        unsafe { write64(at, word(SEED, at as u64)) };
    }
    // SAFETY: as above.
    let wrong = pages().filter(|at| unsafe { read64(*at) } != word(SEED, *at as u64)).count();
    let faults = start::stepped();
    println!("# {} pages, {wrong} wrong, {faults} faults", pages().count());
    if wrong != 0 || faults != 0 {
        println!("err memory");
        return;
    }
    if let Some(at) = readonly {
        // SAFETY: a fault is wanted.
        let (before, faults) = (unsafe { read64(at) }, start::stepped());
        println!("# read-only page holds {before:#x}, {faults} faults");
        // SAFETY: a fault is wanted.
        unsafe { write64(at, !before) };
        barrier();
        // SAFETY: as the first.
        let after = unsafe { read64(at) };
        if faults != 0 || start::stepped() != 1 || after != before {
            println!("err the read-only page: {after:#x}, {} faults", start::stepped());
            return;
        }
    }
    let before = start::stepped();
    let places = [base + size, base - PAGE, 0x30_0000_0000, 0x4000_0000 + (1 << 37), 0x1000];
    for at in places {
        // SAFETY: a fault is wanted.
        unsafe {
            write64(at, 1);
            read64(at);
        }
        barrier();
    }
    match start::stepped() - before {
        10 => println!("ok pages={}", pages().count()),
        faults => println!("err beside the memory: {faults} faults of 10"),
    }
}
