//! vCPUs whose guest follows a script.
//!
//! 1. Every call and trap is answered as the manuals say, and the guest goes on after it.
//! 2. What is not there comes back as the architecture says.
//! 3. Interrupts that were forwarded are deactivated by the guest, the rest by the hypervisor.
//! 4. Whatever a guest does, the run comes back or goes on; nothing panics.
extern crate std;

use alloc::{boxed::Box, rc::Rc, string::String, sync::Arc, vec::Vec};

use palisade_gic::{AnyGic, FakeCall, FakeGic, LrState, Version};
use palisade_hal::lock::{Mutex, Rank};
use palisade_hal::{
    Ipa, PhysAddr,
    fake::{
        Observer, Op, Tlbi,
        guest::{clear, controls, script, set_id_register, steps_left},
        observe,
    },
    guest::{El1, Exit, ExitKind, GuestContext, read_el1, write_el1},
};
use palisade_iommu::Iommus;
use palisade_mem::{Arena, FrameTables, Frames};
use palisade_pgtable::{Registry, STAGE2_4K};

use super::*;
use crate::{
    Life, Vm, VmConfig, Wires, layout, load,
    memory::{GuestMemory, Shape},
    pl011::Console,
};

pub(super) const ENTRY: u64 = 0x4008_0000;
const WIRES: Wires = Wires { virtual_timer: 27, physical_timer: 30, maintenance: 25 };

pub(super) struct Sink(Mutex<Vec<u8>>);

impl Console for Sink {
    fn put(&self, _vm: usize, byte: u8) {
        self.0.lock().push(byte);
    }
}

pub(super) struct TestHost {
    pub gic: AnyGic,
    strays: Mutex<Vec<u32>>,
}

impl TestHost {
    pub(super) fn new() -> Self {
        let gic = AnyGic::Fake(FakeGic::new(Version::V3, 4));
        Self { gic, strays: Mutex::new(Rank::Fake, Vec::new()) }
    }

    /// The controller as the test drives it.
    pub(super) fn fake(&self) -> &FakeGic {
        match &self.gic {
            AnyGic::Fake(fake) => fake,
            _ => unreachable!("made above"),
        }
    }
}

impl Host for TestHost {
    fn gic(&self) -> &AnyGic {
        &self.gic
    }
    fn interrupt(&self, intid: u32) {
        self.strays.lock().push(intid);
    }
    fn entering(&self, _: &Vm, _: usize) {}
}

fn formats() -> &'static Registry<FrameTables> {
    let registry = Box::leak(Box::new(Registry::new()));
    registry.register(&STAGE2_4K[0]).unwrap();
    registry
}

pub(super) struct Machine {
    pub vm: Vm,
    sink: Arc<Sink>,
    _arena: Arena,
}

pub(super) fn machine(vcpus: usize) -> Machine {
    clear();
    let arena = Arena::new(PhysAddr::new(0x8000_0000), 4096);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let cpus = Arc::new(frames.register_agent("cpus").unwrap());
    let iommus = Arc::new(Iommus::new(4, 16));
    let owner = iommus.owners().open(0).unwrap();
    let shape = Shape { pa_bits: 44, vmid16: true, dma_bits: 44, dma_coherent: true };
    let memory = GuestMemory::new(frames, cpus, iommus, owner, shape, formats()).unwrap();
    memory.add_ram(Ipa::new(layout::RAM), 4 << 20, &[]).unwrap();
    let sink = Arc::new(Sink(Mutex::new(Rank::Fake, Vec::new())));
    let vm = Vm::new(VmConfig {
        name: String::from("test"),
        index: 0,
        cores: (0..vcpus).collect(),
        memory,
        gic: Version::V3,
        virtual_cpu_interface: None,
        wires: WIRES,
        console: sink.clone(),
    })
    .unwrap();
    Machine { vm, sink, _arena: arena }
}

