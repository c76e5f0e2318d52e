//! The controller driven through its registers and a fake CPU interface.
//!
//! 1. What waits is delivered, most urgent first, however many there are.
//! 2. A level is delivered again while it is high, and withdrawn when it falls.
//! 3. A linked interrupt is deactivated exactly once, by whichever way it ends.
//! 4. Registers read back what they mean; nothing outside them changes anything.
use alloc::{sync::Arc, vec::Vec};

use palisade_gic::{FakeCall, FakeGic, Gic, LrState, Version};

use super::*;
use crate::mmio::{Access, MmioDevice, Width};

pub(super) struct Machine {
    pub vgic: Arc<Vgic>,
    pub gicd: Arc<Distributor>,
    pub gicr: Arc<Redistributors>,
    pub gic: FakeGic,
}

pub(super) fn at(vcpu: usize, offset: u64, width: Width) -> Access {
    Access { vcpu, offset, width }
}

pub(super) fn machine(version: Version, vcpus: usize) -> Machine {
    let vgic = Vgic::new(version, vcpus);
    let gicd = Distributor::new(vgic.clone());
    let gicr = Redistributors::new(vgic.clone());
    gicd.write(at(0, 0, Width::Bits32), 3);
    Machine { vgic, gicd, gicr, gic: FakeGic::new(version, 4) }
}

impl Machine {
    pub(super) fn enable(&self, intid: u32, priority: u8) {
        let word = u64::from(intid / 32);
        self.gicd.write(at(0, 0x100 + 4 * word, Width::Bits32), 1 << (intid % 32));
        self.gicd.write(at(0, 0x400 + u64::from(intid), Width::Bits8), u64::from(priority));
    }

    pub(super) fn enable_private(&self, vcpu: u64, intid: u32) {
        let frame = vcpu * REDISTRIBUTOR_BYTES + 0x1_0000;
        self.gicr.write(at(0, frame + 0x100, Width::Bits32), 1 << intid);
    }

    pub(super) fn enter(&self) {
        self.vgic.flush(0, &self.gic);
    }

    pub(super) fn exit(&self) {
        self.vgic.fold(0, &self.gic);
    }

    /// The guest takes and ends everything, coming out only for maintenance.
    pub(super) fn drain(&self) -> Vec<u32> {
        let mut taken = Vec::new();
        self.enter();
        for _ in 0..1000 {
            match self.gic.guest_acknowledge() {
                Some(intid) => {
                    taken.push(intid);
                    self.gic.guest_end(intid);
                }
                None if self.gic.maintenance() => {}
                None => return taken,
            }
            if self.gic.maintenance() {
                self.exit();
                self.enter();
            }
        }
        panic!("maintenance without end");
    }
}

#[test]
fn sixty_four_at_once_come_in_order_of_priority() {
    for version in [Version::V2, Version::V3] {
        sixty_four_at_once(&machine(version, 1));
    }
}

fn sixty_four_at_once(m: &Machine) {
    let mut wanted = Vec::new();
    for index in 0..64u32 {
        let priority = ((index * 37 % 32) * 8) as u8;
        m.enable(40 + index, priority);
        wanted.push((priority, 40 + index));
        m.vgic.pulse(0, 40 + index);
    }
    wanted.sort();
    let wanted: Vec<u32> = wanted.into_iter().map(|(_, intid)| intid).collect();
    assert_eq!(m.drain(), wanted);
}

#[test]
fn more_nested_than_registers_still_end() {
    let m = machine(Version::V3, 1);
    // Six interrupts, each more urgent than the one it interrupts.
    for step in 0..6u32 {
        m.enable(40 + step, (0xa0 - 0x10 * step) as u8);
        m.exit();
        m.vgic.pulse(0, 40 + step);
        m.enter();
        assert_eq!(m.gic.guest_acknowledge(), Some(40 + step));
    }
    for step in (0..6).rev() {
        m.gic.guest_end(40 + step);
        if m.gic.maintenance() {
            m.exit();
            m.enter();
        }
    }
    m.exit();
    assert_eq!(m.gicd.read(at(0, 0x304, Width::Bits32)), 0, "nothing is active any more");
    m.vgic.pulse(0, 40);
    assert_eq!(m.drain(), [40], "and the first can come again");
}

