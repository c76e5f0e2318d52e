//! A VM's messages over a physical ITS that takes every command.
//!
//! 1. An LPI reaches the vCPU and number that the guest mapped, and nobody after it is unmapped.
//! 2. However a VM ends, every physical LPI is free again.
//! 3. However many events a command concerns, an exit gives the physical ITS few commands and waits
//!    few times; the operator goes first.
use alloc::{boxed::Box, sync::Arc, vec};
use core::sync::atomic::{AtomicU64, Ordering};

use palisade_gic::{
    FakeGic, Version,
    its::{FIRST_LPI, Its, LpiTable},
};
use palisade_hal::{
    Ipa, PhysAddr,
    fake::{Device, Width as FakeWidth},
    mmio::Mmio,
};
use palisade_iommu::Iommus;
use palisade_mem::{Arena, Frames};

use super::*;
use crate::{
    memory::{GuestMemory, Shape},
    mmio::{Access, MmioDevice, Width},
    vgic::Vgic,
};

/// An ITS whose queue is always read up to its end.
struct Swift {
    written: AtomicU64,
    queue: AtomicU64,
    tables: [AtomicU64; 2],
    /// Commands given and batches made of them.
    commands: AtomicU64,
    batches: AtomicU64,
}

impl Swift {
    /// Commands and batches since the last call.
    fn take(&self) -> (u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.commands), take(&self.batches))
    }
}

impl Device for Swift {
    fn read(&self, offset: u64, _: FakeWidth) -> u64 {
        match offset {
            0x0 => 1 << 31,
            // Physical LPIs, 16 bits of EventID and DeviceID.
            0x8 => 1 | 7 << 4 | 15 << 8 | 15 << 13,
            0x80 => self.queue.load(Ordering::Relaxed),
            0x88 | 0x90 => self.written.load(Ordering::Relaxed),
            0x100 => self.tables[0].load(Ordering::Relaxed) | 1 << 56 | 7 << 48,
            0x108 => self.tables[1].load(Ordering::Relaxed) | 4 << 56 | 7 << 48,
            _ => 0,
        }
    }

    fn write(&self, offset: u64, _: FakeWidth, value: u64) {
        match offset {
            0x80 => self.queue.store(value, Ordering::Relaxed),
            0x88 => {
                let before = self.written.swap(value, Ordering::Relaxed);
                let bytes = value.wrapping_sub(before) & 0xffff;
                self.commands.fetch_add(bytes / 32, Ordering::Relaxed);
                self.batches.fetch_add(1, Ordering::Relaxed);
            }
            0x100 => self.tables[0].store(value, Ordering::Relaxed),
            0x108 => self.tables[1].store(value, Ordering::Relaxed),
            _ => {}
        }
    }
}

const QUEUE: u64 = 0x4010_0000;
const CONFIG: u64 = 0x4020_0000;

fn at(offset: u64) -> Access {
    Access { vcpu: 0, offset, width: Width::Bits64 }
}

/// A physical ITS in service for core 3.
fn its(frames: &Arc<Frames>) -> (Arc<Swift>, Its) {
    let zero = || AtomicU64::new(0);
    let swift = Arc::new(Swift {
        written: zero(),
        queue: zero(),
        tables: [zero(), zero()],
        commands: zero(),
        batches: zero(),
    });
    let mmio = Mmio::fake(swift.clone(), 0x2_0000);
    let env = palisade_hal::cpu::Counter;
    let its = Its::new(mmio, PhysAddr::new(0x0808_0000), frames, &env).unwrap();
    its.map_core(&env, 3, 0).unwrap();
    (swift, its)
}

/// A VM with device 8, its service in reach of the guest's queue.
struct Bench {
    device: Arc<ItsDevice>,
    messages: Arc<Messages>,
    memory: Arc<GuestMemory>,
    vgic: Arc<Vgic>,
    gic: FakeGic,
    swift: Arc<Swift>,
    frames: Arc<Frames>,
    _arena: Arena,
}

impl Bench {
    fn new() -> Self {
        let arena = Arena::new(PhysAddr::new(0x8000_0000), 4096);
        let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
        let cpus = Arc::new(frames.register_agent("cpus").unwrap());
        let iommus = Arc::new(Iommus::new(4, 16));
        let owner = iommus.owners().open(0).unwrap();
        let shape = Shape { pa_bits: 44, vmid16: true, dma_bits: 44, dma_coherent: true };
        let formats = Box::leak(Box::new(palisade_pgtable::Registry::new()));
        formats.register(&palisade_pgtable::STAGE2_4K[0]).unwrap();
        let memory = GuestMemory::new(frames.clone(), cpus, iommus, owner, shape, formats).unwrap();
        memory.add_ram(Ipa::new(0x4000_0000), 4 << 20, &[]).unwrap();

        let (swift, its) = its(&frames);
        let messages = Messages::new(its, LpiTable::new(&frames).unwrap());

        let vgic = Vgic::new(Version::V3, 1);
        vgic.offer_lpis();
        let gic = FakeGic::new(Version::V3, 4);
        let distributor = crate::vgic::Distributor::new(vgic.clone());
        let redistributor = crate::vgic::Redistributors::new(vgic.clone());
        let word = |offset| Access { vcpu: 0, offset, width: Width::Bits32 };
        distributor.write(word(0), 3);
        redistributor.write(at(0x70), CONFIG | 13);
        redistributor.write(word(0), 1);

        let senders = vec![Sender { guest: 8, physical: 0x100 }];
        let device =
            ItsDevice::new(messages.clone(), vgic.clone(), memory.clone(), vec![3], senders);
        Self { device, messages, memory, vgic, gic, swift, frames, _arena: arena }
    }