pub(super) fn sync(class: u64, iss: u64) -> Exit {
    Exit { kind: ExitKind::Sync, esr: class << 26 | 1 << 25 | iss, far: 0, hpfar: 0 }
}

pub(super) fn irq() -> Exit {
    Exit { kind: ExitKind::Irq, esr: 0, far: 0, hpfar: 0 }
}

/// A load or store of X3, 32 bits wide.
pub(super) fn access(address: u64, write: bool) -> Exit {
    let iss = 1 << 24 | 2 << 22 | 3 << 16 | u64::from(write) << 6 | 0b000111;
    let mut exit = sync(0x24, iss);
    exit.far = 0xffff_0000_0000_0000 | address & 0xfff;
    exit.hpfar = address >> 12 << 4;
    exit
}

pub(super) fn hvc(context: &mut GuestContext, function: u64, arguments: [u64; 3]) -> Exit {
    context.set(0, function);
    for (index, argument) in arguments.into_iter().enumerate() {
        context.set(index + 1, argument);
    }
    sync(0x16, 0)
}

pub(super) fn off() {
    script(|context| hvc(context, 0x8400_0008, [0; 3]));
}

pub(super) fn boot(m: &Machine, host: &TestHost) -> Outcome {
    assert!(m.vm.boot(Ipa::new(ENTRY), Ipa::new(0x4020_0000), &host.gic));
    let outcome = run(&m.vm, 0, host);
    assert_eq!(steps_left(), 0, "the guest was not run to its end");
    outcome
}

