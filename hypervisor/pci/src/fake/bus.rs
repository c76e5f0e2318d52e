//! The fake hierarchy behind its ECAM window.

use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

use palisade_board::PcieHost;
use palisade_hal::Env;
use palisade_hal::fake::{Device, SteppedClock, Width};
use palisade_hal::mmio::Mmio;

use super::function::FakeFunction;
use crate::Ecam;
use crate::regs::{advanced, bridge, express, header, power};

/// What happened, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Bus mastering of this requester went on or off.
    Master(u16, bool),
    /// This requester was reset.
    Reset(u16),
    /// An armed transfer of this requester went out.
    Transfer(u16),
}

/// A hierarchy with a clock and a record of what happened.
pub struct FakeBus {
    state: Mutex<State>,
    clock: Arc<SteppedClock>,
    first_bus: u8,
}

struct State {
    root: Vec<FakeFunction>,
    events: Vec<(u64, Event)>,
}

impl FakeBus {
    /// A hierarchy with these functions on its root bus 0.
    pub fn new(clock: Arc<SteppedClock>, root: Vec<FakeFunction>) -> Arc<Self> {
        let state = Mutex::new(State { root, events: Vec::new() });
        Arc::new(Self { state, clock, first_bus: 0 })
    }

    /// The configuration space that reaches it.
    pub fn ecam(self: &Arc<Self>, host: &PcieHost) -> Ecam {
        Ecam::new(Mmio::fake(self.clone(), host.ecam.size()), host)
    }

    /// Arms a transfer that is due `ticks` from now.
    pub fn arm(&self, requester: u16, ticks: u64) {
        let due = self.clock.now().saturating_add(ticks);
        let first = self.first_bus;
        if let Some(function) = find(&mut self.lock().root, first, requester) {
            function.armed = Some(due);
        }
    }

    /// Everything that happened until now, with its time.
    pub fn events(&self) -> Vec<(u64, Event)> {
        let mut state = self.lock();
        transfers(&mut state, self.clock.now());
        state.events.clone()
    }

    /// The requester of the first transfer that went out until now.
    pub fn first_transfer(&self) -> Option<u16> {
        let mut state = self.lock();
        transfers(&mut state, self.clock.now());
        state.events.iter().find_map(|(_, event)| match event {
            Event::Transfer(requester) => Some(*requester),
            _ => None,
        })
    }

    /// How often the function was reset.
    pub fn resets(&self, requester: u16) -> usize {
        find(&mut self.lock().root, self.first_bus, requester).map_or(0, |function| function.resets)
    }

    /// The bytes that the function holds at `offset`, whatever it answers.
    pub fn peek32(&self, requester: u16, offset: u16) -> u32 {
        find(&mut self.lock().root, self.first_bus, requester).map_or(u32::MAX, |function| {
            u32::from(function.get16(offset)) | (u32::from(function.get16(offset + 2)) << 16)
        })
    }