#[test]
fn a_level_comes_again_until_it_falls() {
    let m = machine(Version::V3, 1);
    m.enable(33, 0xa0);
    m.vgic.set_line(0, 33, true);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(33));
    m.gic.guest_end(33);
    assert!(m.gic.maintenance(), "the line is still high: the end must be seen");
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(33));
    // The handler silences the device, which takes an exit.
    m.exit();
    m.vgic.set_line(0, 33, false);
    m.enter();
    m.gic.guest_end(33);
    assert!(!m.gic.maintenance(), "nothing left to look at: no exit");
    // High and low before the guest looks: withdrawn.
    m.exit();
    m.vgic.set_line(0, 33, true);
    m.enter();
    m.exit();
    m.vgic.set_line(0, 33, false);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
}

#[test]
fn an_edge_while_active_is_not_lost() {
    let m = machine(Version::V3, 1);
    m.enable(40, 0xa0);
    m.gicd.write(at(0, 0xc08, Width::Bits32), 2 << 16);
    m.vgic.set_line(0, 40, true);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
    m.exit();
    m.vgic.set_line(0, 40, false);
    m.vgic.set_line(0, 40, true);
    m.enter();
    assert_eq!(m.gic.list()[0].state, LrState::PendingActive);
    m.gic.guest_end(40);
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
}

#[test]
fn a_linked_interrupt_is_deactivated_once_however_it_ends() {
    for version in [Version::V2, Version::V3] {
        linked_ends_once(&machine(version, 1));
    }
}

fn linked_ends_once(m: &Machine) {
    let ended = |m: &Machine| {
        let calls = m.gic.take_calls();
        calls.iter().filter(|call| matches!(call, FakeCall::Deactivate(77))).count()
    };
    m.vgic.link(40, 77);
    assert_eq!(m.vgic.linked(77), Some(40));
    m.enable(40, 0xa0);
    // By the guest, in hardware.
    m.vgic.forward(0, 40);
    assert_eq!(m.drain(), [40]);
    m.exit();
    m.enter();
    assert_eq!(ended(m), 1);
    // By a register write before it was taken.
    m.exit();
    m.vgic.forward(0, 40);
    m.enter();
    m.exit();
    m.gicd.write(at(0, 0x284, Width::Bits32), 1 << 8);
    m.enter();
    assert_eq!(ended(m), 1);
    assert_eq!(m.gic.guest_acknowledge(), None);
    // By a register write while active.
    m.exit();
    m.vgic.forward(0, 40);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
    m.exit();
    m.gicd.write(at(0, 0x384, Width::Bits32), 1 << 8);
    m.enter();
    assert_eq!(ended(m), 1);
    // Disabled: it waits, and nothing is ended.
    m.exit();
    m.gicd.write(at(0, 0x184, Width::Bits32), 1 << 8);
    m.vgic.forward(0, 40);
    m.enter();
    assert_eq!((ended(m), m.gic.guest_acknowledge()), (0, None));
    // The VM ends while it waits, or while it is active.
    m.exit();
    m.vgic.retire(0, &m.gic);
    assert_eq!(ended(m), 0, "another vCPU may take it");
    m.vgic.surrender(&m.gic);
    assert_eq!(ended(m), 1);
    m.gicd.write(at(0, 0x104, Width::Bits32), 1 << 8);
    m.vgic.forward(0, 40);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(40));
    m.vgic.retire(0, &m.gic);
    m.vgic.surrender(&m.gic);
    assert_eq!(ended(m), 1);
    m.vgic.reset();
    m.exit();
    m.vgic.forward(0, 40);
    m.vgic.unlink(40);
    m.enter();
    assert_eq!(ended(m), 1, "its link is gone: nothing of the guest's ends it");
}

#[test]
fn version_two_deactivates_a_timer_by_a_write_that_the_distributor_sees() {
    let m = machine(Version::V2, 1);
    m.vgic.link(27, 30);
    m.enable(27, 0x80);
    let deactivated = || m.gic.take_calls().contains(&FakeCall::Deactivate(30));
    // It fires again before the guest ended it, even over an exit: while it is active nothing
    // more comes from the physical controller.
    for exit in [false, true] {
        m.vgic.forward(0, 27);
        m.enter();
        assert_eq!(m.gic.guest_acknowledge(), Some(27));
        if exit {
            m.exit();
            m.vgic.sample(0, 1 << 27, 1 << 27);
            m.enter();
        }
        m.gic.guest_end(27);
        assert!(!deactivated(), "not by the list register");
        assert!(m.gic.maintenance(), "the end comes out");
        m.exit();
        m.enter();
        assert!(deactivated(), "by the hypervisor");
        assert_eq!(m.gic.guest_acknowledge(), None);
        assert!(!m.gic.maintenance());
        m.exit();
    }
}

