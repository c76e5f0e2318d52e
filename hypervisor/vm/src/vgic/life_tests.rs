//! Interrupts that change hands, their registers or their mind halfway.
//!
//! 1. A physical interrupt that was taken is deactivated once for each time it was taken, whichever
//!    core took it, whichever vCPU ends it, and whatever register was written in between.
//! 2. A wire that leaves its VM leaves no list register that could end it.
//! 3. An interrupt that is active, disabled, moved or pending once more always comes again.
//! 4. More interrupts than list registers: the guest goes on, with few maintenance interrupts.
//! 5. An LPI comes once, on the vCPU that it was sent to last.
use alloc::vec::Vec;

use palisade_gic::{FakeCall, FakeGic, Gic, LrState, Version};

use super::{
    tests::{Machine, at, machine},
    *,
};
use crate::mmio::{MmioDevice, Width};

/// A controller for two vCPUs, each with an interface of its own; interrupt 40 is linked to the
/// physical 77, enabled, and sent to the second vCPU.
fn linked() -> (Machine, [FakeGic; 2]) {
    let m = machine(Version::V3, 2);
    m.vgic.link(40, 77);
    m.enable(40, 0xa0);
    m.gicd.write(at(0, 0x6000 + 320, Width::Bits64), 1);
    (m, [FakeGic::new(Version::V3, 4), FakeGic::new(Version::V3, 4)])
}

fn turn(m: &Machine, vcpu: usize, gic: &FakeGic) {
    m.vgic.fold(vcpu, gic);
    m.vgic.flush(vcpu, gic);
}

fn deactivated(gics: &[FakeGic]) -> usize {
    let of = |gic: &FakeGic| {
        let calls = gic.take_calls();
        calls.iter().filter(|call| matches!(call, FakeCall::Deactivate(77))).count()
    };
    gics.iter().map(of).sum()
}

#[test]
fn a_wire_that_is_high_when_another_core_ends_it_comes_again_and_again() {
    let (m, gics) = linked();
    let [_, second] = &gics;
    assert!(m.vgic.forward(0, 40));
    m.vgic.flush(1, second);
    for _ in 0..5 {
        assert_eq!(second.guest_acknowledge(), Some(40));
        second.guest_end(40);
        assert_eq!(deactivated(&gics), 1, "by the list register");
        // The line is high: the first core takes it again before the second came out.
        assert!(m.vgic.forward(0, 40));
        turn(&m, 1, second);
        let lr = second.list()[0];
        assert_eq!((lr.intid, lr.state, lr.hardware), (40, LrState::Pending, Some(77)));
    }
    // And by a write to the distributor of either vCPU.
    m.vgic.fold(1, second);
    m.gicd.write(at(0, 0x284, Width::Bits32), 1 << 8);
    m.vgic.flush(1, second);
    assert_eq!((deactivated(&gics), second.guest_acknowledge()), (1, None));
}

#[test]
fn a_linked_interrupt_that_is_made_inactive_by_another_vcpu_is_paid_once() {
    let (m, gics) = linked();
    let [first, second] = &gics;
    assert!(m.vgic.forward(0, 40));
    m.vgic.flush(1, second);
    assert_eq!(second.guest_acknowledge(), Some(40));
    // ICACTIVER by the first vCPU, while the second has it in a register.
    m.vgic.take_kicks();
    m.gicd.write(at(0, 0x384, Width::Bits32), 1 << 8);
    assert_eq!(m.vgic.take_kicks(), 0b10);
    turn(&m, 0, first);
    assert_eq!(deactivated(&gics), 0, "the register may still end it");
    turn(&m, 1, second);
    assert_eq!(deactivated(&gics), 1);
    assert!(m.vgic.forward(0, 40));
    turn(&m, 1, second);
    assert_eq!(second.guest_acknowledge(), Some(40), "the next one comes");
}

