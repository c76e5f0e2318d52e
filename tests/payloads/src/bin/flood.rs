//! Makes 64 interrupts pending at once, many more than there are list registers, and takes them.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_payloads::gic::Gic;
use palisade_payloads::platform::Platform;
use palisade_payloads::{payload, println, time};

payload!(main);

/// The first of them: shared interrupts that no device has.
const FIRST: u32 = 128;
const COUNT: u32 = 64;
/// How long the next one may take.
const PATIENCE_MS: u64 = 2_000;

/// All over the place, each twice or thrice. 0xf8 is none of them: the open mask hides it where
/// there are five bits of priority (IHI 0069, 4.8.6).
const fn priority(intid: u32) -> u8 {
    ((intid - FIRST) * 37 % 31 * 8) as u8
}

fn main(platform: &Platform<'_>) {
    match Gic::open(&platform.fdt) {
        Some(gic) => flood(gic),
        None => println!("err no controller"),
    }
}

fn next(gic: Gic, millis: u64) -> Option<u32> {
    let begin = time::now();
    while !time::passed(begin, millis) {
        if let Some(intid) = gic.acknowledge() {
            gic.end(intid);
            return Some(intid);
        }
    }
    None
}

fn flood(gic: Gic) {
    for intid in FIRST..FIRST + COUNT {
        gic.enable(intid);
        gic.prioritise(intid, priority(intid));
    }
    for word in FIRST / 32..(FIRST + COUNT) / 32 {
        gic.pend(word as usize, !0);
    }
    let (mut seen, mut last, mut disorder) = (0u64, 0, 0);
    for taken in 0..COUNT {
        let Some(intid) = next(gic, PATIENCE_MS) else {
            return println!("err nothing comes after {taken}");
        };
        let index = intid.wrapping_sub(FIRST);
        if index >= COUNT || seen >> index & 1 != 0 {
            return println!("err {intid} came unasked after {taken}");
        }
        seen |= 1 << index;
        disorder += u32::from(priority(intid) < last);
        last = priority(intid);
    }
    match next(gic, 50) {
        Some(intid) => println!("err {intid} came after all"),
        None => println!("took {COUNT}, each once, {disorder} out of order"),
    }
}