    /// Changes a byte of configuration space behind everybody's back.
    pub fn poke(&self, requester: u16, offset: u16, value: u8) {
        if let Some(function) = find(&mut self.lock().root, self.first_bus, requester) {
            function.bytes[usize::from(offset)] = value;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds the bus")
    }
}

/// Routes a request as the bridges are programmed now.
fn find(level: &mut [FakeFunction], bus: u8, requester: u16) -> Option<&mut FakeFunction> {
    let [wanted, slot] = requester.to_be_bytes();
    if wanted == bus {
        return level.iter_mut().find(|f| f.device == slot >> 3 && f.function == slot & 7);
    }
    for function in level.iter_mut().filter(|function| function.is_bridge()) {
        let buses = |at: u16| function.bytes[usize::from(bridge::BUSES + at)];
        let (secondary, subordinate) = (buses(1), buses(2));
        if secondary == 0 || !(secondary..=subordinate).contains(&wanted) {
            continue;
        }
        let held = function.get16(bridge::CONTROL) & bridge::SECONDARY_RESET != 0;
        if held {
            return None;
        }
        // Whatever its number, there is one device at the end of a link.
        let link = function.is_port() && wanted == secondary;
        let requester = if link { requester & 0xff07 } else { requester };
        return find(&mut function.children, secondary, requester);
    }
    None
}

/// Lets go every transfer that is due and may master the bus.
fn transfers(state: &mut State, now: u64) {
    fn each(level: &mut [FakeFunction], bus: u8, now: u64, out: &mut Vec<(u64, Event)>) {
        for function in level {
            if function.armed.is_some_and(|due| due <= now) && function.mastering() {
                function.armed = None;
                let slot = (function.device << 3) | function.function;
                out.push((now, Event::Transfer(u16::from_be_bytes([bus, slot]))));
            }
            let secondary = function.bytes[usize::from(bridge::BUSES + 1)];
            each(&mut function.children, secondary, now, out);
        }
    }
    let mut out = Vec::new();
    each(&mut state.root, 0, now, &mut out);
    state.events.append(&mut out);
}

fn bytes(width: Width) -> usize {
    match width {
        Width::Bits8 => 1,
        Width::Bits16 => 2,
        Width::Bits32 => 4,
        Width::Bits64 => 8,
    }
}

fn split(offset: u64) -> (u16, usize) {
    ((offset >> 12) as u16, (offset & 0xfff) as usize)
}

impl Device for FakeBus {
    fn read(&self, offset: u64, width: Width) -> u64 {
        let now = self.clock.now();
        let mut state = self.lock();
        transfers(&mut state, now);
        let (requester, at) = split(offset);
        let ones = u64::MAX >> (64 - 8 * bytes(width));
        match find(&mut state.root, self.first_bus, requester) {
            Some(function) if function.ready_at <= now => (0..bytes(width))
                .fold(0, |value, byte| {
                    value | (u64::from(function.bytes[at + byte]) << (8 * byte))
                }),
            _ => ones,
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let now = self.clock.now();
        let mut state = self.lock();
        transfers(&mut state, now);
        let (requester, at) = split(offset);
        let Some(function) = find(&mut state.root, self.first_bus, requester) else { return };
        if function.ready_at > now {
            return;
        }
        let before = (function.mastering(), function.get16(bridge::CONTROL));
        let power = function.power.map(|power| function.get16(power + power::CONTROL));
        for byte in 0..bytes(width) {
            let mask = function.writable[at + byte];
            let new = (value >> (8 * byte)) as u8;
            function.bytes[at + byte] = (function.bytes[at + byte] & !mask) | (new & mask);
        }
        if function.stuck_master {
            let command = function.get16(header::COMMAND) | header::COMMAND_MASTER;
            function.put16(header::COMMAND, command);
        }
        let covers = |register: u16| (at..at + bytes(width)).contains(&usize::from(register));
        let mut events = Vec::new();
        if function.mastering() != before.0 {
            events.push(Event::Master(requester, function.mastering()));
        }
        // The upper byte of Device Control holds Initiate FLR.
        let flr = function.express.is_some_and(|base| {
            let control = base + express::DEVICE_CONTROL + 1;
            let able = function.bytes[usize::from(base + express::DEVICE_CAPABILITIES) + 3] & 0x10;
            let byte = usize::from(control).checked_sub(at).filter(|_| covers(control));
            able != 0 && byte.is_some_and(|byte| (value >> (8 * byte)) & 0x80 != 0)
        });
        let advanced = function
            .advanced
            .is_some_and(|base| covers(base + advanced::CONTROL) && value & 1 != 0);
        let woke = function.power.zip(power).is_some_and(|(base, old)| {
            let new = function.get16(base + power::CONTROL);
            old & power::STATE == power::D3HOT
                && new & power::STATE == 0
                && new & power::NO_SOFT_RESET == 0
        });
        if flr || advanced || woke {
            function.reset(now);
            events.push(Event::Reset(requester));
        }
        let held = function.get16(bridge::CONTROL) & bridge::SECONDARY_RESET != 0;
        if function.is_bridge() && held && before.1 & bridge::SECONDARY_RESET == 0 {
            let secondary = function.bytes[usize::from(bridge::BUSES + 1)];
            for child in &mut function.children {
                child.reset(now);
                let slot = (child.device << 3) | child.function;
                events.push(Event::Reset(u16::from_be_bytes([secondary, slot])));
            }
        }
        state.events.extend(events.into_iter().map(|event| (now, event)));
    }
}