#[test]
fn a_vm_that_ends_pays_for_what_was_taken_while_a_register_was_out() {
    for second_first in [false, true] {
        let (m, gics) = linked();
        let [first, second] = &gics;
        assert!(m.vgic.forward(0, 40));
        m.vgic.flush(1, second);
        assert_eq!(second.guest_acknowledge(), Some(40));
        second.guest_end(40);
        assert!(m.vgic.forward(0, 40));
        assert_eq!(deactivated(&gics), 1);
        let mut order = [(0, first), (1, second)];
        if second_first {
            order.reverse();
        }
        for (vcpu, gic) in order {
            m.vgic.retire(vcpu, gic);
            m.vgic.surrender(gic);
        }
        assert_eq!(deactivated(&gics), 1, "{second_first}");
    }
}

#[test]
fn a_wire_that_leaves_takes_its_list_register_along() {
    let (m, gics) = linked();
    let [_, second] = &gics;
    for acknowledged in [false, true] {
        m.vgic.link(40, 77);
        assert!(m.vgic.forward(0, 40));
        turn(&m, 1, second);
        assert_eq!(second.list()[0].hardware, Some(77));
        if acknowledged {
            assert_eq!(second.guest_acknowledge(), Some(40));
        }
        m.vgic.take_kicks();
        m.vgic.unlink(40);
        assert_eq!(m.vgic.take_kicks(), 0b10, "whoever has it comes out");
        assert!(m.vgic.is_lent(40), "not yet");
        assert!(!m.vgic.forward(0, 40), "nothing more is forwarded");
        assert_eq!(m.vgic.linked(77), None);
        turn(&m, 1, second);
        assert!(!m.vgic.is_lent(40));
        assert_eq!(deactivated(&gics), 1);
        // What the guest did not end is its own.
        let lr = second.list()[0];
        let wanted = if acknowledged { LrState::Active } else { LrState::Invalid };
        assert_eq!((lr.state, lr.hardware), (wanted, None));
        if acknowledged {
            second.guest_end(40);
        }
        turn(&m, 1, second);
        assert_eq!(deactivated(&gics), 0, "nothing of the guest's reaches it");
    }
}

#[test]
fn the_interface_rests_from_a_maintenance_interrupt_to_the_next_entry() {
    let m = machine(Version::V3, 1);
    for intid in 40..50 {
        m.enable(intid, 0xa0);
        m.vgic.pulse(0, intid);
    }
    m.enter();
    while let Some(intid) = m.gic.guest_acknowledge() {
        m.gic.guest_end(intid);
    }
    assert!(m.gic.maintenance());
    m.exit();
    m.vgic.rest(0, &m.gic);
    assert!(!m.gic.maintenance(), "taken, and asked for nothing more");
    assert!(m.vgic.has_pending(0), "nothing was listed meanwhile");
    assert_eq!(m.drain().len(), 6);
}

/// Takes the level-triggered 40 and gives the guest's registers a turn at `write`, then ends it.
fn level(version: Version, write: impl Fn(&Machine)) {
    let m = machine(version, 1);
    m.enable(40, 0xa0);
    m.vgic.set_line(0, 40, true);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
    m.exit();
    write(&m);
    m.enter();
    m.gic.guest_end(40);
    m.exit();
    m.gicd.write(at(0, 0x104, Width::Bits32), 1 << 8);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40), "the line is high still");
    m.exit();
    m.vgic.set_line(0, 40, false);
    m.enter();
    m.gic.guest_end(40);
    m.exit();
    m.enter();
    assert_eq!((m.gic.guest_acknowledge(), m.gic.maintenance()), (None, false));
    m.exit();
    m.vgic.set_line(0, 40, true);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40), "and the next one comes");
}

#[test]
fn a_level_comes_again_whatever_was_written_while_it_was_active() {
    for version in [Version::V2, Version::V3] {
        level(version, |_| {});
        // Disabled, ended, enabled.
        level(version, |m| m.gicd.write(at(0, 0x184, Width::Bits32), 1 << 8));
        // Made inactive by a write, then ended all the same.
        level(version, |m| m.gicd.write(at(0, 0x384, Width::Bits32), 1 << 8));
        // Made pending by a write while disabled, and taken back.
        level(version, |m| {
            m.gicd.write(at(0, 0x184, Width::Bits32), 1 << 8);
            m.gicd.write(at(0, 0x204, Width::Bits32), 1 << 8);
            m.gicd.write(at(0, 0x284, Width::Bits32), 1 << 8);
        });
        // All groups off and on.
        level(version, |m| {
            m.gicd.write(at(0, 0, Width::Bits32), 0);
            m.gicd.write(at(0, 0, Width::Bits32), 3);
        });
    }
}