    /// Writes a command into slot `index` of the guest's queue.
    fn write(&self, index: u64, command: [u64; 4]) {
        for (part, word) in command.iter().enumerate() {
            let place = QUEUE + 32 * index + 8 * part as u64;
            assert!(self.memory.write(Ipa::new(place), &word.to_le_bytes()));
        }
    }

    /// Starts the service with the first `count` commands of the queue.
    fn start(&self, count: u64) {
        self.device.write(at(0x80), 1 << 63 | QUEUE | 15);
        self.device.write(Access { width: Width::Bits32, ..at(0) }, 1);
        self.put(count);
    }

    /// The guest's queue has `count` commands by now: until all were worked on. An exit's share may
    /// be small on a slow host.
    fn put(&self, count: u64) {
        self.device.write(at(0x88), count * 32);
        while self.device.is_behind() {
            self.device.go_on();
        }
    }
}

#[test]
fn messages_reach_whom_the_guest_says_until_it_ends() {
    let bench = Bench::new();
    let Bench { device, messages, memory, vgic, gic, .. } = &bench;
    // The guest enables LPI 8200 with priority 0xa0.
    assert!(memory.write(Ipa::new(CONFIG + 8), &[0xa1]));
    // MAPC collection 0 → vCPU 0; MAPD device 8, two bits; MAPTI event 1 → 8200, collection 0.
    let commands: [[u64; 4]; 4] = [
        [0x09, 0, 1 << 63, 0],
        [0x08 | 8 << 32, 1, 1 << 63 | CONFIG, 0],
        [0x0a | 8 << 32, 8200 << 32 | 1, 0, 0],
        // A device that is another's.
        [0x08 | 9 << 32, 1, 1 << 63 | CONFIG, 0],
    ];
    (0..).zip(commands).for_each(|(index, command)| bench.write(index, command));
    bench.start(4);
    assert_eq!(device.refused(), (1, 0), "the other's device");
    assert_eq!(messages.lpis().in_use(), 1);

    assert!(messages.raise(FIRST_LPI), "the first physical LPI");
    vgic.flush(0, gic);
    assert_eq!(gic.guest_acknowledge(), Some(8200));
    assert!(!messages.raise(FIRST_LPI + 1), "nobody's");

    // The device goes while the VM runs, and comes back.
    device.remove_sender(8);
    assert_eq!(messages.lpis().in_use(), 0);
    assert!(!messages.raise(FIRST_LPI), "the device is gone");
    let put = |index: u64, command: [u64; 4]| {
        bench.write(index, command);
        bench.put(index + 1);
    };
    put(4, commands[1]);
    assert_eq!(device.refused(), (2, 0), "no device of its own any more");
    device.add_sender(Sender { guest: 8, physical: 0x200 });
    put(5, commands[2]);
    assert_eq!(device.refused(), (3, 0), "what it had mapped is gone");
    put(6, commands[1]);
    put(7, commands[2]);
    assert_eq!(device.refused(), (3, 0));
    assert_eq!(messages.lpis().in_use(), 1);

    device.reset();
    assert_eq!(messages.lpis().in_use(), 0);
    assert!(!messages.raise(FIRST_LPI), "it ended");
}

/// How many LPIs a VM has.
const QUOTA: u64 = crate::vgic::LPIS as u64;

/// Maps every LPI of the VM; the number of commands that took, all of them accepted.
fn map_all(bench: &Bench) -> u64 {
    bench.write(0, [0x09, 0, 1 << 63, 0]);
    bench.write(1, [0x08 | 8 << 32, 10, 1 << 63 | CONFIG, 0]);
    for event in 0..QUOTA {
        bench.write(2 + event, [0x0a | 8 << 32, (8192 + event) << 32 | event, 0, 0]);
    }
    let commands = QUOTA + 2;
    bench.start(commands);
    while bench.device.read(at(0x90)) != commands * 32 {}
    assert_eq!(bench.device.refused(), (0, 0));
    commands
}

#[test]
fn a_vm_that_maps_all_it_can_leaves_lpis_to_the_others() {
    let bench = Bench::new();
    let commands = map_all(&bench);
    // One that it has not.
    bench.write(commands, [0x0a | 8 << 32, (8192 + QUOTA) << 32 | QUOTA, 0, 0]);
    bench.put(commands + 1);
    assert_eq!(bench.device.refused(), (1, 0), "the one too many");
    assert_eq!(bench.messages.lpis().in_use(), QUOTA as u32);
    assert!(bench.messages.lpis().alloc().is_ok(), "another VM's");
    // DISCARD makes room.
    bench.write(commands + 1, [0x0f | 8 << 32, 0, 0, 0]);
    bench.write(commands + 2, [0x0a | 8 << 32, 8192 << 32 | QUOTA, 0, 0]);
    bench.put(commands + 3);
    assert_eq!(bench.device.refused(), (1, 0));
}