#[test]
fn a_guest_starts_as_promised_and_goes_off() {
    let m = machine(1);
    let host = TestHost::new();
    script(|context| {
        assert_eq!((context.elr, context.get(0), context.get(1)), (ENTRY, 0x4020_0000, 0));
        assert_eq!(context.spsr, GuestContext::SPSR_START);
        assert_eq!(controls().vmpidr, 1 << 31);
        assert_ne!(controls().stage2.vttbr, 0);
        assert_eq!(controls().hcr & 1, 1, "stage 2 is on");
        hvc(context, 0x8400_0000, [0; 3])
    });
    script(|context| {
        assert_eq!(context.get(0), 0x1_0001);
        hvc(context, 0x8400_0012, [0; 3])
    });
    script(|context| {
        assert_eq!(context.get(0), u64::MAX, "not supported");
        hvc(context, 0xc600_0007, [5, 0, 0])
    });
    script(|context| {
        assert_eq!(context.get(0), u64::MAX, "a VM without the guest interface");
        // SMC: the firmware is not reached, and the guest goes on behind it.
        context.set(0, 0x8400_0008);
        sync(0x17, 0)
    });
    script(|context| {
        assert_eq!((context.get(0), context.elr), (u64::MAX, ENTRY + 4));
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    assert_eq!(m.vm.life(), Life::Off);
    assert!(m.vm.is_parked());
    assert_eq!((controls().stage2.vttbr, controls().hcr & 1), (0, 0), "nothing is left in force");
    assert!(m.vm.rebuild());
    off();
    assert_eq!(boot(&m, &host), Outcome::Off);
}

#[test]
fn images_are_loaded_and_the_tree_is_at_x0() {
    let m = machine(1);
    let machine = load::Machine {
        vcpus: 1,
        memory: 4 << 20,
        bootargs: "quiet",
        initrd: None,
        gic: Version::V3,
        its: false,
        pci: true,
        firmware: false,
        plain: None,
        no_dma_isolation: false,
        smmus: &[],
    };
    let images = load::Images { kernel: &[7; 5000], initrd: Some(&[8; 100]) };
    let boot = load::load(m.vm.memory(), &machine, images).unwrap();
    assert_eq!(boot.entry, Ipa::new(ENTRY));
    let mut bytes = [0; 4];
    assert!(m.vm.memory().read(boot.entry.checked_add(4996).unwrap(), &mut bytes));
    assert_eq!(bytes, [7; 4]);
    assert!(m.vm.memory().read(boot.tree, &mut bytes));
    assert_eq!(bytes, 0xd00d_feed_u32.to_be_bytes());
    let more = load::Machine { memory: 64 << 20, ..machine };
    let error = load::load(m.vm.memory(), &more, images).unwrap_err();
    assert!(matches!(error, load::LoadError::NoRam(_)), "{error}");
}

#[test]
fn emulated_registers_answer_loads_and_stores() {
    let m = machine(1);
    let host = TestHost::new();
    for byte in *b"ok" {
        script(move |context| {
            context.set(3, u64::from(byte));
            access(layout::UART, true)
        });
    }
    script(|context| {
        context.set(3, u64::MAX);
        access(layout::UART + 0x18, false)
    });
    script(|context| {
        assert_eq!(context.get(3), 0x90, "the whole register, upper half zero");
        assert_eq!(context.elr, ENTRY + 12);
        // One byte with sign: the last ID byte is 0xb1.
        let mut exit = access(layout::UART + 0xffc, false);
        exit.esr = exit.esr & !(3 << 22) | 1 << 21 | 1 << 15;
        exit
    });
    script(|context| {
        assert_eq!(context.get(3) as i64, -0x4f);
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    assert_eq!(*m.sink.0.lock(), b"ok");
}

#[test]
fn what_is_not_there_comes_back_as_an_external_abort() {
    let m = machine(1);
    let host = TestHost::new();
    write_el1(El1::Vbar, 0);
    script(|_| {
        write_el1(El1::Vbar, 0x4000_1000);
        access(0x0a00_0010, true)
    });
    script(|context| {
        assert_eq!(context.elr, 0x4000_1200, "same level, SP_EL1");
        assert_eq!(context.spsr & 0x3ff, 0x3c5);
        assert_eq!(read_el1(El1::Elr), ENTRY);
        assert_eq!(read_el1(El1::Esr), 0x25 << 26 | 1 << 25 | 1 << 6 | 0x10);
        assert_eq!(read_el1(El1::Far), 0xffff_0000_0000_0010);
        // From EL0, a load without a decoded syndrome, on a device that is there.
        context.spsr = 0;
        let mut exit = access(layout::UART, false);
        exit.esr &= !(1 << 24);
        exit
    });
    script(|context| {
        assert_eq!(context.elr, 0x4000_1400, "lower level");
        assert_eq!(read_el1(El1::Esr), 0x24 << 26 | 1 << 25 | 0x10);
        // An unknown register.
        context.spsr = 0x3c4;
        sync(0x18, 3 << 20 | 15 << 10)
    });
    script(|context| {
        assert_eq!(context.elr, 0x4000_1000, "SP_EL0");
        assert_eq!(read_el1(El1::Esr), 1 << 25, "undefined");
        context.elr = 0x1234_0000;
        let mut exit = sync(0x20, 0b000111);
        exit.far = 0x1234_0000;
        exit.hpfar = 0x1234_0000 >> 8;
        exit
    });
    script(|context| {
        assert_eq!(read_el1(El1::Esr), 0x21 << 26 | 1 << 25 | 0x10);
        // Its vectors are not there: it would never come out of this.
        context.elr = 0x4000_1200;
        sync(0x20, 0b000111)
    });
    assert_eq!(boot(&m, &host), Outcome::Crashed);
}

#[test]
fn registers_that_identify_tell_what_works() {
    let m = machine(1);
    let host = TestHost::new();
    set_id_register(4, 0, 0x1111_2222);
    // MRS X5, ID_AA64PFR0_EL1.
    script(|_| sync(0x18, 3 << 20 | 5 << 5 | 4 << 1 | 1));
    script(|context| {
        assert_eq!(context.get(5), 0x0111_0012, "no EL2, EL3, RAS; the GIC interface");
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
}

#[test]
fn a_timer_is_the_guests_to_end_and_a_stray_is_not() {
    let m = machine(1);
    let host = Arc::new(TestHost::new());
    let inside = host.clone();
    // The guest enables group 1 and the timer.
    script(|context| {
        context.set(3, 3);
        access(layout::DISTRIBUTOR, true)
    });
    script(|context| {
        context.set(3, 1 << 27);
        access(layout::REDISTRIBUTORS + 0x1_0100, true)
    });
    script(move |_| {
        write_el1(El1::CntvCtl, 0b101);
        inside.fake().take_calls();
        inside.fake().raise(27);
        inside.fake().raise(99);
        irq()
    });
    let inside = host.clone();
    script(move |_| {
        // The stray brings it out again.
        assert_eq!(inside.fake().take_calls(), [FakeCall::PriorityDrop(27)]);
        irq()
    });
    let inside = host.clone();
    script(move |_| {
        let calls = inside.fake().take_calls();
        assert_eq!(calls, [FakeCall::PriorityDrop(99), FakeCall::Deactivate(99)]);
        let lr = inside.fake().list()[0];
        assert_eq!((lr.intid, lr.hardware, lr.state), (27, Some(27), LrState::Pending));
        // Disarmed before it was taken: withdrawn and deactivated.
        write_el1(El1::CntvCtl, 0);
        irq()
    });
    let inside = host.clone();
    script(move |context| {
        assert_eq!(inside.fake().list()[0].state, LrState::Invalid);
        assert!(inside.fake().take_calls().contains(&FakeCall::Deactivate(27)));
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    assert_eq!(*host.strays.lock(), [99]);
}

#[test]
fn a_core_forgets_what_it_held_before_a_guest_runs_on_it() {
    struct Seen(core::cell::Cell<bool>);
    impl Observer for Seen {
        fn observe(&self, op: Op, _: &'static core::panic::Location<'static>) {
            if matches!(op, Op::Tlbi(Tlbi::Vmid(..))) {
                self.0.set(true);
            }
        }
    }
    let m = machine(1);
    let host = TestHost::new();
    let seen = Rc::new(Seen(core::cell::Cell::new(false)));
    let inside = seen.clone();
    script(move |context| {
        assert!(inside.0.get(), "before the first instruction");
        hvc(context, 0x8400_0008, [0; 3])
    });
    observe(seen, || assert_eq!(boot(&m, &host), Outcome::Off));
}

#[test]
fn a_message_ends_with_its_priority_and_a_flood_of_them_is_bounded() {
    let m = machine(1);
    let host = Arc::new(TestHost::new());
    let inside = host.clone();
    script(move |_| {
        inside.fake().take_calls();
        (0..100).for_each(|_| inside.fake().raise(8192));
        irq()
    });
    let inside = host.clone();
    script(move |context| {
        let calls = inside.fake().take_calls();
        assert!(calls.iter().all(|call| *call == FakeCall::PriorityDrop(8192)));
        assert!(!calls.is_empty() && calls.len() < 100, "the guest runs between");
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    assert!(host.strays.lock().is_empty());
}

#[test]
fn a_second_vcpu_starts_runs_and_stops() {
    let m = machine(2);
    let vm = &m.vm;
    std::thread::scope(|scope| {
        let second = scope.spawn(move || {
            clear();
            let host = TestHost::new();
            script(|context| {
                assert_eq!((context.elr, context.get(0)), (ENTRY + 0x100, 77));
                assert_eq!(controls().vmpidr, 1 << 31 | 1);
                hvc(context, 0x8400_0002, [0; 3])
            });
            let outcome = run(vm, 1, &host);
            assert_eq!(steps_left(), 0);
            outcome
        });
        let host = TestHost::new();
        script(|context| hvc(context, 0xc400_0003, [1, 0x1000, 77]));
        script(|context| {
            assert_eq!(context.get(0) as i64, -9, "no memory there");
            hvc(context, 0xc400_0003, [1, ENTRY + 0x102, 77])
        });
        script(|context| {
            assert_eq!(context.get(0) as i64, -9, "no instruction there");
            hvc(context, 0xc400_0003, [2, ENTRY, 77])
        });
        script(|context| {
            assert_eq!(context.get(0) as i64, -2, "no such vCPU");
            hvc(context, 0xc400_0003, [0, ENTRY, 77])
        });
        script(|context| {
            assert_eq!(context.get(0) as i64, -4, "runs already");
            hvc(context, 0xc400_0003, [1, ENTRY + 0x100, 77])
        });
        fn until_off(context: &mut GuestContext) -> Exit {
            if context.get(0) == 1 {
                return hvc(context, 0x8400_0008, [0; 3]);
            }
            script(until_off);
            hvc(context, 0xc400_0004, [1, 0, 0])
        }
        script(|context| {
            assert_eq!(context.get(0), 0);
            script(until_off);
            hvc(context, 0xc400_0004, [1, 0, 0])
        });
        assert_eq!(boot(&m, &host), Outcome::Off);
        assert_eq!(second.join().ok(), Some(Outcome::Off));
    });
    assert!(vm.is_parked());
}

#[test]
fn suspended_until_an_interrupt_comes() {
    let m = machine(1);
    let host = Arc::new(TestHost::new());
    script(|context| {
        context.set(3, 3);
        access(layout::DISTRIBUTOR, true)
    });
    script(|context| {
        context.set(3, 1 << 30);
        access(layout::REDISTRIBUTORS + 0x1_0100, true)
    });
    let inside = host.clone();
    script(move |context| {
        write_el1(El1::CntpCtl, 0b101);
        inside.fake().raise(99);
        inside.fake().raise(30);
        hvc(context, 0xc400_0001, [0, 0, 0])
    });
    script(|context| {
        assert_eq!(context.get(0), 0);
        hvc(context, 0x8400_0008, [0; 3])
    });
    assert_eq!(boot(&m, &host), Outcome::Off);
    assert_eq!(*host.strays.lock(), [99]);
}

#[test]
fn a_guest_that_does_anything_at_all_is_survived() {
    struct Gremlin {
        seed: u64,
        left: u32,
    }
    impl Gremlin {
        fn next(&mut self) -> u64 {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.seed ^ self.seed >> 29
        }
        fn step(mut self, context: &mut GuestContext) -> Exit {
            if self.left == 0 {
                return hvc(context, 0x8400_0008, [0; 3]);
            }
            self.left -= 1;
            for n in 0..31 {
                context.set(n, self.next());
            }
            let word = self.next();
            let exit = match word % 5 {
                0 => {
                    let bases =
                        [layout::DISTRIBUTOR, layout::REDISTRIBUTORS, layout::UART, layout::RAM];
                    let base = bases[(word >> 8) as usize % 4];
                    access(base + (self.next() & 0x3_fffc), word >> 7 & 1 != 0)
                }
                // Any class but a fetch from its own vectors, which ends it.
                1 => sync(
                    [0, 1, 7, 0x17, 0x18, 0x19, 0x24, 0x3c][(word >> 8) as usize % 8],
                    word >> 30 & 0x1ff_ffff,
                ),
                2 => sync(0x18, word >> 20 & 0x1ff_ffff),
                3 => {
                    // Any call but those that end it.
                    context.set(0, 0x8400_000a + (word >> 40));
                    sync(0x16, word >> 48)
                }
                _ => irq(),
            };
            script(move |context| self.step(context));
            Exit { far: self_far(word), ..exit }
        }
    }
    const fn self_far(word: u64) -> u64 {
        word.rotate_left(17)
    }
    let m = machine(2);
    let host = TestHost::new();
    let gremlin = Gremlin { seed: 0x1234_5678_9abc_def1, left: 20_000 };
    script(move |context| gremlin.step(context));
    assert_eq!(boot(&m, &host), Outcome::Off);
}
