//! The word by which a vCPU learns that it has to look at its interrupts, under every interleaving
//! that loom's bound allows: whoever goes into its guest has seen the change, or is sent an
//! interrupt that brings it out again.
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

mod atomic {
    pub use loom::sync::atomic::{AtomicU32, Ordering};
}

#[path = "../src/vgic/attention.rs"]
#[expect(dead_code, reason = "the model needs less of it than the machine")]
mod attention;

use attention::Attention;

/// The vCPU in question.
const VCPU: usize = 0;

struct Machine {
    attention: Attention,
    /// The controller's state: interrupts that are pending for the vCPU.
    pending: Mutex<u32>,
    /// A physical interrupt waits for the vCPU's core.
    sent: AtomicBool,
}

impl Machine {
    fn new() -> Arc<Self> {
        let machine = Self {
            attention: Attention::new(),
            pending: Mutex::new(0),
            sent: AtomicBool::new(false),
        };
        // It has looked once.
        machine.attention.flushed(VCPU, false, false);
        Arc::new(machine)
    }

    /// Another core raises an interrupt for the vCPU.
    fn raise(&self, bit: u32) {
        let mut pending = self.pending.lock().unwrap();
        *pending |= bit;
        self.attention.change(1 << VCPU);
        drop(pending);
        self.attention.kick(1 << VCPU);
        self.send();
    }

    /// Any core but the vCPU's own passes on what is due.
    fn send(&self) {
        if self.attention.take_kicks() >> VCPU & 1 != 0 {
            // `dsb ishst`, then the write that sends it. A swap: loom lets a store be overtaken by
            // a swap of another thread that did not see it.
            self.sent.swap(true, Ordering::AcqRel);
        }
    }

    /// The vCPU is about to go in: what it found.
    fn enter(&self) -> u32 {
        self.attention.take_kicks();
        if self.attention.is_quiet(VCPU) {
            return 0;
        }
        let mut pending = self.pending.lock().unwrap();
        self.attention.flushed(VCPU, false, false);
        core::mem::take(&mut *pending)
    }
}

/// Whether the vCPU, in its guest by now, has or will get both interrupts.
fn check(machine: &Machine, mut found: u32, wanted: u32) {
    // It comes out for as long as an interrupt waits for its core.
    while machine.sent.swap(false, Ordering::AcqRel) {
        found |= machine.enter();
    }
    assert_eq!(found, wanted, "in its guest, with interrupts that nobody brings it out for");
}

fn bound() -> usize {
    if std::env::var_os("PALISADE_LONG").is_some() { 4 } else { 2 }
}

#[test]
fn two_cores_raise_while_the_vcpu_goes_in() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound());
    model.check(|| {
        let machine = Machine::new();
        let others: Vec<_> = [1, 2]
            .map(|bit| {
                let machine = machine.clone();
                thread::spawn(move || machine.raise(bit))
            })
            .into();
        let mut found = machine.enter();
        if machine.sent.swap(false, Ordering::AcqRel) {
            found |= machine.enter();
        }
        for other in others {
            other.join().unwrap();
        }
        check(&machine, found, 3);
    });
}

#[test]
fn a_third_core_passes_the_kick_on() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(bound());
    model.check(|| {
        let machine = Machine::new();
        let (raiser, passer) = (machine.clone(), machine.clone());
        let raises = thread::spawn(move || raiser.raise(1));
        let passes = thread::spawn(move || passer.send());
        let found = machine.enter();
        raises.join().unwrap();
        passes.join().unwrap();
        check(&machine, found, 1);
    });
}
