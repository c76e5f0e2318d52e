//! 1. A guest that maps a device, an event and a collection gets its LPIs at the right vCPU.
//! 2. It can name only its own devices, events inside their tables, LPIs not yet taken.
//! 3. Whatever stands in the queue, nothing hangs: each exit does a bounded amount of work, also
//!    where one command concerns every event; the queue is worked off in the end.
//! 4. Taking a table away, or resetting, unmaps every event behind it.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use palisade_gic::its::Command;

use super::*;

const QUEUE: u64 = 0x4100_0000;
const DEVICE: u32 = 8;

#[derive(Default)]
struct World {
    queue: Vec<u8>,
    routes: BTreeMap<(u32, u32), (u32, usize)>,
    tables: BTreeMap<u32, u8>,
    pending: Vec<(u32, bool)>,
    moved: Vec<(usize, usize)>,
    configured: BTreeMap<u32, u8>,
    refreshed: Vec<u32>,
    refreshed_all: Vec<usize>,
    /// Work of the exit under way, and how much one may do; none means any amount.
    work: usize,
    most: Option<usize>,
}

impl Backend for World {
    fn vcpus(&self) -> usize {
        2
    }
    fn may_go_on(&mut self) -> bool {
        self.most.is_none_or(|most| self.work < most)
    }
    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool {
        self.work += 1;
        let Some(at) = ipa.checked_sub(QUEUE) else { return false };
        match self.queue.get(at as usize..at as usize + to.len()) {
            Some(bytes) => to.copy_from_slice(bytes),
            None => return false,
        }
        true
    }
    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool {
        self.work += 1;
        match event_bits {
            Some(bits) => self.tables.insert(device, bits).is_none(),
            None => self.tables.remove(&device).is_some(),
        }
    }
    fn map_event(&mut self, device: u32, route: Route, vcpu: usize) -> bool {
        self.work += 1;
        self.configured.insert(route.intid, (route.intid & 0xfc) as u8 | 1);
        self.routes.insert((device, route.event), (route.intid, vcpu)).is_none()
    }
    fn move_events(&mut self, device: u32, routes: &[Route], to: usize) {
        assert!(routes.len() <= PIECE);
        self.work += routes.len();
        for route in routes {
            let old = self.routes.insert((device, route.event), (route.intid, to));
            assert_eq!(old.map(|old| old.0), Some(route.intid));
        }
    }
    fn unmap_events(&mut self, device: u32, routes: &[Route]) {
        assert!(routes.len() <= PIECE);
        self.work += routes.len();
        for route in routes {
            let old = self.routes.remove(&(device, route.event));
            assert_eq!(old.map(|old| old.0), Some(route.intid));
        }
    }
    fn configure(&mut self, _device: u32, routes: &[Route]) {
        assert!(routes.len() <= PIECE);
        self.work += routes.len();
        for route in routes {
            self.configured.insert(route.intid, (route.intid & 0xfc) as u8 | 1);
        }
    }
    fn refresh(&mut self, _device: u32, route: Route) {
        self.work += 1;
        self.refreshed.push(route.intid);
    }
    fn refresh_all(&mut self, vcpu: usize) {
        self.work += 1;
        self.refreshed_all.push(vcpu);
    }
    fn set_pending(&mut self, intid: u32, pending: bool) {
        self.pending.push((intid, pending));
    }
    fn move_pending(&mut self, from: usize, to: usize) {
        self.moved.push((from, to));
    }
}

fn guest(commands: &[Command]) -> (VirtualIts, World) {
    let mut world = World { queue: vec![0; 65536], ..World::default() };
    let mut its = VirtualIts::new([DEVICE]);
    its.write(0x80, 8, 1 << 63 | QUEUE | 15, &mut world);
    its.write(0, 4, 1, &mut world);
    send(&mut its, &mut world, commands);
    (its, world)
}

