//! A kernel's trace on a virtual SMMU, with tables that change around its commands.

use std::collections::{BTreeMap, BTreeSet};

use palisade_hal::barrier;
use palisade_smmu_model::{Access, Outcome, Request};
use palisade_vm::mmio::Width;

use super::house::{House, Tenant, features};
use super::kernel::{self, Command, Kernel, SPACES};
use super::trace::{Step, Trace};
use crate::sharing::home::Wrong;
use crate::sharing::memory::DATA_PAGES;
use crate::sharing::truth::{Bound, PAGES, Target};

/// The VM that replays; the other only looks on.
const VM: u32 = 0;
/// F_TRANSLATION (7.3.13).
const TRANSLATION: u8 = 0x10;
/// Pages that have leaves: the last has none.
const LEAVES: usize = PAGES.len() - 1;
/// Where in a page the replay's own transactions go, and nobody else's.
const MARK: u64 = 4;
/// Moments that an event may take to the guest.
const PATIENCE: u32 = 256;

/// What a replay saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayTally {
    /// Steps of the trace.
    pub steps: u64,
    /// Transactions of the replay's own that reached a page just mapped.
    pub reached: u64,
    /// Transactions of the replay's own after an unmap: each faulted, and its guest was told.
    pub faulted: u64,
    /// Transactions to an address outside the VM: each was charged, and its guest not told.
    pub charged: u64,
    /// Entries that put a device behind a context.
    pub attached: u64,
}

/// A page that leads nowhere once the next synchronisation is complete.
struct Unmapped {
    process: u32,
    page: u64,
    device: usize,
}

struct Replay {
    house: House,
    /// A message tells of completion, as where IDR0.MSI is 1; else CONS.
    messages: bool,
    tally: ReplayTally,
    cr0: u32,
    irq_ctrl: u32,
    /// Contexts written so far, halves of one counted apart; and entries.
    contexts: usize,
    entries: usize,
    /// The number of the context that each device is attached to.
    attached: BTreeMap<usize, usize>,
    unmapped: Vec<Unmapped>,
    /// What devices do once the commands at hand are complete.
    settles: Vec<(usize, Bound)>,
    turn: usize,
    words: u32,
    charged: Vec<(usize, u64)>,
}

/// Replays `trace`; completion is told by messages in RAM, or by CONS.
///
/// # Errors
/// What went wrong, in words, with the step.
pub fn replay(trace: &Trace, seed: u64, messages: bool) -> Result<ReplayTally, String> {
    let house = House::new(&features(seed), seed, 2, u32::MAX)?;
    let dma = house.base.frames.footprint().dma;
    let machine = house.base.machine.clone();
    let mut replay = Replay {
        house,
        messages,
        tally: ReplayTally::default(),
        cr0: 0,
        irq_ctrl: 0,
        contexts: 0,
        entries: 0,
        attached: BTreeMap::new(),
        unmapped: Vec::new(),
        settles: Vec::new(),
        turn: 0,
        words: 0,
        charged: Vec::new(),
    };
    machine.run(|| replay.tenant().kernel.clear_table())?;
    for (nth, step) in trace.steps.iter().enumerate() {
        let done = machine.run(|| replay.step(step)).and_then(|()| replay.house.verdict());
        done.map_err(|wrong| format!("step {nth}, {step}: {wrong}"))?;
        replay.tally.steps += 1;
    }
    let tally = replay.tally;
    replay.house.end(dma)?;
    Ok(tally)
}

fn must(what: bool, why: impl FnOnce() -> String) -> Result<(), Wrong> {
    if what { Ok(()) } else { Err(why()) }
}

impl Replay {
    fn tenant(&mut self) -> &mut Tenant {
        &mut self.house.tenants[VM as usize]
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        match step {
            Step::Load(offset) => self.load(*offset),
            Step::Store(offset, bytes, value) => self.store(*offset, *bytes, *value),
            Step::Commands(names) => self.commands(names),
        }
    }