#[test]
fn a_timer_disarmed_before_it_was_taken_is_withdrawn() {
    let m = machine(Version::V3, 1);
    m.vgic.link(27, 27);
    m.enable_private(0, 27);
    m.vgic.forward(0, 27);
    m.enter();
    m.exit();
    let pending = || m.gicr.read(at(0, 0x1_0200, Width::Bits32)) >> 27 & 1;
    m.vgic.sample(0, 1 << 27, 1 << 27);
    assert_eq!(pending(), 1);
    m.vgic.sample(0, 1 << 27, 0);
    assert_eq!(pending(), 0);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
    assert!(m.gic.take_calls().contains(&FakeCall::Deactivate(27)));
    // High, and active in the guest: seen as pending, and not delivered twice.
    m.exit();
    m.vgic.forward(0, 27);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(27));
    m.exit();
    m.vgic.sample(0, 1 << 27, 1 << 27);
    assert_eq!(pending(), 1);
    m.enter();
    assert_eq!(m.gic.list()[0].state, LrState::Active);
    m.gic.guest_end(27);
    assert!(!m.gic.maintenance());
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None, "the physical one fires again by itself");
}

#[test]
fn an_sgi_reaches_the_vcpus_named_and_kicks_them() {
    let m = machine(Version::V3, 3);
    for vcpu in 0..3 {
        m.enable_private(vcpu, 5);
    }
    m.vgic.take_kicks();
    m.vgic.generate(0, 5 << 24 | 0b101, false);
    assert_eq!(m.vgic.take_kicks(), 0b100, "the sender is out, and looks by itself");
    assert!(!m.vgic.is_quiet(0));
    m.vgic.generate(0, 5 << 24 | 0b111, true);
    assert_eq!(m.vgic.take_kicks(), 0, "group 0 there");
    m.vgic.generate(1, 1 << 40 | 5 << 24, false);
    assert_eq!(m.vgic.take_kicks(), 0, "pending there already: kicked before");
    m.vgic.generate(0, 1 << 40 | 5 << 24, false);
    assert_eq!(m.vgic.take_kicks(), 0b010, "all but the sender");
    m.vgic.generate(1, 1 << 16 | 5 << 24 | 1, false);
    assert_eq!(m.vgic.take_kicks(), 0, "another cluster");
    assert_eq!(m.drain(), [5]);
}

#[test]
fn every_interrupt_raised_counts_whatever_becomes_of_it() {
    let m = machine(Version::V3, 1);
    m.enable_private(0, 5);
    let send = || m.vgic.generate(0, 5 << 24 | 1, false);
    send();
    m.enter();
    m.vgic.take_kicks();
    send();
    assert_eq!(m.vgic.take_kicks(), 0, "the sender is out");
    assert!(!m.vgic.is_quiet(0), "the register's may have been taken since");
    m.enter();
    assert_eq!(m.drain(), [5], "it was not: two became one");
    assert_eq!(m.vgic.raised(), 2);
    m.exit();
    send();
    m.enter();
    assert_eq!(m.drain(), [5], "a new one is not lost");
    assert_eq!(m.vgic.raised(), 3);
}

#[test]
fn version_two_keeps_the_senders_apart() {
    let m = machine(Version::V2, 3);
    m.enable(3, 0x80);
    m.gicd.write(at(1, 0xf00, Width::Bits32), 1 << 16 | 3);
    m.gicd.write(at(2, 0xf00, Width::Bits32), 1 << 24 | 3);
    assert_eq!(m.gicd.read(at(0, 0xf20, Width::Bits32)), 0b110 << 24);
    m.enter();
    assert_eq!(m.gic.list()[0].source, 1);
    assert_eq!(m.drain(), [3, 3]);
    assert_eq!(m.gicd.read(at(1, 0x800, Width::Bits32)), 0x0202_0202);
    m.gicd.write(at(0, 0x828, Width::Bits8), 0b1111_1100);
    assert_eq!(m.gicd.read(at(0, 0x828, Width::Bits32)), 0b100, "three vCPUs there are");
    assert_eq!(m.gicd.read(at(0, 4, Width::Bits32)), 2 << 5 | 8);
}