fn send(its: &mut VirtualIts, world: &mut World, commands: &[Command]) {
    let mut at = its.read(0x88, 8, world) as usize;
    for command in commands {
        for (word, value) in command.encode().into_iter().enumerate() {
            world.queue[at + word * 8..at + word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        at = (at + 32) % 65536;
    }
    its.write(0x88, 8, at as u64, world);
}

fn mapped() -> Vec<Command> {
    vec![
        Command::Mapc { collection: 0, target: 0, valid: true },
        Command::Mapc { collection: 1, target: 1, valid: true },
        Command::Mapd { device: DEVICE, event_bits: 4, table: 0x4200_0000, valid: true },
        Command::Mapti { device: DEVICE, event: 2, intid: 8200, collection: 1 },
    ]
}

#[test]
fn an_event_is_routed_configured_and_moved() {
    let (mut its, mut world) = guest(&mapped());
    assert_eq!(world.routes, BTreeMap::from([((DEVICE, 2), (8200, 1))]));
    assert_eq!(world.configured[&8200], 8 | 1);
    send(
        &mut its,
        &mut world,
        &[
            Command::Int { device: DEVICE, event: 2 },
            Command::Movi { device: DEVICE, event: 2, collection: 0 },
            Command::Clear { device: DEVICE, event: 2 },
            Command::Movall { from: 0, to: 1 },
            Command::Sync { target: 0 },
        ],
    );
    assert_eq!(world.pending, [(8200, true), (8200, false)]);
    assert_eq!(world.moved, [(0, 1)]);
    assert_eq!(world.routes[&(DEVICE, 2)], (8200, 0), "MOVALL moves what is pending only");
    assert_eq!(its.refused(), 0);
    assert_eq!(its.read(0x90, 8, &mut world), 9 * 32, "all were executed");
}

#[test]
fn only_own_devices_events_and_free_lpis() {
    let (mut its, mut world) = guest(&mapped());
    let before = world.routes.clone();
    let bad = [
        Command::Mapd { device: 9, event_bits: 4, table: 0, valid: true },
        Command::Mapd { device: DEVICE, event_bits: 32, table: 0, valid: true },
        Command::Mapti { device: 9, event: 0, intid: 8300, collection: 0 },
        Command::Mapti { device: DEVICE, event: 16, intid: 8300, collection: 0 },
        Command::Mapti { device: DEVICE, event: 3, intid: 8200, collection: 0 },
        Command::Mapti { device: DEVICE, event: 2, intid: 8300, collection: 0 },
        Command::Mapti { device: DEVICE, event: 3, intid: 100, collection: 0 },
        Command::Mapti { device: DEVICE, event: 3, intid: 8192 + 1024, collection: 0 },
        Command::Mapti { device: DEVICE, event: 3, intid: 8300, collection: 5 },
        Command::Mapti { device: DEVICE, event: 3, intid: 8300, collection: 0xffff },
        Command::Mapc { collection: 2, target: 2, valid: true },
        Command::Mapc { collection: 99, target: 0, valid: true },
        Command::Int { device: DEVICE, event: 3 },
        Command::Discard { device: DEVICE, event: 3 },
        Command::Movi { device: DEVICE, event: 2, collection: 7 },
        Command::Movall { from: 0, to: 2 },
        Command::Inv { device: 9, event: 0 },
        Command::Invall { collection: 3 },
    ];
    send(&mut its, &mut world, &bad);
    assert_eq!(its.refused(), bad.len() as u64);
    assert_eq!(world.routes, before);
    assert!(world.pending.is_empty());
}

#[test]
fn a_hostile_queue_is_bounded_and_ends() {
    let (mut its, mut world) = guest(&[]);
    world.queue.fill(0xff);
    (world.work, world.most) = (0, Some(100));
    its.write(0x88, 8, 0xffe0, &mut world);
    assert_eq!(world.work, 100);
    assert!(its.has_work());
    while its.has_work() {
        world.work = 0;
        its.read(0x90, 8, &mut world);
        assert!(world.work <= 100);
    }
    assert_eq!(its.refused(), 2047);
    // A queue that lies outside the guest's memory, and a pointer outside the queue.
    its.write(0, 4, 0, &mut world);
    its.write(0x80, 8, 1 << 63 | 0x1000, &mut world);
    its.write(0, 4, 1, &mut world);
    its.write(0x88, 8, 0x40, &mut world);
    its.write(0x88, 8, 0xf_ffe0, &mut world);
    assert!(!its.has_work());
}

#[test]
fn taking_the_table_away_unmaps_its_events() {
    let (mut its, mut world) = guest(&mapped());
    let unmap = Command::Mapd { device: DEVICE, event_bits: 1, table: 0, valid: false };
    send(&mut its, &mut world, &[unmap]);
    assert!(world.routes.is_empty() && world.tables.is_empty());
    send(&mut its, &mut world, &mapped()[2..]);
    its.reset(&mut world);
    assert!(world.routes.is_empty() && world.tables.is_empty());
}

#[test]
fn registers_hold_what_the_manual_says() {
    let (mut its, mut world) = guest(&[]);
    assert_eq!(its.read(0xffe8, 4, &mut world), 0x3b);
    assert_eq!(its.read(0x100, 8, &mut world) >> 48, 0x0107);
    assert_eq!(its.read(0x108, 8, &mut world) >> 48, 0x0407);
    // While enabled, queue and tables are fixed.
    its.write(0x80, 8, 0, &mut world);
    its.write(0x100, 8, !0, &mut world);
    assert_eq!(its.read(0x80, 8, &mut world), 1 << 63 | QUEUE | 15);
    assert_eq!(its.read(0x100, 8, &mut world) & 0xffff_ffff, 0x200);
    its.write(0, 4, 0, &mut world);
    assert_eq!(its.read(0, 4, &mut world), 1 << 31);
    // Halves of a doubleword.
    its.write(0x104, 4, 0x8000_0000, &mut world);
    its.write(0x100, 4, 0x1234, &mut world);
    assert_eq!(its.read(0x100, 8, &mut world), 1 << 63 | 0x0107 << 48 | 0x1234);
    assert_eq!(its.read(0x104, 4, &mut world), 0x8107_0000);
}

/// All that a VM can map, in one collection.
fn full() -> (VirtualIts, World) {
    let mut commands = mapped()[..2].to_vec();
    commands.push(Command::Mapd { device: DEVICE, event_bits: 11, table: 0, valid: true });
    for event in 0..1024 {
        let intid = 8192 + event;
        commands.push(Command::Mapti { device: DEVICE, event, intid, collection: 0 });
    }
    let (its, world) = guest(&commands);
    assert_eq!((world.routes.len(), its.refused()), (1024, 0));
    (its, world)
}

/// Sends a command and works it off, an exit's share at a time; how many exits it took. CREADR
/// stays where it is until the command is done.
fn exits(its: &mut VirtualIts, world: &mut World, command: Command) -> usize {
    const MOST: usize = 100;
    let before = its.read(0x90, 8, world);
    (world.work, world.most) = (0, Some(MOST));
    send(its, world, &[command]);
    let mut exits = 1;
    while its.has_work() {
        assert!(world.work < MOST + PIECE + 1, "{} in one exit", world.work);
        world.work = 0;
        let read = its.read(0x90, 8, world);
        assert!(read == before || !its.has_work());
        exits += 1;
    }
    world.most = None;
    assert_eq!(its.read(0x90, 8, world), (before + 32) % 65536);
    exits
}

#[test]
fn a_command_for_every_event_is_worked_off_in_shares() {
    let (mut its, mut world) = full();
    let invall = Command::Invall { collection: 0 };
    assert!(exits(&mut its, &mut world, invall) >= 8);
    assert_eq!(world.refreshed_all, [0], "one for all of them");
    assert!(world.refreshed.is_empty(), "none for each");
    let away = Command::Mapc { collection: 0, target: 1, valid: true };
    assert!(exits(&mut its, &mut world, away) >= 8);
    assert!(world.routes.values().all(|route| route.1 == 1));
    assert_eq!(exits(&mut its, &mut world, Command::Movall { from: 0, to: 1 }), 1);
    let unmap = Command::Mapd { device: DEVICE, event_bits: 1, table: 0, valid: false };
    assert!(exits(&mut its, &mut world, unmap) >= 8);
    assert!(world.routes.is_empty() && world.tables.is_empty());
    assert_eq!(its.refused(), 0);
}

#[test]
fn what_is_begun_is_finished_though_the_guest_turns_the_service_off() {
    let (mut its, mut world) = full();
    (world.work, world.most) = (0, Some(100));
    let unmap = Command::Mapd { device: DEVICE, event_bits: 1, table: 0, valid: false };
    send(&mut its, &mut world, &[unmap]);
    its.write(0, 4, 0, &mut world);
    assert_eq!(its.read(0, 4, &mut world), 0, "disabled, and not at rest");
    // A new queue is not taken before that.
    its.write(0x80, 8, 1 << 63 | 0x4200_0000, &mut world);
    assert_eq!(its.read(0x80, 8, &mut world), 1 << 63 | QUEUE | 15);
    while its.has_work() {
        world.work = 0;
        its.advance(&mut world);
    }
    assert!(world.routes.is_empty());
    assert_eq!(its.read(0, 4, &mut world), 1 << 31);
}

#[test]
fn a_device_that_leaves_amid_a_command_takes_its_events_along() {
    let (mut its, mut world) = full();
    (world.work, world.most) = (0, Some(100));
    send(&mut its, &mut world, &[Command::Mapc { collection: 0, target: 1, valid: true }]);
    assert!(its.has_work());
    its.remove_device(DEVICE, &mut world);
    assert!(world.routes.is_empty());
    world.most = None;
    its.advance(&mut world);
    assert!(!its.has_work());
    its.add_device(DEVICE);
    send(&mut its, &mut world, &mapped()[2..]);
    assert_eq!(world.routes, BTreeMap::from([((DEVICE, 2), (8200, 1))]), "numbers are free again");
}

#[test]
fn a_collection_that_was_off_brings_its_events_to_the_new_vcpu() {
    let (mut its, mut world) = guest(&mapped());
    let off = Command::Mapc { collection: 1, target: 0, valid: false };
    send(&mut its, &mut world, &[off, Command::Mapc { collection: 1, target: 0, valid: true }]);
    assert_eq!(world.routes[&(DEVICE, 2)], (8200, 0));
}

#[test]
fn tables_have_pages_of_any_size_and_of_64_kib_out_of_reset() {
    let (_, mut world) = guest(&[]);
    let mut its = VirtualIts::new([DEVICE]);
    for register in [0x100, 0x108] {
        assert_eq!(its.read(register, 8, &mut world) >> 8 & 3, 2);
        for (written, read) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            its.write(register, 8, written << 8, &mut world);
            assert_eq!(its.read(register, 8, &mut world) >> 8 & 3, read);
        }
    }
}
