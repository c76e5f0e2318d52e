//! The scripted guest: steps run in order and may change registers.

use palisade_hal::fake::guest as fake;
use palisade_hal::guest::{self, El1, Exit, ExitKind, GuestContext};

#[test]
fn steps_run_in_order_and_change_registers() {
    fake::clear();
    fake::script(|context| {
        assert_eq!(context.get(0), 7);
        context.set(1, 5);
        context.elr += 4;
        Exit { kind: ExitKind::Sync, esr: 0x5600_0000, far: 1, hpfar: 2 }
    });
    fake::script(|_| Exit { kind: ExitKind::Irq, esr: 0, far: 0, hpfar: 0 });
    let mut context = GuestContext::start(0x4000_0000, 7);
    let exit = guest::enter(&mut context);
    assert_eq!((exit.kind, exit.esr), (ExitKind::Sync, 0x5600_0000));
    assert_eq!((context.get(1), context.elr, fake::steps_left()), (5, 0x4000_0004, 1));
    assert_eq!(guest::enter(&mut context).kind, ExitKind::Irq);
}

#[test]
fn register_31_is_zero_and_swallows_writes() {
    let mut context = GuestContext::start(0, 1);
    context.set(31, 9);
    assert_eq!(context.get(31), 0);
}

#[test]
fn reset_clears_what_a_guest_left() {
    fake::clear();
    guest::write_el1(El1::Vbar, 0x1000);
    guest::reset_el1();
    assert_eq!(guest::read_el1(El1::Vbar), 0);
    assert_eq!(guest::read_el1(El1::Sctlr) & 1, 0);
}

#[test]
fn reset_leaves_no_key_and_no_syndrome_where_there_are_any() {
    fake::clear();
    guest::reset_el1();
    let resets = || (fake::controls().keys_reset, fake::controls().syndromes_reset);
    assert_eq!(resets(), (0, 0));
    // Each algorithm by itself: APA, API, GPA, GPI, GPA3, APA3.
    let kinds = [(6, 1, 4), (6, 1, 8), (6, 1, 24), (6, 1, 28), (6, 2, 8), (6, 2, 12)];
    for (count, (crm, op2, shift)) in (1..).zip(kinds) {
        fake::set_id_register(crm, op2, 1 << shift);
        guest::reset_el1();
        assert_eq!(resets(), (count, 0));
        fake::set_id_register(crm, op2, 0);
    }
    fake::set_id_register(4, 0, 1 << 28);
    guest::reset_el1();
    assert_eq!(resets(), (6, 1));
}