#[test]
fn a_shared_interrupt_follows_its_route() {
    let m = machine(Version::V3, 2);
    m.enable(40, 0xa0);
    m.gicd.write(at(0, 0x6000 + 320, Width::Bits64), 1);
    m.vgic.take_kicks();
    m.vgic.pulse(0, 40);
    assert_eq!(m.vgic.take_kicks(), 0b10);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
    m.gicd.write(at(0, 0x6000 + 320, Width::Bits64), 9);
    assert_eq!(m.gicd.read(at(0, 0x6000 + 320, Width::Bits64)), 9);
    m.gicd.write(at(0, 0x6000 + 320, Width::Bits32), 0);
    assert_eq!(m.drain(), [40]);
}

#[test]
fn redistributors_tell_who_they_are() {
    let m = machine(Version::V3, 2);
    assert_eq!(m.gicr.read(at(0, 8, Width::Bits64)), 0);
    let second = REDISTRIBUTOR_BYTES;
    assert_eq!(m.gicr.read(at(0, second + 8, Width::Bits64)), 1 << 32 | 1 << 8 | 1 << 4);
    assert_eq!(m.gicr.read(at(0, second + 0x14, Width::Bits32)), 6);
    m.gicr.write(at(0, second + 0x14, Width::Bits32), 0);
    assert_eq!(m.gicr.read(at(0, second + 0x14, Width::Bits32)), 0);
    m.gicr.write(at(0, second + 0x1_0400 + 30, Width::Bits8), 0xff);
    assert_eq!(m.gicr.read(at(0, second + 0x1_041c, Width::Bits32)), 0xf8 << 16);
    assert_eq!(m.gicr.read(at(0, 0x1_041c, Width::Bits32)), 0);
}

#[test]
fn any_access_to_any_register_is_survived() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for version in [Version::V2, Version::V3] {
        let m = machine(version, 3);
        m.vgic.link(50, 77);
        for _ in 0..20_000 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let width = [Width::Bits8, Width::Bits16, Width::Bits32, Width::Bits64]
                [(seed >> 60) as usize & 3];
            let near = if seed >> 50 & 1 != 0 { 0xffff } else { 0xfff };
            let access =
                at((seed >> 40) as usize % 3, seed >> 20 & near & !(width.bytes() - 1), width);
            let gicr = at(access.vcpu, access.offset + (seed >> 13 & 7) * 0x1_0000, width);
            m.gicd.write(access, seed >> 7);
            m.gicd.read(access);
            m.gicr.write(gicr, seed >> 9);
            m.gicr.read(gicr);
            m.vgic.forward(0, 50);
            m.enter();
            let taken = m.gic.guest_acknowledge();
            m.gic.guest_end(taken.unwrap_or(40));
            m.exit();
            m.gic.take_calls();
        }
        m.vgic.retire(0, &m.gic);
        assert!(m.gic.list().iter().all(|lr| lr.state == LrState::Invalid));
        assert_eq!(m.gic.list_registers(), 4);
    }
}

#[test]
fn lpis_are_sent_where_they_are_mapped_and_have_no_active_state() {
    let m = machine(Version::V3, 2);
    assert_eq!(m.gicd.read(at(0, 4, Width::Bits32)) >> 17 & 1, 0);
    m.vgic.offer_lpis();
    assert_eq!(m.gicd.read(at(0, 4, Width::Bits32)) >> 17 & 0x7f, 13 << 2 | 1);
    m.gicr.write(at(0, 0x70, Width::Bits64), 0x4100_0000 | 13);
    assert_eq!(m.gicr.read(at(0, 0x70, Width::Bits64)), 0x4100_0000 | 13);
    assert_eq!(m.vgic.lpi_configuration(8195), Some(0x4100_0003));
    assert_eq!(m.vgic.lpi_configuration(1 << 14), None);
    m.gicr.write(at(0, 0, Width::Bits32), 1);
    m.vgic.map_lpi(8195, 0);
    m.vgic.set_lpi_pending(8195, true);
    assert_eq!(m.drain(), [], "disabled");
    m.vgic.configure_lpi(8195, 0xa1);
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), Some(8195));
    // The hardware frees an LPI's register when it is taken.
    m.gic.guest_end(8195);
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None, "once");
    // Moved, and taken back, while listed.
    m.exit();
    m.vgic.set_lpi_pending(8195, true);
    m.enter();
    m.vgic.take_kicks();
    m.vgic.move_lpi(8195, 1);
    assert_eq!(m.vgic.take_kicks(), 1);
    m.exit();
    assert_eq!(m.vgic.take_kicks(), 2, "the new one is told");
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
    m.exit();
    m.vgic.move_lpi(8195, 0);
    m.enter();
    m.vgic.unmap_lpi(8195);
    m.exit();
    m.enter();
    assert_eq!(m.gic.guest_acknowledge(), None);
}