#[test]
fn an_exit_has_a_bounded_share_of_the_physical_its() {
    let bench = Bench::new();
    let mut commands = map_all(&bench);
    let bound = u64::from(WORK_PER_EXIT) + 2 * PIECE as u64;
    // INVALL a hundred times over, MAPC there and back, MOVALL, and the table taken away.
    let invall = [0x0d, 0, 0, 0];
    let mut queue = vec![invall; 100];
    queue.push([0x0e, 0, 0, 0]);
    queue.push([0x08 | 8 << 32, 0, 0, 0]);
    for command in queue {
        bench.write(commands % 2048, command);
        commands += 1;
    }
    bench.swift.take();
    let (mut exits, mut sum) = (1, 0);
    bench.device.write(at(0x88), commands % 2048 * 32);
    loop {
        let (given, batches) = bench.swift.take();
        assert!(
            given <= bound && batches <= u64::from(WORK_PER_EXIT),
            "{given} commands in {batches} waits"
        );
        sum += given;
        if !bench.device.is_behind() {
            break;
        }
        bench.device.go_on();
        exits += 1;
    }
    // Two for each INVALL; a DISCARD for each event, and few more.
    assert!(sum <= 200 + QUOTA + 100, "{sum} commands in all");
    assert!(exits > 100, "{exits} exits");
    assert_eq!((bench.device.refused(), bench.messages.lpis().in_use()), ((0, 0), 0));
}

#[test]
fn the_operator_does_not_wait_behind_a_guests_queue() {
    let bench = Bench::new();
    let commands = map_all(&bench);
    for index in 0..900 {
        bench.write(commands + index, [0x0d, 0, 0, 0]);
    }
    bench.device.write(at(0x88), (commands + 900) * 32);
    assert!(bench.device.is_behind());
    bench.swift.take();
    bench.device.remove_sender(8);
    let (given, batches) = bench.swift.take();
    assert!(batches <= QUOTA / PIECE as u64 + 1, "its own work only: {given} in {batches}");
    assert!(bench.device.is_behind(), "the queue waits still");
    assert!(!bench.messages.raise(FIRST_LPI));
}

#[test]
fn a_share_ends_by_work_and_when_somebody_is_in_a_hurry() {
    let clock = palisade_hal::cpu::Counter;
    let hurry = Arc::new(core::sync::atomic::AtomicU32::new(0));
    let mut budget = Budget::new(hurry.clone());
    assert!(!budget.is_left(&clock), "none before it is renewed");
    budget.renew();
    budget.charge(WORK_PER_EXIT as usize - 1);
    assert!(budget.is_left(&clock));
    budget.charge(1);
    assert!(!budget.is_left(&clock), "its work is done");
    budget.renew();
    hurry.store(1, Ordering::Relaxed);
    assert!(!budget.is_left(&clock), "the operator waits");
}

/// Each ITS gets the commands of its own devices; LPIs and who is behind them are one for all.
#[test]
fn a_devices_messages_go_to_its_own_its() {
    let mut bench = Bench::new();
    let (other, its) = its(&bench.frames);
    let messages = bench.messages.beside(its);
    let senders = vec![Sender { guest: 16, physical: 0x100 }];
    let (vgic, memory) = (bench.vgic.clone(), bench.memory.clone());
    let second = ItsDevice::new(messages, vgic, memory, vec![3], senders);
    let map = |device: u64, lpi: u64| -> [[u64; 4]; 3] {
        [
            [0x09, 0, 1 << 63, 0],
            [0x08 | device << 32, 1, 1 << 63 | CONFIG, 0],
            [0x0a | device << 32, lpi << 32 | 1, 0, 0],
        ]
    };
    let _ = (bench.swift.take(), other.take());
    for (index, command) in (0..).zip(map(8, 8200)) {
        bench.write(index, command);
    }
    bench.start(3);
    assert!(bench.swift.take().0 > 0 && other.take().0 == 0);
    for (index, command) in (0..).zip(map(16, 8201)) {
        bench.write(index, command);
    }
    let first = core::mem::replace(&mut bench.device, second);
    bench.start(3);
    assert!(bench.swift.take().0 == 0 && other.take().0 > 0);
    assert_eq!((bench.messages.lpis().in_use(), bench.messages.routes()), (2, 2));
    // Whichever is asked, each is its owner's, and no LPI is given twice.
    assert!([FIRST_LPI, FIRST_LPI + 1].into_iter().all(|lpi| bench.messages.raise(lpi)));
    first.reset();
    assert_eq!(
        (bench.messages.raise(FIRST_LPI), bench.messages.raise(FIRST_LPI + 1)),
        (false, true)
    );
    bench.device.reset();
    assert_eq!(bench.messages.lpis().in_use(), 0);
}
