//! Does whatever a guest can do at random, on two cores, and steps over every fault: system
//! registers, emulated devices, PCI configuration space, addresses where nothing is, PSCI and
//! hypercalls. Where it has an SMMU and is told so (`smmu=N`), it makes N accesses to that one's
//! registers, queues and tables instead. Whatever it breaks must be its own.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use palisade_payloads::command::argument;
use palisade_payloads::memory::{Page, barrier};
use palisade_payloads::pattern::Random;
use palisade_payloads::platform::Platform;
use palisade_payloads::{console, payload, power, println, start, time};

payload!(main, second);

static SEED: AtomicU64 = AtomicU64::new(1);
static STOP: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// What is left to do to the SMMU.
static LEFT: AtomicU64 = AtomicU64::new(0);
/// Where its registers are.
static SMMU: AtomicU64 = AtomicU64::new(0);
/// Tables and queues of the SMMU, in whatever part.
static PAGES: [Page; 8] = [const { Page::new() }; 8];
/// Where instructions are made, one page per core.
static CODE: [Page; 2] = [const { Page::new() }; 2];

/// Emulated devices and places next to them: first address and size.
const PLACES: &[(u64, u64)] = &[
    (0x0800_0000, 0x1_0000),
    (0x0801_0000, 0x1_0000),
    (0x0808_0000, 0x2_0000),
    (0x080a_0000, 0x8_0000),
    (0x0900_0004, 0x0ffc),
    (0x40_1000_0000, 0x10_0000),
    (0x40_1000_0000, 0x1000_0000),
    (0x1000_0000, 0x2eff_0000),
];

fn main(platform: &Platform<'_>) {
    let seed = argument(platform.bootargs, "seed").unwrap_or(1);
    let seconds = argument(platform.bootargs, "seconds").unwrap_or(5);
    SEED.store(seed, Ordering::Relaxed);
    println!("# seed {seed}, {seconds} s");
    start::step_over_faults();
    let node = platform.fdt.find_compatible(&["arm,smmu-v3"]);
    let smmu = node.and_then(|node| Some(node.reg()?.next()?.starting_address as u64));
    if let (Some(base), Some(count)) = (smmu, argument(platform.bootargs, "smmu")) {
        SMMU.store(base, Ordering::Relaxed);
        LEFT.store(count, Ordering::Relaxed);
        println!("# second core: {}", start::second_core());
        let mut random = Random::new(seed);
        while smmu_round(&mut random) {}
        println!("ok smmu={count} faults={}", start::stepped());
        return;
    }
    println!("# second core: {}", start::second_core());
    // Read before anything can change it.
    let (begun, ticks) = (time::now(), time::frequency() * seconds);
    let mut random = Random::new(seed);
    while time::now().wrapping_sub(begun) < ticks {
        round(&mut random, &CODE[0]);
    }
    STOP.store(true, Ordering::Relaxed);
    console::set(0x0900_0000);
    let (rounds, faults) = (ROUNDS.load(Ordering::Relaxed), start::stepped());
    println!("ok rounds={rounds} faults={faults}");
}

fn second() {
    let mut random = Random::new(!SEED.load(Ordering::Relaxed));
    if SMMU.load(Ordering::Relaxed) != 0 {
        while smmu_round(&mut random) {}
        return;
    }
    while !STOP.load(Ordering::Relaxed) {
        round(&mut random, &CODE[1]);
    }
}

fn round(random: &mut Random, code: &Page) {
    ROUNDS.fetch_add(1, Ordering::Relaxed);
    match random.below(8) {
        0..3 => register(random, code),
        3..6 => device(random),
        6 => nowhere(random),
        _ => call(random),
    }
}

