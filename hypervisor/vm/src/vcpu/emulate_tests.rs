//! Accesses of devices that the core did not decode.
extern crate std;

use alloc::{sync::Arc, vec::Vec};

use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{
    Ipa,
    fake::guest::{script, set_id_register, set_page_translation, set_translation},
    guest::{El1, Exit, GuestContext, read_el1, write_el1},
};

use super::{Outcome, tests::*};
use crate::mmio::{Access, MmioDevice, Width};

/// Where the device is, and where the guest has mapped it.
const DEVICE: u64 = 0x3000_0000;
const BYTES: u64 = 0x1020;
const VIRTUAL: u64 = 0xffff_8000_0000_0000;

/// Reads its own offset with the top bit of the access set; keeps what is written.
struct Recorder(Mutex<Vec<(u64, Width, Option<u64>)>>);

impl MmioDevice for Recorder {
    fn read(&self, access: Access) -> u64 {
        self.0.lock().push((access.offset, access.width, None));
        access.offset | 1 << (8 * access.width.bytes() - 1)
    }
    fn write(&self, access: Access, value: u64) {
        self.0.lock().push((access.offset, access.width, Some(value)));
    }
}

/// A data abort of the access to the device's byte `offset`, without syndrome.
fn stopped(offset: u64, write: bool) -> Exit {
    let mut exit = sync(0x24, u64::from(write) << 6 | 0b000111);
    exit.far = VIRTUAL + offset;
    exit.hpfar = (DEVICE + offset) >> 12 << 4;
    exit
}