    fn load(&mut self, offset: u64) -> Result<(), Wrong> {
        if offset == kernel::EVENTQ_PROD {
            return self.an_event_is_there();
        }
        let (cr0, irq_ctrl) = (self.cr0, self.irq_ctrl);
        let kernel = &self.tenant().kernel;
        let (value, prod) = (kernel.read(offset), kernel.prod);
        let right = match offset {
            // What Linux refuses: no AArch64 tables, big endian (6.3.1); tables or queues at
            // fixed places, small queues (6.3.2). No stage 2 is for a guest, no ATS, no PRI.
            kernel::IDR0 => {
                value & 1 << 1 != 0
                    && value >> 2 & 2 != 0
                    && value >> 21 & 3 == 2
                    && value & (1 | 1 << 10 | 1 << 16) == 0
            }
            kernel::IDR1 => value & (7 << 28) == 0 && value >> 21 & 0x1f > 6 && value & 0x3f == 16,
            kernel::IDR5 => value & 1 << 4 != 0 && value & 7 >= 2,
            kernel::IIDR => value == 0,
            kernel::CR0 | kernel::CR0ACK => value == cr0,
            kernel::IRQ_CTRL | kernel::IRQ_CTRLACK => value == irq_ctrl,
            kernel::CMDQ_CONS => value == prod,
            _ => true,
        };
        must(right, || format!("reads {value:#x}"))
    }

    fn store(&mut self, offset: u64, bytes: u8, value: u64) -> Result<(), Wrong> {
        // Addresses are this replay's; a hint and, by what IDR1 says, a size stay.
        let hint = value & 1 << 62;
        let value = match offset {
            kernel::STRTAB_BASE => hint | kernel::LEVEL1,
            kernel::CMDQ_BASE => hint | kernel::COMMANDS | 8,
            kernel::EVENTQ_BASE => hint | kernel::EVENTS | 7,
            _ => value,
        };
        match offset {
            kernel::CR0 => return self.set_cr0(value as u32),
            kernel::IRQ_CTRL => self.irq_ctrl = value as u32,
            kernel::CMDQ_PROD => self.tenant().kernel.prod = value as u32,
            kernel::EVENTQ_CONS if self.cr0 & 4 != 0 => {
                return self.tenant().kernel.events().map(|_| ());
            }
            _ => {}
        }
        let width = if bytes == 8 { Width::Bits64 } else { Width::Bits32 };
        self.tenant().kernel.store(offset, width, value);
        Ok(())
    }

    fn streams(&self, device: usize) -> Vec<u32> {
        self.house.tenants[VM as usize].devices[device].streams.clone()
    }

    fn set_cr0(&mut self, value: u32) -> Result<(), Wrong> {
        let edge = (self.cr0 ^ value) & 1 != 0;
        self.cr0 = value;
        let devices = self.tenant().devices.len();
        // On, the table decides, and all of its entries abort; off, GBPA lets pass.
        let to = if value & 1 == 1 { Bound::Closed } else { Bound::Plain };
        for device in (0..devices).filter(|_| edge) {
            self.house.truth.widen(&self.streams(device), 0, &[to]);
        }
        self.tenant().kernel.write(kernel::CR0, value);
        for device in (0..devices).filter(|_| edge) {
            self.house.truth.settle(&self.streams(device), 0, to);
            self.attached.remove(&device);
        }
        Ok(())
    }

    /// What the kernel did to its tables before these commands, the commands, and what holds then.
    fn commands(&mut self, names: &[String]) -> Result<(), Wrong> {
        let mut word = None;
        let mut synchronised = false;
        for name in names {
            let command = if name == "SYNC" {
                synchronised = true;
                let message = self.messages.then(|| {
                    self.words = self.words % 500 + 1;
                    (kernel::WORDS + u64::from(self.words) * 8, 0x1000 + self.words)
                });
                word = message.or(word);
                Some(kernel::sync(message))
            } else {
                self.prepare(name)?
            };
            if let Some(command) = command {
                self.tenant().kernel.queue(&[command])?;
            }
        }
        if let Some((at, _)) = word {
            self.tenant().kernel.put(at, &[0])?;
        }
        self.tenant().kernel.ring()?;
        if let Some((at, data)) = word {
            let said = self.tenant().kernel.get(at)?;
            must(said == u64::from(data), || format!("the message says {said:#x}"))?;
        }
        if synchronised {
            self.synchronised()?;
        }
        self.house.live();
        self.take_events().map(|_| ())
    }

