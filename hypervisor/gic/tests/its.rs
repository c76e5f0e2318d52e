//! The physical ITS against a small one that executes commands from memory.
//!
//! 1. Bring-up lays every table the hardware asks for before it enables anything.
//! 2. An event reaches the LPI and the core it was mapped to, and nobody after
//!    DISCARD or after the device's table was taken away.
//! 3. A command that the hardware refuses is an error with its number, and the
//!    queue goes on.
//! 4. Hardware that does not answer is a time-out, never a hang or a success.
//! 5. LPIs are given once, and all come back.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use palisade_gic::its::{Command, FIRST_LPI, Its, ItsError, LpiTable};
use palisade_hal::PhysAddr;
use palisade_hal::fake::{Device, SteppedClock, Width};
use palisade_hal::mmio::Mmio;
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
    assert_eq!(its.map_event(clock, 8, 0, FIRST_LPI, 0), Err(ItsError::Device(8)));
    its.map_device(clock, 8, 4).unwrap();
    assert_eq!(its.map_device(clock, 8, 4), Err(ItsError::Device(8)));
    its.map_event(clock, 8, 3, FIRST_LPI + 5, 0).unwrap();
    assert_eq!(its.map_event(clock, 8, 16, 0, 0), Err(ItsError::Range("EventID", 16)));
    assert_eq!(its.map_event(clock, 8, 0, 0, 7), Err(ItsError::Range("core", 7)));
    its.move_event(clock, 8, 3, 1).unwrap();
    assert_eq!(b.fake.state.lock().unwrap().events[&(8, 3)], (FIRST_LPI + 5, 1));
    its.discard_event(clock, 8, 3, 1).unwrap();
    assert!(b.fake.state.lock().unwrap().events.is_empty());
    its.map_event(clock, 8, 2, FIRST_LPI, 0).unwrap();
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
    assert_eq!(b.its.discard_event(&b.clock, 8, 1, 0), Err(ItsError::Refused(0x0f)));
    b.its.map_event(&b.clock, 8, 1, FIRST_LPI, 0).unwrap();
    assert_eq!(b.its.map_device(&b.clock, 0x100, 4), Err(ItsError::Refused(0x08)));
    b.its.discard_event(&b.clock, 8, 1, 0).unwrap();
}

#[test]
fn silence_is_a_time_out() {
    let b = bench();
    b.fake.state.lock().unwrap().deaf = true;
    assert_eq!(b.its.map_device(&b.clock, 8, 4), Err(ItsError::Timeout("command queue")));
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