/// What a guest that executes `word` comes to: the accesses, and its registers afterwards.
fn execute(
    word: u32,
    before: impl FnOnce(&mut GuestContext) -> Exit + 'static,
) -> (Vec<(u64, Width, Option<u64>)>, GuestContext) {
    let mut m = machine(1);
    let (host, device) = (TestHost::new(), Arc::new(Recorder(Mutex::new(Rank::Fake, Vec::new()))));
    m.vm.add_device(Ipa::new(DEVICE), BYTES, device.clone()).unwrap();
    assert!(m.vm.memory().write(Ipa::new(ENTRY), &word.to_le_bytes()));
    // Attributes above the address, as PAR_EL1 has them.
    set_translation(0xff << 56 | 1 << 11 | ENTRY);
    let after = Arc::new(Mutex::new(Rank::Fake, None));
    let kept = after.clone();
    script(before);
    script(move |context| {
        *kept.lock() = Some(context.clone());
        context.set(0, 0x8400_0008);
        sync(0x16, 0)
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    let accesses = device.0.lock().clone();
    let context = after.lock().take().unwrap();
    (accesses, context)
}

#[test]
fn a_store_with_write_back_reaches_the_device() {
    // str w3, [x2], #4
    let (accesses, after) = execute(0xb800_4443, |context| {
        context.set(2, VIRTUAL + 0x80);
        context.set(3, 0x1_2345_6789);
        context.spsr |= 1 << 21;
        stopped(0x80, true)
    });
    assert_eq!(accesses, [(0x80, Width::Bits32, Some(0x2345_6789))]);
    assert_eq!(after.get(2), VIRTUAL + 0x84);
    assert_eq!((after.elr, after.spsr), (ENTRY + 4, GuestContext::SPSR_START));
    // str w3, [x2, #-4]!
    let (accesses, after) = execute(0xb81f_cc43, |context| {
        context.set(2, VIRTUAL + 0x84);
        stopped(0x80, true)
    });
    assert_eq!(accesses, [(0x80, Width::Bits32, Some(0))]);
    assert_eq!(after.get(2), VIRTUAL + 0x80);
}

/// HPFAR_EL2 does not say where a permission fault was: the guest's own tables do.
#[test]
fn a_store_to_read_only_memory_is_for_the_device_behind_it() {
    let (accesses, after) = execute(0xd503_201f, |context| {
        set_translation(0xff << 56 | 1 << 11 | DEVICE);
        context.set(3, 7);
        // A word from x3, permission fault of level 3.
        let mut exit = sync(0x24, 1 << 24 | 2 << 22 | 3 << 16 | 1 << 6 | 0b001111);
        (exit.far, exit.hpfar) = (VIRTUAL + 0x80, 0xdead_0000);
        exit
    });
    assert_eq!(accesses, [(0x80, Width::Bits32, Some(7))]);
    assert_eq!(after.elr, ENTRY + 4);
    // Where there is none it is an abort, and so is a load that is not allowed.
    for (page, write) in [(DEVICE + 0x10_0000, 1), (DEVICE, 0)] {
        let (accesses, after) = execute(0xd503_201f, move |_| {
            set_translation(1 << 11 | page);
            let mut exit = sync(0x24, 1 << 24 | 2 << 22 | write << 6 | 0b001111);
            (exit.far, exit.hpfar) = (VIRTUAL + 0x80, DEVICE >> 8);
            exit
        });
        assert_eq!(accesses, []);
        assert_ne!(after.elr, ENTRY + 4);
    }
}

/// Firmware copies its variables so: the second half is where the guest's tables say.
#[test]
fn a_pair_across_a_page_is_where_both_pages_are() {
    // ldp x12, x13, [x1, #64]!
    let pair = |second: u64| {
        execute(0xa9c4_342c, move |context| {
            set_page_translation(VIRTUAL + 0x1000, 1 << 11 | second);
            context.set(1, VIRTUAL + 0xff8 - 64);
            stopped(0xff8, false)
        })
    };
    let (accesses, after) = pair(DEVICE + 0x1000);
    let wide = |offset| (offset, Width::Bits64, None);
    assert_eq!(accesses, [wide(0xff8), wide(0x1000)]);
    assert_eq!((after.get(12), after.get(13)), (1 << 63 | 0xff8, 1 << 63 | 0x1000));
    assert_eq!(after.elr, ENTRY + 4);
    // Not the page behind the first, and nothing there: neither half is carried out.
    let (accesses, after) = pair(DEVICE + 0x10_0000);
    assert_eq!(accesses, []);
    assert_ne!(after.elr, ENTRY + 4);
}

#[test]
fn a_load_extends_as_it_says() {
    for (word, width, value) in [
        (0x7880_2d07u32, Width::Bits16, 0xffff_ffff_ffff_8082u64), // ldrsh x7, [x8, #2]!
        (0x38c0_1507, Width::Bits8, 0xffff_ff80),                  // ldrsb w7, [x8], #1
        (0x7840_2507, Width::Bits16, 0x8080),                      // ldrh w7, [x8], #2
        (0xf840_8507, Width::Bits64, 1 << 63 | 0x80),              // ldr x7, [x8], #8
    ] {
        let at = if word == 0x7880_2d07 { 0x82 } else { 0x80 };
        let (accesses, after) = execute(word, move |context| {
            context.set(8, VIRTUAL + 0x80);
            context.set(7, !0);
            stopped(at, false)
        });
        assert_eq!(accesses, [(at, width, None)], "{word:#x}");
        assert_eq!(after.get(7), value, "{word:#x}");
    }
}

#[test]
fn a_pair_is_two_accesses() {
    // ldp w1, w2, [x3, #252], and ldpsw x1, x2, [x3, #-256]
    for (word, base, top) in [(0x295f_8861u32, 4, 0u64), (0x6960_0861, 0x200, !0 << 32)] {
        let (accesses, after) = execute(word, move |context| {
            context.set(3, VIRTUAL + base);
            stopped(0x100, false)
        });
        assert_eq!(accesses, [(0x100, Width::Bits32, None), (0x104, Width::Bits32, None)]);
        assert_eq!(after.get(1), top | 0x8000_0100);
        assert_eq!((after.get(2), after.get(3)), (top | 0x8000_0104, VIRTUAL + base));
    }
    // stp x1, x2, [sp, #-16]!, stopped at its second half: both are made.
    let (accesses, _) = execute(0xa9bf_0be1, |context| {
        context.set(1, 5);
        context.set(2, 6);
        write_el1(El1::Sp, VIRTUAL + 0x110);
        stopped(0x108, true)
    });
    assert_eq!(accesses, [(0x100, Width::Bits64, Some(5)), (0x108, Width::Bits64, Some(6))]);
    assert_eq!(read_el1(El1::Sp), 0, "reset when the vCPU went off");
}

#[test]
fn register_31_is_the_stack_as_base_and_zero_as_data() {
    // str xzr, [sp, #-16]!, by EL1 with its own stack, and by EL0.
    for own in [true, false] {
        let (accesses, after) = execute(0xf81f_0fff, move |context| {
            if !own {
                context.spsr &= !0xf;
            }
            write_el1(if own { El1::Sp } else { El1::SpEl0 }, VIRTUAL + 0x20);
            stopped(0x10, true)
        });
        assert_eq!(accesses, [(0x10, Width::Bits64, Some(0))]);
        assert_eq!(after.elr, ENTRY + 4);
    }
    // ldrh wzr, [x8], #2: read, and nothing kept.
    let (accesses, after) = execute(0x7840_251f, |context| {
        context.set(8, VIRTUAL);
        stopped(0, false)
    });
    assert_eq!((accesses.len(), after.get(8)), (1, VIRTUAL + 2));
}

#[test]
fn offsets_in_registers_are_extended_and_shifted() {
    for (word, index) in [
        (0xb823_5841u32, 0xffff_ffff_0000_0010u64), // str w1, [x2, w3, uxtw #2]
        (0xf863_7841, 8),                           // ldr x1, [x2, x3, lsl #3]
        (0x78a3_c841, 0x0000_0000_0000_0040),       // ldrsh x1, [x2, w3, sxtw]
    ] {
        let (accesses, _) = execute(word, move |context| {
            context.set(2, VIRTUAL);
            context.set(3, index);
            stopped(0x40, word == 0xb823_5841)
        });
        assert_eq!(accesses.first().map(|access| access.0), Some(0x40), "{word:#x}");
    }
    // A negative offset: ldrsh x1, [x2, w3, sxtw].
    let (accesses, _) = execute(0x78a3_c841, |context| {
        context.set(2, VIRTUAL + 0x50);
        context.set(3, 0xffff_fff0);
        stopped(0x40, false)
    });
    assert_eq!(accesses.len(), 1);
}

/// External abort, and where the guest's vectors are.
fn aborted(after: &GuestContext) -> bool {
    after.elr == 0x200 && read_el1(El1::Esr) == 0
}

#[test]
fn what_cannot_be_carried_out_touches_nothing() {
    for (word, offset, why) in [
        (0x4c00_7040u32, 0u64, "a vector store"),
        (0x8803_fc41, 0, "an exclusive"),
        (0xf821_0062, 0, "an atomic"),
        (0xd50b_7422, 0, "DC ZVA"),
        (0xd503_201f, 0, "no store at all"),
        (0xb940_0043, 0, "a load, where the core saw a store"),
        (0xb800_4443, 0x40, "another address than the core saw"),
        (0xa900_0c43, 0xff8, "a pair across the page"),
        (0xb800_4443, 2, "misaligned"),
    ] {
        let (accesses, after) = execute(word, move |context| {
            context.set(2, VIRTUAL + if offset == 0x40 { 0 } else { offset });
            stopped(offset, true)
        });
        assert_eq!(accesses, [], "{why}");
        assert!(aborted(&after), "{why}");
        assert_eq!(after.get(2), VIRTUAL + if offset == 0x40 { 0 } else { offset }, "{why}");
    }
    // Past the device's last register: the pair's first half would fit.
    let (accesses, after) = execute(0xa900_0c43, |context| {
        context.set(2, VIRTUAL + 0x1018);
        stopped(0x1018, true)
    });
    assert_eq!(accesses, []);
    assert!(aborted(&after));
}

#[test]
fn a_register_that_is_not_there_is_reported_as_the_core_would() {
    // GMID_EL1, read; TPIDR2_EL0, read; a write of ID_AA64PFR0_EL1.
    let trap = |op1: u64, crn: u64, crm: u64, op2: u64, read: u64| {
        sync(0x18, 3 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1 | read)
    };
    for (exit, idst, class) in [
        (trap(1, 0, 0, 4, 1), 0u64, 0x00),
        (trap(1, 0, 0, 4, 1), 1, 0x18),
        (trap(3, 13, 0, 5, 1), 1, 0x00),
        (trap(0, 0, 4, 0, 0), 1, 0x00),
    ] {
        let esr = Arc::new(Mutex::new(Rank::Fake, 0));
        let seen = esr.clone();
        let m = machine(1);
        script(move |_| {
            set_id_register(7, 2, idst << 36);
            exit
        });
        script(move |context| {
            *seen.lock() = read_el1(El1::Esr);
            assert_eq!(context.elr, 0x200);
            context.set(0, 0x8400_0008);
            sync(0x16, 0)
        });
        assert_eq!(boot(&m, &TestHost::new()), Outcome::Off);
        assert_eq!(*esr.lock() >> 26, class, "{:#x}", exit.esr);
    }
}

std::thread_local! {
    static SAID: std::cell::RefCell<Vec<std::string::String>> = const { std::cell::RefCell::new(Vec::new()) };
}

/// Keeps what this thread logs.
struct Listener;

impl log::Log for Listener {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        SAID.with_borrow_mut(|said| said.push(std::format!("{}", record.args())));
    }
    fn flush(&self) {}
}

/// The log's only line about an access.
fn line(word: u32, exit: impl FnOnce(&mut GuestContext) -> Exit + 'static) -> std::string::String {
    // Another test of this process may have been first: it is the same listener.
    let _ = log::set_logger(&Listener);
    log::set_max_level(log::LevelFilter::Warn);
    SAID.take();
    execute(word, exit);
    let said = SAID.take();
    assert_eq!(said.len(), 1, "{said:?}");
    said.concat()
}

#[test]
fn the_log_says_what_was_not_done_and_why() {
    for (write, word) in [(true, "store to"), (false, "load from")] {
        // Nothing there, with the syndrome and without.
        for isv in [1u64 << 24 | 2 << 22, 0] {
            let said = line(0xd503_201f, move |_| {
                let mut exit = stopped(0x10_0000, write);
                exit.esr |= isv;
                exit
            });
            assert!(said.contains(word) && said.contains("nothing there"), "{said}");
        }
        // A device is there: misaligned by syndrome, or not carried out.
        let said = line(0xd503_201f, move |_| {
            let mut exit = stopped(2, write);
            exit.esr |= 1 << 24 | 2 << 22;
            exit
        });
        assert!(said.contains(word) && said.contains("misaligned"), "{said}");
    }
    for (instruction, why) in [
        (0x4c00_7040u32, "vector register"),
        (0x8803_fc41, "exclusive"),
        (0xf821_0062, "atomic"),
        (0xd50b_7422, "DC ZVA"),
    ] {
        let said = line(instruction, |context| {
            context.set(2, VIRTUAL);
            stopped(0, true)
        });
        assert!(said.contains("not emulated") && said.contains(why), "{said}");
        assert!(!said.contains("nothing there"), "{said}");
    }
}

#[test]
fn an_instruction_that_cannot_be_read_is_no_access() {
    for par in [1, DEVICE, 0x7fff_f000] {
        let (accesses, after) = execute(0xb800_4443, move |context| {
            set_translation(par);
            context.set(2, VIRTUAL);
            stopped(0, true)
        });
        assert_eq!(accesses, [], "{par:#x}");
        assert!(aborted(&after));
    }
    // An AArch32 application, whose instructions are not decoded.
    let (accesses, _) = execute(0xb800_4443, |context| {
        context.spsr = 1 << 4;
        context.set(2, VIRTUAL);
        stopped(0, true)
    });
    assert_eq!(accesses, []);
}