/// One system instruction: MRS, MSR, or one of the cache, TLB and address translation kind.
fn register(random: &mut Random, code: &Page) {
    const SYSTEM: u32 = 0xd500_0000;
    let bits = random.draw();
    let field = |shift: u32, width: u32| (bits >> shift) as u32 & ((1 << width) - 1);
    let (op0, op1, crn, crm, op2) =
        (1 + field(0, 8) % 3, field(8, 3), field(12, 4), field(16, 4), field(20, 3));
    let read = bits >> 63 == 1;
    let ours = match op0 {
        // What would only end this core's own day: MMU, stack, exception state, vectors.
        3 if !read => !(matches!(crn, 1 | 2 | 4 | 10) || crn == 12 && crm == 0),
        // Zeroing a block at a random address of our own.
        1 => !(crn == 7 && crm == 4) && matches!(crn, 7 | 8),
        _ => true,
    };
    if !ours || (op0 == 1 && read) {
        return;
    }
    let word =
        SYSTEM | u32::from(read) << 21 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5;
    run(code, word, random.draw());
}

/// Runs one instruction whose register is x0.
fn run(code: &Page, word: u32, value: u64) {
    const RET: u32 = 0xd65f_03c0;
    let at = code.address();
    // SAFETY: the page is this core's; what the instruction does, this payload is for. Nothing
    // but x0 and x30 changes by the two instructions; a fault is stepped over.
    unsafe {
        asm!(
            "str {word:w}, [{at}]",
            "str {ret:w}, [{at}, #4]",
            "dc cvau, {at}",
            "dsb ish",
            "ic ivau, {at}",
            "dsb ish",
            "isb",
            "blr {at}",
            "msr daifset, #0xf",
            word = in(reg) word,
            ret = in(reg) RET,
            at = in(reg) at,
            inout("x0") value => _,
            out("x30") _,
        );
    }
}

/// One access to an emulated device or next to it.
fn device(random: &mut Random) {
    let (base, size) = PLACES[random.below(PLACES.len() as u64) as usize];
    let mut offset = random.below(size);
    // Half of them where registers are.
    if random.below(2) == 0 {
        offset %= 0x1000.min(size);
    }
    access(random, base + offset);
}

/// One thing to do to the SMMU (IHI 0070); false when all is done.
fn smmu_round(random: &mut Random) -> bool {
    if LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    {
        return false;
    }
    let base = SMMU.load(Ordering::Relaxed);
    let page = PAGES[random.below(PAGES.len() as u64) as usize].address() as u64;
    // What a base register may hold: our memory, mostly, else whatever.
    let pointer = match random.below(8) {
        0 => random.draw(),
        1 => 0x0900_0000,
        _ => page,
    };
    let put = |at: u64, value: u64| {
        // SAFETY: inside one of our own pages, aligned.
        unsafe { asm!("str {0}, [{1}]", in(reg) value, in(reg) at) };
    };
    match random.below(12) {
        0 => put(page + random.below(512) * 8, random.draw()),
        1 | 2 => {
            const OPCODES: [u64; 16] = [
                0x01, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x2a, 0x30, 0x40, 0x44, 0x46,
                0x46, 0x46,
            ];
            let at = page + random.below(256) * 16;
            let stream = [8, 16, random.draw() >> 40][random.below(3) as usize];
            let opcode = OPCODES[random.below(16) as usize];
            put(at, opcode | stream << 32 | random.below(4) << 12 | (random.draw() & 0xf_0000));
            let second = [31, pointer, random.draw() & 0x3ff, random.draw()];
            put(at + 8, second[random.below(4) as usize]);
        }
        3 => {
            // An entry, or a descriptor of a second level, for the stream that we have.
            let at = page + [0, 8 * 64, 9 * 64][random.below(3) as usize];
            put(at + 8, random.draw());
            put(at, 1 | random.below(8) << 1 | pointer & !0x3f | random.below(16) << 59);
        }
        4 => access_at(base + 0x80, pointer & !0x3f | random.below(2) << 62, true),
        5 => access_at(base + 0x88, random.below(3) << 16 | random.draw() & 0x7ff, false),
        6 => access_at(base + 0x90, pointer & !0x1f | random.below(32), true),
        7 => access_at(base + 0xa0, pointer & !0x1f | random.below(32), true),
        8 => {
            let words = [0, 8, 0xc, 0xd, 0xd, random.draw()];
            access_at(base + 0x20, words[random.below(6) as usize], false);
        }
        9 => access_at(base + 0x98, random.draw() & 0x1ff, false),
        10 => {
            let offsets = [0x9c, 0x50, 0x64, 0x44, 0x1_00a8, 0x1_00ac, 0x68, 0xb0];
            let offset = offsets[random.below(8) as usize];
            access_at(base + offset, random.draw(), random.below(2) == 0);
        }
        _ => {
            let offset = random.below(0x2_0000);
            access(random, base + offset);
        }
    }
    true
}