#[test]
fn an_interrupt_that_is_sent_elsewhere_while_active_is_ended_where_it_was_taken() {
    let m = machine(Version::V3, 2);
    let second = FakeGic::new(Version::V3, 4);
    m.enable(40, 0xa0);
    m.vgic.set_line(0, 40, true);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
    m.exit();
    m.gicd.write(at(0, 0x6000 + 320, Width::Bits64), 1);
    m.enter();
    turn(&m, 1, &second);
    assert_eq!(second.guest_acknowledge(), None, "it is active");
    m.gic.guest_end(40);
    assert!(m.gic.maintenance(), "the line is high: the end must be seen");
    m.vgic.take_kicks();
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
    assert_eq!(m.vgic.take_kicks() & 0b10, 0b10, "the other is told");
    turn(&m, 1, &second);
    assert_eq!(second.guest_acknowledge(), Some(40));
}

#[test]
fn twenty_wait_behind_four_that_are_active_and_the_guest_goes_on() {
    for version in [Version::V2, Version::V3] {
        let m = machine(version, 1);
        for step in 0..4u32 {
            m.enable(40 + step, (0xa0 - 0x10 * step) as u8);
            m.exit();
            m.vgic.pulse(0, 40 + step);
            m.enter();
            assert_eq!(m.gic.guest_acknowledge(), Some(40 + step));
        }
        for intid in 50..70 {
            m.enable(intid, 0xb0);
            m.vgic.pulse(0, intid);
        }
        m.exit();
        m.enter();
        // Ended in another order than they were taken in.
        let mut maintenance = 0;
        let mut turn = |m: &Machine| {
            if m.gic.maintenance() {
                maintenance += 1;
                m.exit();
                m.enter();
            }
        };
        for step in [3, 0, 2, 1] {
            m.gic.guest_end(40 + step);
            turn(&m);
        }
        let mut taken: Vec<u32> = Vec::new();
        for _ in 0..40 {
            turn(&m);
            if let Some(intid) = m.gic.guest_acknowledge() {
                taken.push(intid);
                m.gic.guest_end(intid);
            }
        }
        assert_eq!(taken, (50..70).collect::<Vec<u32>>());
        assert!(maintenance <= 4 + 20, "{maintenance} maintenance interrupts");
        m.exit();
        assert_eq!(m.gicd.read(at(0, 0x304, Width::Bits32)), 0, "nothing is active any more");
        m.vgic.pulse(0, 40);
        assert_eq!(m.drain(), [40]);
    }
}

/// Two vCPUs with LPI 8195 mapped to the first and enabled at both.
fn messages() -> (Machine, FakeGic) {
    let m = machine(Version::V3, 2);
    m.vgic.offer_lpis();
    for vcpu in 0..2 {
        m.gicr.write(at(0, vcpu * REDISTRIBUTOR_BYTES, Width::Bits32), 1);
    }
    m.vgic.map_lpi(8195, 0);
    m.vgic.configure_lpi(8195, 0xa1);
    (m, FakeGic::new(Version::V3, 4))
}

#[test]
fn an_lpi_comes_once_and_where_it_was_sent_last() {
    let (m, second) = messages();
    // Pending at the first; MOVALL to the second; its next message goes to the first again.
    m.vgic.set_lpi_pending(8195, true);
    m.vgic.take_kicks();
    m.vgic.move_pending_lpis(0, 1);
    assert_eq!(m.vgic.take_kicks(), 0b10);
    assert_eq!(m.drain(), []);
    turn(&m, 1, &second);
    assert_eq!(second.guest_acknowledge(), Some(8195));
    second.guest_end(8195);
    turn(&m, 1, &second);
    m.exit();
    m.vgic.set_lpi_pending(8195, true);
    assert_eq!(m.drain(), [8195]);
    // In a register of the first when all moves: it comes out and goes to the second, once.
    m.exit();
    m.vgic.set_lpi_pending(8195, true);
    m.enter();
    m.vgic.take_kicks();
    m.vgic.move_pending_lpis(0, 1);
    assert_eq!(m.vgic.take_kicks(), 0b1, "the first comes out");
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
    turn(&m, 1, &second);
    assert_eq!(second.guest_acknowledge(), Some(8195));
    second.guest_end(8195);
    turn(&m, 1, &second);
    assert_eq!((second.guest_acknowledge(), m.drain()), (None, Vec::new()));
}

