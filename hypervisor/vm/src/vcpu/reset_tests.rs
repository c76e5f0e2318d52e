//! A VM that starts anew is a VM that starts.
//!
//! 1. Whatever the guest made of its VM, after the reset every field is as after the building.
//! 2. A vCPU's first instruction finds the core as it was at the very first.
//! 3. What is the hypervisor's stays: links to physical interrupts, private ones included.
extern crate std;

use alloc::{rc::Rc, string::String, sync::Arc};
use core::cell::RefCell;
use std::collections::BTreeMap;

use palisade_gic::{FakeCall, LrState};
use palisade_hal::{
    Ipa,
    fake::guest::{Controls, controls, script, steps_left, written_el1},
    guest::{El1, Exit, GuestContext, read_el1, write_el1},
};

use super::{
    Outcome, run,
    tests::{ENTRY, TestHost, access, hvc, irq, machine},
};
use crate::layout;

const TREE: Ipa = Ipa::new(0x4020_0000);

/// What a vCPU finds at its first instruction.
#[derive(Clone)]
struct First {
    context: GuestContext,
    el1: BTreeMap<El1, u64>,
    controls: Controls,
}

fn first(context: &GuestContext) -> First {
    let controls = Controls { resets: 0, ..controls() };
    First { context: context.clone(), el1: written_el1(), controls }
}

fn store(address: u64, value: u64) {
    script(move |context| {
        context.set(3, value);
        access(address, true)
    });
}

/// One life: everything that the guest can reach is written, its timer and a shared interrupt are
/// left active, an SGI pending; then it asks to start anew.
fn live(host: &Arc<TestHost>, seed: u64) {
    let redistributor = layout::REDISTRIBUTORS + 0x1_0000;
    store(layout::DISTRIBUTOR, 3);
    store(redistributor + 0x100, 1 << 27 | 1 << 30 | 0xffff);
    for word in 1..8 {
        store(layout::DISTRIBUTOR + 0x100 + 4 * word, !0);
        store(layout::DISTRIBUTOR + 0x200 + 4 * word, !0);
    }
    store(layout::UART + 0x30, 0x301);
    store(layout::UART + 0x38, 0x7ff);
    let inside = host.clone();
    script(move |_| {
        write_el1(El1::CntvCtl, 0b101);
        inside.fake().raise(27);
        irq()
    });
    let inside = host.clone();
    script(move |context| {
        // Its first shared interrupts and its timer are active from now on.
        while inside.fake().guest_acknowledge().is_some() {}
        hvc(context, 0x8400_0000, [0; 3])
    });
    // And then anything at all.
    let mut seed = seed;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = seed >> 20;
        let base = [layout::DISTRIBUTOR, layout::REDISTRIBUTORS, layout::UART];
        let base = base[(word >> 40) as usize % 3];
        store(base + (word & 0x1_fffc), seed ^ seed >> 31);
        script(|_| {
            for register in [El1::Vbar, El1::Tcr, El1::Sctlr, El1::CntpCval, El1::SpEl0] {
                write_el1(register, 0x5a5a_5a5a);
            }
            irq()
        });
    }
    script(|context| hvc(context, 0x8400_0009, [0; 3]));
}

#[test]
fn after_a_reset_every_field_is_as_after_the_building() {
    let m = machine(1);
    let host = Arc::new(TestHost::new());
    let built = m.vm.snapshot();
    let begin: Rc<RefCell<Option<First>>> = Rc::default();
    for seed in 1..=5 {
        assert!(m.vm.boot(Ipa::new(ENTRY), TREE, &host.gic));
        let seen = begin.clone();
        script(move |context| {
            let now = first(context);
            let then = seen.borrow_mut().get_or_insert_with(|| now.clone()).clone();
            assert!(now.context == then.context, "the registers of life {seed}");
            assert_eq!(now.el1, then.el1, "life {seed}");
            assert_eq!(now.controls, then.controls, "life {seed}");
            irq()
        });
        live(&host, seed);
        assert_eq!(run(&m.vm, 0, &*host), Outcome::Reset);
        assert_eq!(steps_left(), 0, "life {seed}");
        assert!(host.fake().list().iter().all(|lr| lr.state == LrState::Invalid));
        assert!(m.vm.rebuild());
        same(&m.vm.snapshot(), &built);
    }
}

/// Names the first lines that differ; the whole would be thousands of lines.
fn same(now: &str, then: &str) {
    // What was raised is counted over all lives.
    let lines = |text: &str| -> alloc::vec::Vec<String> {
        text.lines().filter(|line| !line.contains("raised:")).map(String::from).collect()
    };
    let (now, then) = (lines(now), lines(then));
    let differ = now.iter().zip(&then).enumerate().filter(|(_, (now, then))| now != then);
    let differ: alloc::vec::Vec<_> = differ.take(5).collect();
    assert!(differ.is_empty() && now.len() == then.len(), "line, now, first: {differ:#?}");
}

#[test]
fn the_timer_of_the_second_life_ends_the_physical_one() {
    let m = machine(1);
    let host = Arc::new(TestHost::new());
    for life in 0..3 {
        assert!(m.vm.boot(Ipa::new(ENTRY), TREE, &host.gic));
        store(layout::DISTRIBUTOR, 3);
        store(layout::REDISTRIBUTORS + 0x1_0100, 1 << 27);
        let inside = host.clone();
        script(move |_| {
            inside.fake().take_calls();
            write_el1(El1::CntvCtl, 0b101);
            inside.fake().raise(27);
            irq()
        });
        let inside = host.clone();
        script(move |context| -> Exit {
            assert_eq!(read_el1(El1::CntvCtl), 0b101);
            assert_eq!(inside.fake().guest_acknowledge(), Some(27));
            inside.fake().guest_end(27);
            assert!(inside.fake().take_calls().contains(&FakeCall::Deactivate(27)), "life {life}");
            hvc(context, 0x8400_0009, [0; 3])
        });
        assert_eq!(run(&m.vm, 0, &*host), Outcome::Reset);
        assert!(m.vm.rebuild());
    }
}
