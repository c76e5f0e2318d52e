//! 1. A guest that maps a device, an event and a collection gets its LPIs at the right vCPU.
//! 2. It can name only its own devices, events inside their tables, LPIs not yet taken.
//! 3. Whatever stands in the queue, nothing hangs: each exit carries out a bounded number.
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
    pending: Vec<(u32, usize, bool)>,
    configured: BTreeMap<u32, u8>,
    reads: usize,
}

impl Backend for World {
    fn vcpus(&self) -> usize {
        2
    }
    fn read(&mut self, ipa: u64, to: &mut [u8]) -> bool {
        self.reads += 1;
        let Some(at) = ipa.checked_sub(QUEUE) else { return false };
        match self.queue.get(at as usize..at as usize + to.len()) {
            Some(bytes) => to.copy_from_slice(bytes),
            None => return false,
        }
        true
    }
    fn configuration(&mut self, intid: u32) -> u8 {
        (intid & 0xfc) as u8 | 1
    }
    fn map_device(&mut self, device: u32, event_bits: Option<u8>) -> bool {
        match event_bits {
            Some(bits) => self.tables.insert(device, bits).is_none(),
            None => self.tables.remove(&device).is_some(),
        }
    }
    fn map_event(&mut self, device: u32, event: u32, intid: u32, vcpu: usize) -> bool {
        self.routes.insert((device, event), (intid, vcpu)).is_none()
    }
    fn move_event(&mut self, device: u32, event: u32, intid: u32, from: usize, to: usize) {
        assert_eq!(self.routes.insert((device, event), (intid, to)), Some((intid, from)));
    }
    fn unmap_event(&mut self, device: u32, event: u32, intid: u32, _vcpu: Option<usize>) {
        assert_eq!(self.routes.remove(&(device, event)).map(|route| route.0), Some(intid));
    }
    fn configure(&mut self, _device: u32, _event: u32, intid: u32, _vcpu: usize, byte: u8) {
        self.configured.insert(intid, byte);
    }
    fn set_pending(&mut self, intid: u32, vcpu: usize, pending: bool) {
        self.pending.push((intid, vcpu, pending));
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
    assert_eq!(world.pending, [(8200, 1, true), (8200, 0, false)]);
    assert_eq!(world.routes[&(DEVICE, 2)], (8200, 1));
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
        Command::Mapti { device: DEVICE, event: 3, intid: 1 << 14, collection: 0 },
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
    world.reads = 0;
    its.write(0x88, 8, 0xffe0, &mut world);
    assert_eq!(world.reads, COMMANDS_PER_EXIT);
    assert!(its.is_behind());
    while its.is_behind() {
        its.read(0x90, 8, &mut world);
    }
    assert_eq!(its.refused(), 2047);
    // A queue that lies outside the guest's memory, and a pointer outside the queue.
    its.write(0, 4, 0, &mut world);
    its.write(0x80, 8, 1 << 63 | 0x1000, &mut world);
    its.write(0, 4, 1, &mut world);
    its.write(0x88, 8, 0x40, &mut world);
    its.write(0x88, 8, 0xf_ffe0, &mut world);
    assert!(!its.is_behind());
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
    assert_eq!(its.read(0x100, 8, &mut world) & 0xffff_ffff, 0);
    its.write(0, 4, 0, &mut world);
    assert_eq!(its.read(0, 4, &mut world), 1 << 31);
    // Halves of a doubleword.
    its.write(0x104, 4, 0x8000_0000, &mut world);
    its.write(0x100, 4, 0x1234, &mut world);
    assert_eq!(its.read(0x100, 8, &mut world), 1 << 63 | 0x0107 << 48 | 0x1234);
    assert_eq!(its.read(0x104, 4, &mut world), 0x8107_0000);
}