/// The guest took the last message and ended it without coming out; the next one is not lost.
#[test]
fn a_message_comes_again_although_the_last_one_was_never_taken_back() {
    let (m, gic) = messages();
    let lpi = 8195;
    m.vgic.set_lpi_pending(lpi, true);
    for _ in 0..3 {
        m.vgic.look(0, &gic, 0, 0, 0);
        m.vgic.take_kicks();
        assert_eq!(gic.guest_acknowledge(), Some(lpi));
        gic.guest_end(lpi);
        assert!(m.vgic.is_quiet(0), "nothing more is to be done for it");
        m.vgic.set_lpi_pending(lpi, true);
        assert!(!m.vgic.is_quiet(0));
        assert_eq!(m.vgic.take_kicks() & 1, 1);
    }
}

/// What a guest was told of is left where it is for as long as nothing changes: an SGI, and a timer
/// that it has taken. A timer that it has not is looked at before each entry.
#[test]
fn what_depends_on_nothing_else_stays_in_its_list_register() {
    let m = machine(Version::V3, 1);
    m.vgic.link(27, 27);
    m.enable_private(0, 27);
    m.enable_private(0, 3);
    m.vgic.generate(0, 3 << 24 | 1, false);
    m.vgic.look(0, &m.gic, 0, 0, 0);
    assert!(m.vgic.is_quiet(0), "an SGI waits");
    assert_eq!(m.gic.guest_acknowledge(), Some(3));
    m.gic.guest_end(3);
    m.vgic.forward(0, 27);
    m.vgic.look(0, &m.gic, 1 << 27, 1 << 27, 0);
    assert!(!m.vgic.is_quiet(0), "a timer waits: it may be disarmed");
    assert_eq!(m.gic.guest_acknowledge(), Some(27));
    m.vgic.look(0, &m.gic, 1 << 27, 1 << 27, 0);
    assert!(m.vgic.is_quiet(0), "it is taken");
    let active = || {
        m.vgic.fold(0, &m.gic);
        m.gicr.read(at(0, 0x1_0300, Width::Bits32)) >> 27 & 1
    };
    assert_eq!(active(), 1);
    m.vgic.look(0, &m.gic, 0, 0, 0);
    m.gic.guest_end(27);
    assert_eq!(active(), 0, "who asks takes the registers back first");
}

#[test]
fn lpis_that_are_switched_off_and_on_while_one_is_listed_are_not_lost() {
    let (m, _) = messages();
    let enable = |on: u64| m.gicr.write(at(1, 0, Width::Bits32), on);
    m.vgic.set_lpi_pending(8195, true);
    m.enter();
    assert_eq!(m.gic.list()[0].intid, 8195);
    // By another vCPU.
    m.vgic.take_kicks();
    enable(0);
    assert_eq!(m.vgic.take_kicks(), 1);
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None, "off");
    assert!(!m.vgic.has_pending(0));
    m.exit();
    enable(1);
    assert_eq!(m.drain(), [8195]);
}

#[test]
fn a_number_that_is_mapped_anew_while_it_is_listed_is_a_new_one() {
    let (m, _) = messages();
    m.vgic.set_lpi_pending(8195, true);
    m.enter();
    m.vgic.unmap_lpi(8195);
    m.vgic.map_lpi(8195, 0);
    m.vgic.configure_lpi(8195, 0xa1);
    m.exit();
    assert_eq!(m.drain(), [], "the old one's");
    m.exit();
    m.vgic.set_lpi_pending(8195, true);
    assert_eq!(m.drain(), [8195]);
}

#[test]
fn the_distributor_says_how_many_lpis_there_are() {
    let (m, _) = messages();
    let typer = m.gicd.read(at(0, 4, Width::Bits32));
    assert_eq!(1 << ((typer >> 11 & 0x1f) + 1), LPIS);
    assert!(m.gic.list_registers() == 4);
}