    /// The changes before one command, and the command with its operands.
    fn prepare(&mut self, name: &str) -> Result<Option<Command>, Wrong> {
        let ranges = self.tenant().kernel.ranges;
        let number = |device: usize| self.house.tenants[VM as usize].devices[device].number;
        let device = self.entries / 2 % self.house.tenants[VM as usize].devices.len();
        Ok(Some(match name {
            "PREFETCH_CONFIG" => kernel::prefetch(number(device)),
            "CFGI_STE_RANGE" => kernel::cfgi_range(0, 31),
            "CFGI_CD" => {
                let stream = number(self.contexts / 2 % 4);
                self.half_a_context()?;
                kernel::cfgi_cd(stream, 0)
            }
            "CFGI_STE" => {
                let stream = number(device);
                self.half_an_entry(device)?;
                kernel::cfgi_ste(stream)
            }
            "TLBI_NSNH_ALL" => {
                self.unmap()?;
                kernel::tlbi_all(true)
            }
            "TLBI_NH_ALL" => {
                self.unmap()?;
                kernel::tlbi_all(false)
            }
            "TLBI_NH_ASID" => {
                let asid = self.unmap()?.map_or(1, |(asid, _)| asid);
                kernel::tlbi_asid(asid)
            }
            "TLBI_NH_VA" => {
                let (asid, page) = self.unmap()?.unwrap_or((1, PAGES[0]));
                kernel::tlbi_page(Some(asid), page, ranges)
            }
            "TLBI_NH_VAA" => {
                let (_, page) = self.unmap()?.unwrap_or((1, PAGES[0]));
                kernel::tlbi_page(None, page, ranges)
            }
            "CFGI_CD_ALL" => kernel::cfgi_cd_all(number(device)),
            _ => return Err(format!("what is {name}?")),
        }))
    }

    fn asid(context: usize) -> u64 {
        1 + context as u64
    }

    fn context_at(context: usize) -> u64 {
        kernel::CONTEXTS + (context % SPACES) as u64 * 64
    }

    /// A context is written in two halves: all words but the first, then that one.
    fn half_a_context(&mut self) -> Result<(), Wrong> {
        let (context, second) = (self.contexts / 2, self.contexts % 2 == 1);
        self.contexts += 1;
        let words = Kernel::context(context % SPACES, Self::asid(context));
        let at = Self::context_at(context);
        let kernel = &self.house.tenants[VM as usize].kernel;
        if second {
            kernel.put(at, &words[..1])?;
        } else {
            kernel.put(at, &[0])?;
            kernel.put(at + 8, &words[1..])?;
            kernel.clear_space(context % SPACES)?;
            let empty = BTreeMap::new();
            self.house.truth.lock().spaces.insert(context as u32, empty);
        }
        barrier::dsb_sy();
        Ok(())
    }

    /// An entry likewise; the device aborts in between.
    fn half_an_entry(&mut self, device: usize) -> Result<(), Wrong> {
        let second = self.entries % 2 == 1;
        self.entries += 1;
        if !second {
            // There is a whole context for it, whether the kernel told or not.
            let fresh = self.entries / 2;
            while self.contexts < 2 * fresh + 2 {
                self.half_a_context()?;
            }
        }
        let context = self.contexts / 2 - 1;
        let streams = self.streams(device);
        let tenant = &self.house.tenants[VM as usize];
        let words = Kernel::stage1(Self::context_at(context), 0);
        let at = Kernel::entry(tenant.devices[device].number);
        let to = if second { Bound::Process(context as u32) } else { Bound::Closed };
        self.house.truth.widen(&streams, 0, &[to]);
        if second {
            tenant.kernel.put(at, &words[..1])?;
            self.attached.insert(device, context);
            self.tally.attached += 1;
        } else {
            tenant.kernel.put(at, &[0, words[1]])?;
            self.attached.remove(&device);
        }
        self.settles.push((device, to));
        Ok(())
    }

    fn targets(&self, process: u32, page: u64, to: &[Target]) {
        if let Some(space) = self.house.truth.lock().spaces.get_mut(&process) {
            space.insert(page, to.iter().copied().collect::<BTreeSet<_>>());
        }
    }

    /// A page is mapped, used and unmapped again; the command to come makes that so. Its ASID and
    /// its address, if there is a device that translates.
    fn unmap(&mut self) -> Result<Option<(u64, u64)>, Wrong> {
        self.turn += 1;
        let turn = self.turn;
        let Some((&device, &context)) = self.attached.iter().nth(turn % self.attached.len().max(1))
        else {
            return Ok(None);
        };
        let free = |page: &&u64| {
            !self.unmapped.iter().any(|one| one.page == **page && one.process == context as u32)
        };
        let Some(&page) = PAGES[..LEAVES].iter().cycle().skip(turn).take(LEAVES).find(free) else {
            return Ok(None);
        };
        let (process, space) = (context as u32, context % SPACES);
        let data = (turn / LEAVES) as u32 % DATA_PAGES;
        let outside = turn % 16 == 9;
        let target = if outside { Target::Outside } else { Target::Page(VM, data) };
        self.targets(process, page, &[Target::Nowhere, target]);
        self.house.tenants[VM as usize].kernel.map(space, page, target)?;
        self.targets(process, page, &[target]);
        for stream in self.streams(device) {
            let outcome = self.touch(stream, page);
            if outside {
                self.is_charged(&outcome, device, page)?;
            } else {
                let reached = matches!(outcome, Outcome::Done { .. });
                must(reached, || format!("{page:#x} is mapped: {outcome:x?}"))?;
                self.tally.reached += 1;
            }
        }
        self.targets(process, page, &[Target::Nowhere, target]);
        self.house.tenants[VM as usize].kernel.map(space, page, Target::Nowhere)?;
        self.unmapped.push(Unmapped { process, page, device });
        Ok(Some((Self::asid(context), page)))
    }