fn access_at(address: u64, value: u64, wide: bool) {
    // SAFETY: a register; a fault is stepped over.
    unsafe {
        match wide {
            true => asm!("str {0}, [{1}]", in(reg) value, in(reg) address),
            false => asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address),
        }
    }
}

/// One access to an address where nothing may be.
fn nowhere(random: &mut Random) {
    let address = match random.below(3) {
        0 => random.draw() & 0x3fff_ffff,
        1 => (random.draw() & 0x3f_ffff_ffff) | 0x1_0000_0000,
        _ => random.draw() & 0x7f_ffff_ffff | 0x50_0000_0000,
    };
    // The UART's data register: whoever reads our console need not read that.
    if address & !3 != 0x0900_0000 {
        access(random, address);
    }
}

fn access(random: &mut Random, address: u64) {
    let (kind, value) = (random.below(10), random.draw());
    // SAFETY: no address here is memory of ours; a fault is stepped over.
    unsafe {
        match kind {
            0 => asm!("ldrb {0:w}, [{1}]", out(reg) _, in(reg) address),
            1 => asm!("ldrh {0:w}, [{1}]", out(reg) _, in(reg) address),
            2 => asm!("ldr {0:w}, [{1}]", out(reg) _, in(reg) address),
            3 => asm!("ldr {0}, [{1}]", out(reg) _, in(reg) address),
            4 => asm!("strb {0:w}, [{1}]", in(reg) value, in(reg) address),
            5 => asm!("strh {0:w}, [{1}]", in(reg) value, in(reg) address),
            6 => asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address),
            7 => asm!("str {0}, [{1}]", in(reg) value, in(reg) address),
            8 => asm!("ldp {0}, {2}, [{1}]", out(reg) _, in(reg) address & !7, out(reg) _),
            _ => asm!("ldxr {0}, [{1}]", out(reg) _, in(reg) address & !7),
        }
    }
    barrier();
}

/// One call to whoever answers: PSCI, SMCCC, the hypervisor's own, or nonsense.
fn call(random: &mut Random) {
    let function = match random.below(4) {
        0 => 0x8400_0000 | random.below(0x20),
        1 => 0xc400_0000 | random.below(0x20),
        2 => (0x8600_0000 | random.draw() & 0x4000_ffff) | random.below(64),
        _ => random.draw(),
    };
    // Suspending, switching off and resetting would end the game.
    if matches!(
        function & 0xbfff_ffff,
        0x8400_0001 | 0x8400_0002 | 0x8400_0008 | 0x8400_0009 | 0x8400_000c
            ..=0x8400_000e | 0x8400_0012
    ) {
        return;
    }
    let argument = |random: &mut Random| match random.below(4) {
        0 => random.below(4),
        1 => 0x4000_0000 | random.draw() & 0xf_ffff,
        2 => !0,
        _ => random.draw(),
    };
    let arguments = [argument(random), argument(random), argument(random)];
    if random.below(4) == 0 {
        // SAFETY: an SMC from a guest is refused; SMCCC 1.1 preserves x4 and up.
        unsafe {
            let [a, b, c] = arguments;
            asm!("smc #0", inout("x0") function => _, inout("x1") a => _, inout("x2") b => _,
                 inout("x3") c => _);
        }
    } else {
        let _ = power::call(function, arguments);
    }
}
