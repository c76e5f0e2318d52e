//! The physical ITS against a small one that executes commands from memory.
//!
//! 1. Bring-up lays every table the hardware asks for before it enables anything.
//! 2. An event reaches the LPI and the core it was mapped to, and nobody after
//!    DISCARD or after the device's table was taken away.
//! 3. A command that the hardware refuses is an error with its number, and the
//!    queue goes on.
//! 4. Hardware that does not answer is a time-out, never a hang or a success, and is waited for
//!    once.
//! 5. LPIs are given once, and all come back.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use palisade_gic::its::{BATCH, Command, Deed, FIRST_LPI, Its, ItsError, LpiTable, Order};
use palisade_hal::fake::{Device, SteppedClock, Width};
use palisade_hal::mmio::Mmio;
use palisade_hal::{Env, PhysAddr};
use palisade_mem::{Arena, Frames, Owner, Use};

const BASE: PhysAddr = PhysAddr::new(0x0808_0000);

#[derive(Default)]
struct State {
    regs: BTreeMap<u64, u64>,
    /// (device) → width; (device, event) → (lpi, collection); collection → target.
    devices: BTreeMap<u32, u8>,
    events: BTreeMap<(u32, u32), (u32, u16)>,
    collections: BTreeMap<u16, u64>,
    read: u64,
    stalled: bool,
    deaf: bool,
    order: Vec<&'static str>,
}

struct FakeIts {
    frames: Arc<Frames>,
    state: Mutex<State>,
}

impl FakeIts {
    fn execute(&self, state: &mut State, write: u64) {
        let queue = PhysAddr::new(state.regs[&0x80] & 0xf_ffff_ffff_f000);
        let words = self.frames.words(queue, 8192, Use::Dma, Owner::HYPERVISOR).unwrap();
        while state.read != write {
            let at = (state.read / 8) as usize;
            let words = core::array::from_fn(|n| words[at + n].load(Ordering::Relaxed));
            let ok = match Command::decode(words).expect("a known command") {
                Command::Mapd { device, event_bits, valid: true, table } => {
                    assert_ne!(table, 0);
                    state.devices.insert(device, event_bits);
                    device < 0x100
                }
                Command::Mapd { device, valid: false, .. } => {
                    state.events.retain(|key, _| key.0 != device);
                    state.devices.remove(&device).is_some()
                }
                Command::Mapc { collection, target, .. } => {
                    state.collections.insert(collection, target);
                    true
                }
                Command::Mapti { device, event, intid, collection } => {
                    state.events.insert((device, event), (intid, collection));
                    state.devices.contains_key(&device)
                }
                Command::Movi { device, event, collection } => {
                    match state.events.get_mut(&(device, event)) {
                        Some(entry) => {
                            entry.1 = collection;
                            true
                        }
                        None => false,
                    }
                }
                Command::Discard { device, event } => {
                    state.events.remove(&(device, event)).is_some()
                }
                _ => true,
            };
            if !ok {
                state.stalled = true;
                return;
            }
            state.read = (state.read + 32) % 0x1_0000;
        }
    }
}

impl Device for FakeIts {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        let state = self.state.lock().unwrap();
        match offset {
            0x0 => state.regs.get(&0).copied().unwrap_or(1 << 31),
            // Physical, 12-byte entries, 16 bits of EventID and DeviceID.
            0x8 => 1 | 11 << 4 | 15 << 8 | 15 << 13,
            0x90 => state.read | u64::from(state.stalled),
            0x100 => state.regs.get(&0x100).copied().unwrap_or(0) | 1 << 56 | 7 << 48,
            0x108 => state.regs.get(&0x108).copied().unwrap_or(0) | 4 << 56 | 7 << 48,
            other => state.regs.get(&other).copied().unwrap_or(0),
        }
    }

    fn write(&self, offset: u64, _width: Width, value: u64) {
        let mut state = self.state.lock().unwrap();
        match offset {
            0x0 => {
                state.order.push(if value & 1 == 1 { "enable" } else { "disable" });
                state.regs.insert(0, if value & 1 == 1 { 1 } else { 1 << 31 });
            }
            0x88 => {
                state.regs.insert(0x88, value);
                if value & 1 == 1 {
                    state.stalled = false;
                }
                if !state.deaf && !state.stalled && state.regs.get(&0) == Some(&1) {
                    self.execute(&mut state, value & !1);
                }
            }
            _ => {
                if offset == 0x100 || offset == 0x108 || offset == 0x80 {
                    state.order.push("table");
                }
                state.regs.insert(offset, value);
            }
        }
    }
}

/// One order for one event.
fn one(
    its: &Its,
    clock: &SteppedClock,
    event: u32,
    core: usize,
    deed: Deed,
) -> Result<(), ItsError> {
    its.carry_out(clock, 8, &[Order { event, core, deed }])
}

struct Bench {
    _arena: Arena,
    fake: Arc<FakeIts>,
    frames: Arc<Frames>,
    its: Its,
    clock: SteppedClock,
}

fn bench() -> Bench {
    let arena = Arena::new(PhysAddr::new(0x9000_0000), 2048);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let fake = Arc::new(FakeIts { frames: frames.clone(), state: Mutex::default() });
    let clock = SteppedClock::new();
    let mmio = Mmio::fake(fake.clone(), 0x2_0000);
    let its = Its::new(mmio, BASE, &frames, &clock).unwrap();
    its.map_core(&clock, 0, 0).unwrap();
    its.map_core(&clock, 1, 1).unwrap();
    Bench { _arena: arena, fake, frames, its, clock }
}