    fn touch(&self, stream: u32, page: u64) -> Outcome {
        self.house.touch(Request::new(stream, None, page | MARK, Access::Write(1)))
    }

    /// Everything that came before is in force.
    fn synchronised(&mut self) -> Result<(), Wrong> {
        for (device, to) in std::mem::take(&mut self.settles) {
            self.house.truth.settle(&self.streams(device), 0, to);
        }
        for Unmapped { process, page, device } in std::mem::take(&mut self.unmapped) {
            self.targets(process, page, &[Target::Nowhere]);
            for stream in self.streams(device) {
                let outcome = self.touch(stream, page);
                let faulted = matches!(outcome, Outcome::Aborted { event: Some(event) }
                    if event.kind as u8 == TRANSLATION && !event.stage2);
                must(faulted, || format!("{page:#x} was unmapped and synchronised: {outcome:x?}"))?;
            }
            if self.cr0 & 4 != 0 {
                self.is_told(device, page)?;
            }
            self.tally.faulted += 1;
        }
        Ok(())
    }

    /// The guest finds a translation fault of this device at this page.
    fn is_told(&mut self, device: usize, page: u64) -> Result<(), Wrong> {
        let number = self.tenant().devices[device].number;
        for _ in 0..PATIENCE {
            self.house.base.machine.live();
            let seen = self.take_events()?;
            if seen.iter().any(|one| (one.stream, one.address) == (number, page | MARK)) {
                return Ok(());
            }
        }
        let counts = self.tenant().kernel.device.counts();
        Err(format!("the guest was not told of device {number:#x} at {page:#x}: {counts:?}"))
    }

    /// A stage 2 fault: charged to the VM, and not told.
    fn is_charged(&mut self, outcome: &Outcome, device: usize, page: u64) -> Result<(), Wrong> {
        let at_stage2 = matches!(outcome, Outcome::Aborted { event: Some(event) } if event.stage2);
        must(at_stage2, || format!("{page:#x} leads outside: {outcome:x?}"))?;
        let number = self.tenant().devices[device].number;
        self.charged.clear();
        for _ in 0..PATIENCE {
            self.house.base.machine.live();
            let seen = self.take_events()?;
            let told = seen.iter().any(|one| one.address == page | MARK && one.stream == number);
            must(!told, || format!("the guest was told of stage 2 at {page:#x}"))?;
            if self.charged.contains(&(VM as usize, page | MARK)) {
                self.tally.charged += 1;
                return Ok(());
            }
        }
        Err(format!("nobody was charged with {page:#x}"))
    }

    /// Events reach the guest, which takes them out of its queue.
    fn take_events(&mut self) -> Result<Vec<kernel::Seen>, Wrong> {
        let mut charged = Vec::new();
        self.house.take_events(&mut |vm, fault| {
            if fault.record.stage2 {
                charged.push((vm, fault.record.address));
            }
        })?;
        self.charged.extend(charged);
        if self.cr0 & 4 == 0 {
            return Ok(Vec::new());
        }
        let seen = self.tenant().kernel.events()?;
        let numbers: Vec<u32> = self.tenant().devices.iter().map(|one| one.number).collect();
        for one in &seen {
            must(numbers.contains(&one.stream) && !one.stage2, || format!("told of {one:x?}"))?;
        }
        Ok(seen)
    }

    /// The kernel looks at its event queue because there is something.
    fn an_event_is_there(&mut self) -> Result<(), Wrong> {
        let Some(&device) = self.attached.keys().next() else { return Ok(()) };
        let before = self.tenant().kernel.read(kernel::EVENTQ_PROD);
        let stream = self.streams(device)[0];
        self.touch(stream, PAGES[LEAVES]);
        for _ in 0..PATIENCE {
            self.house.base.machine.live();
            self.house.take_events(&mut |_, _| {})?;
            if self.tenant().kernel.read(kernel::EVENTQ_PROD) != before {
                return Ok(());
            }
        }
        Err("EVENTQ_PROD does not move".into())
    }
}