#[test]
fn bring_up_lays_tables_before_it_enables() {
    let b = bench();
    let state = b.fake.state.lock().unwrap();
    assert_eq!(state.order, ["disable", "table", "table", "table", "enable"]);
    assert_eq!(state.collections, BTreeMap::from([(0, 0), (1, 1)]));
    assert_eq!(b.its.translater(), PhysAddr::new(0x0809_0040));
}

#[test]
fn events_go_where_they_were_mapped_and_nowhere_afterwards() {
    let b = bench();
    let (its, clock) = (&b.its, &b.clock);
    assert_eq!(one(its, clock, 0, 0, Deed::Map(FIRST_LPI)), Err(ItsError::Device(8)));
    its.map_device(clock, 8, 4).unwrap();
    assert_eq!(its.map_device(clock, 8, 4), Err(ItsError::Device(8)));
    one(its, clock, 3, 0, Deed::Map(FIRST_LPI + 5)).unwrap();
    assert_eq!(one(its, clock, 16, 0, Deed::Map(0)), Err(ItsError::Range("EventID", 16)));
    assert_eq!(one(its, clock, 0, 7, Deed::Map(0)), Err(ItsError::Range("core", 7)));
    one(its, clock, 3, 1, Deed::Move).unwrap();
    assert_eq!(b.fake.state.lock().unwrap().events[&(8, 3)], (FIRST_LPI + 5, 1));
    one(its, clock, 3, 1, Deed::Discard).unwrap();
    assert!(b.fake.state.lock().unwrap().events.is_empty());
    one(its, clock, 2, 0, Deed::Map(FIRST_LPI)).unwrap();
    its.unmap_device(clock, 8).unwrap();
    let state = b.fake.state.lock().unwrap();
    assert!(state.events.is_empty() && state.devices.is_empty());
}

#[test]
fn mapping_a_device_again_takes_no_new_memory() {
    let b = bench();
    b.its.map_device(&b.clock, 8, 4).unwrap();
    let before = b.frames.footprint();
    for _ in 0..50 {
        b.its.unmap_device(&b.clock, 8).unwrap();
        b.its.map_device(&b.clock, 8, 4).unwrap();
    }
    assert_eq!(b.frames.footprint(), before);
}

#[test]
fn a_refused_command_is_an_error_and_the_queue_goes_on() {
    let b = bench();
    b.its.map_device(&b.clock, 8, 4).unwrap();
    assert_eq!(one(&b.its, &b.clock, 1, 0, Deed::Discard), Err(ItsError::Refused(0x0f)));
    one(&b.its, &b.clock, 1, 0, Deed::Map(FIRST_LPI)).unwrap();
    assert_eq!(b.its.map_device(&b.clock, 0x100, 4), Err(ItsError::Refused(0x08)));
    one(&b.its, &b.clock, 1, 0, Deed::Discard).unwrap();
}

#[test]
fn a_batch_goes_on_past_what_is_refused() {
    let b = bench();
    b.its.map_device(&b.clock, 8, 7).unwrap();
    let order = |event, deed| Order { event, core: event as usize % 2, deed };
    let orders = |deed: fn(u32) -> Deed| -> Vec<Order> {
        (0..BATCH as u32).map(|event| order(event, deed(event))).collect()
    };
    let map = orders(|event| Deed::Map(FIRST_LPI + event));
    b.its.carry_out(&b.clock, 8, &map).unwrap();
    assert_eq!(b.fake.state.lock().unwrap().events.len(), BATCH);
    // Two of them are gone already: the first is named, and all others go.
    one(&b.its, &b.clock, 7, 1, Deed::Discard).unwrap();
    one(&b.its, &b.clock, 9, 1, Deed::Discard).unwrap();
    let discard = orders(|_| Deed::Discard);
    assert_eq!(b.its.carry_out(&b.clock, 8, &discard), Err(ItsError::Refused(0x0f)));
    assert!(b.fake.state.lock().unwrap().events.is_empty());
    let many = vec![order(0, Deed::Move); BATCH + 1];
    let error = b.its.carry_out(&b.clock, 8, &many);
    assert_eq!(error, Err(ItsError::Range("batch of events", BATCH as u64 + 1)));
    b.its.invalidate_core(&b.clock, 1).unwrap();
    assert_eq!(b.its.invalidate_core(&b.clock, 7), Err(ItsError::Range("core", 7)));
}

#[test]
fn silence_is_a_time_out_and_waited_for_once() {
    let b = bench();
    b.fake.state.lock().unwrap().deaf = true;
    assert_eq!(b.its.map_device(&b.clock, 8, 4), Err(ItsError::Timeout("command queue")));
    let begin = b.clock.now();
    for _ in 0..100 {
        assert!(matches!(b.its.map_device(&b.clock, 8, 4), Err(ItsError::Timeout(_))));
        assert!(matches!(b.its.invalidate_core(&b.clock, 0), Err(ItsError::Timeout(_))));
    }
    assert_eq!(b.clock.now(), begin, "nobody waits for it again");
}

#[test]
fn lpis_are_given_once_and_come_back() {
    let arena = Arena::new(PhysAddr::new(0x9000_0000), 64);
    let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
    let table = LpiTable::new(&frames).unwrap();
    let mut all: Vec<u32> = core::iter::from_fn(|| table.alloc().ok()).collect();
    assert_eq!((all.len(), all[0]), (8192, FIRST_LPI));
    all.dedup();
    assert_eq!(all.len(), 8192);
    assert_eq!(table.alloc(), Err(ItsError::NoLpi));
    for lpi in all {
        table.free(lpi);
    }
    assert_eq!(table.in_use(), 0);
    table.configure(FIRST_LPI + 9, true, 0x40);
    // Numbers outside are ignored.
    table.configure(1, true, 0);
    table.configure(u32::MAX, true, 0);
    table.free(0);
}
