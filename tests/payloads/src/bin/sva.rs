//! Shares address spaces with its edu device: through the hypervisor's context table, and by a
//! stream table entry and a context descriptor of its own making, by calls or, where it has one,
//! through an SMMU of its own.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use palisade_abi::{BindFlags, InvalidationRecord, Status, call};
use palisade_payloads::command::{Words, serve};
use palisade_payloads::edu::{BUFFER_SIZE, Edu, IDENTITY};
use palisade_payloads::hypercall::{Ring, ask, present};
use palisade_payloads::memory::{Page, barrier, read64, write64};
use palisade_payloads::pci::Bus;
use palisade_payloads::platform::Platform;
use palisade_payloads::smmu::Smmu;
use palisade_payloads::stage1::{MAIR, Space, TCR};
use palisade_payloads::{payload, println, start};

payload!(main);

/// What the manifest calls our device: 00:01.0.
const DEVICE: u64 = 8;

static SPACES: [Space; 2] = [const { Space::new() }; 2];
static DATA: [Page; 8] = [const { Page::new() }; 8];
static RING: Page = Page::new();
/// Our own context descriptor, entry and commands.
static DESCRIPTOR: Page = Page::new();
static ENTRY: Page = Page::new();
static COMMANDS: Page = Page::new();
/// Transfers done by `stream`.
static COUNT: Page = Page::new();

fn main(platform: &Platform<'_>) {
    let edu = Bus::open(platform).and_then(|mut bus| {
        let (device, _) = bus.find(|info| (info.vendor_id, info.device_id) == IDENTITY)?;
        bus.enable(device).map(Edu::new)
    });
    SPACES.iter().for_each(Space::tie);
    let node = platform.fdt.find_compatible(&["arm,smmu-v3"]);
    let registers = node.and_then(|node| Some(node.reg()?.next()?.starting_address as u64));
    let smmu = registers.and_then(Smmu::new);
    let mut means = Means { ring: Ring::new(&RING).ok(), smmu };
    println!("# edu {}, interface {}, {means:?}", edu.is_some(), present());
    serve("sva", |line, verb, words| {
        match obey(edu, &mut means, verb, words)? {
            Ok([a, b, c]) => println!("ok {a:#x} a={a:#x} b={b:#x} c={c:#x}"),
            Err(status) => println!("err {line} {status:?}"),
        }
        if verb == "stream" {
            stream(edu, line);
        }
        Some(())
    });
}

/// How it makes itself heard.
struct Means {
    ring: Option<Ring>,
    smmu: Option<Smmu>,
}

impl core::fmt::Debug for Means {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ring {}, SMMU {}", self.ring.is_some(), self.smmu.is_some())
    }
}

impl Means {
    /// The next fault: its address and kind.
    fn fault(&mut self) -> Option<(u64, u32)> {
        match &mut self.smmu {
            Some(smmu) => smmu.pop().map(|event| (event.address, event.number.into())),
            None => self.ring.as_mut()?.pop().map(|fault| (fault.address, fault.kind)),
        }
    }

    /// Our own entry: its first word, and how our descriptor is fetched.
    fn entry(&mut self, first: u64) -> Result<[u64; 3], Status> {
        const FETCH: u64 = 1 << 2 | 1 << 4 | 3 << 6;
        if let Some(smmu) = &mut self.smmu {
            let done = smmu.set_entry(DEVICE as u32, [first, FETCH]);
            return done.map(|()| [0; 3]).ok_or(Status::Hardware);
        }
        put(&ENTRY, 0, first);
        put(&ENTRY, 1, FETCH);
        ask(call::STREAM_ENTRY, [DEVICE, ENTRY.address() as u64, 0, 0, 0, 0])
    }

    fn commands(&mut self, list: &[[u64; 2]]) -> Result<[u64; 3], Status> {
        if let Some(smmu) = &mut self.smmu {
            let done = smmu.send(list);
            return done.map(|()| [list.len() as u64, 0, 0]).ok_or(Status::Hardware);
        }
        for (index, [low, high]) in list.iter().enumerate() {
            put(&COMMANDS, index * 2, *low);
            put(&COMMANDS, index * 2 + 1, *high);
        }
        ask(call::COMMANDS, [DEVICE, COMMANDS.address() as u64, list.len() as u64, 0, 0, 0])
    }

    /// The descriptor stays valid, makes no walks, and wears ASID 0.
    fn park(&mut self, space: u64) -> Result<[u64; 3], Status> {
        // SAFETY: inside our own page, aligned.
        let now = unsafe { read64(DESCRIPTOR.address()) };
        put(&DESCRIPTOR, 0, (now | EPD0) & !(0xffff << 48));
        self.commands(&[FORGET_DESCRIPTOR, [0x11 | asid(space) << 48, 0]])
    }

    /// To another space, by writes of which each is whole: parked, the root, then the first word.
    fn switch(&mut self, space: u64) -> Result<[u64; 3], Status> {
        self.park(1 - space.min(1))?;
        put(&DESCRIPTOR, 1, SPACES.get(space as usize).ok_or(Status::Invalid)?.root());
        put(&DESCRIPTOR, 0, first_word(asid(space)));
        self.commands(&[FORGET_DESCRIPTOR])
    }

    /// Stage 1 is out of the way.
    fn disable(&mut self) -> Result<[u64; 3], Status> {
        match &self.smmu {
            Some(smmu) => smmu.disable().map(|()| [0; 3]).ok_or(Status::Hardware),
            None => ask(call::STAGE1_DISABLE, [DEVICE, 0, 0, 0, 0, 0]),
        }
    }
}

/// `stream ADDRESS COUNT`: so many transfers to an address after the answer, without a word on
/// the console meanwhile; how many are done is in memory.
fn stream(edu: Option<Edu>, line: &str) {
    let mut words = Words::new(line);
    words.word();
    let (Some(edu), Some(address), Some(count)) = (edu, words.number(), words.number()) else {
        return;
    };
    for done in 1..=count {
        if edu.store(address, 64).is_none() {
            return;
        }
        put(&COUNT, 0, done);
    }
}

/// One command: results, a refusal of the hypervisor, or nothing when it makes no sense.
fn obey(
    edu: Option<Edu>,
    means: &mut Means,
    verb: &str,
    words: &mut Words<'_>,
) -> Option<Result<[u64; 3], Status>> {
    const DONE: Option<Result<[u64; 3], Status>> = Some(Ok([0; 3]));
    let mut number = || words.number();
    match verb {
        "data" => Some(Ok([DATA.get(number()? as usize)?.address() as u64, 0, 0])),
        "fill" => {
            DATA.get(number()? as usize)?.fill(number()? as u32);
            DONE
        }
        "give" => {
            let page = DATA.get(number()? as usize)?.address() as u64;
            Some(ask(call::GIVE_UP, [page, 4096, 0, 0, 0, 0]))
        }
        // A write of ours, and whether it faulted.
        "touch" => {
            let page = DATA.get(number()? as usize)?.address();
            let before = start::stepped();
            start::step_over_faults();
            // SAFETY: inside our own page, aligned; a fault is stepped over.
            unsafe { write64(page, number()?) };
            barrier();
            start::end_at_faults();
            Some(Ok([start::stepped() - before, 0, 0]))
        }
        "map" => {
            SPACES.get(number()? as usize)?.set(number()?, Some(number()?));
            DONE
        }
        "fetch" | "store" => {
            let (address, length) = (number()?, number()?);
            if !(1..=BUFFER_SIZE).contains(&length) {
                return None;
            }
            if verb == "fetch" {
                edu?.fetch(address, length)?
            } else {
                edu?.store(address, length)?
            }
            DONE
        }
        "faults" => {
            let (page, mut counts) = (number()?, [0; 3]);
            while let Some((address, kind)) = means.fault() {
                counts[0] += 1;
                if address & !0xfff == page {
                    counts[1] += 1;
                    counts[2] = u64::from(kind);
                }
            }
            Some(Ok(counts))
        }
        "info" => Some(ask(call::DEVICE_INFO, [DEVICE, 0, 0, 0, 0, 0])),
        "enable" => Some(ask(call::CONTEXTS_ENABLE, [DEVICE, 0, 2, 0, 0, 0])),
        "disable" => Some(means.disable()),
        "bind" => Some(bind(number()?, 0)),
        "rebind" => Some(bind(number()?, BindFlags::REBIND)),
        "unbind" => Some(ask(call::UNBIND, [DEVICE, 0, 0, 0, 0, 0])),
        "exit" => Some(ask(call::EXIT, [asid(number()?), 0, 0, 0, 0, 0])),
        "invalidate" => {
            let (space, page) = (number()?, number()?);
            Some(ask(call::INVALIDATE, [asid(space), page, page + 4096, 4096, 0, 0]))
        }
        "invalidate-many" => {
            let (asid, pages) = (asid(number()?), many(number()?));
            for (index, start) in pages.into_iter().enumerate() {
                let record = InvalidationRecord { asid, start, end: start + 4096, leaf: 4096 };
                for (word, bytes) in record.to_bytes().chunks_exact(8).enumerate() {
                    let value = bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
                    put(&COMMANDS, index * 4 + word, value);
                }
            }
            let list = COMMANDS.address() as u64;
            Some(ask(call::INVALIDATE_BATCH, [list, MANY as u64, 0, 0, 0, 0]))
        }
        // What is to be done is done after the answer.
        "stream" => {
            put(&COUNT, 0, 0);
            Some(Ok([COUNT.address() as u64, 0, 0]))
        }
        "entry" => {
            descriptor(number()?)?;
            Some(means.entry(1 | 5 << 1 | DESCRIPTOR.address() as u64))
        }
        "switch" => Some(means.switch(number()?)),
        "park" => Some(means.park(number()?)),
        "forget" => {
            let (space, page) = (number()?, number()?);
            Some(means.commands(&[[0x12 | asid(space) << 48, page | 1]]))
        }
        "forget-many" => {
            let (asid, pages) = (asid(number()?), many(number()?));
            Some(means.commands(&pages.map(|page| [0x12 | asid << 48, page | 1])))
        }
        "leave" => Some(means.entry(1)),
        _ => None,
    }
}

/// Most of one call.
const MANY: usize = call::MAX_BATCH as usize;

/// As many pages as one call takes, the last of them `last`.
fn many(last: u64) -> [u64; MANY] {
    core::array::from_fn(|index| last.wrapping_sub((MANY - 1 - index) as u64 * 4096))
}

fn asid(space: u64) -> u64 {
    space + 1
}

fn bind(space: u64, flags: u64) -> Result<[u64; 3], Status> {
    let root = SPACES.get(space as usize).ok_or(Status::Invalid)?.root();
    ask(call::BIND, [DEVICE, 0, root, TCR, MAIR, asid(space) | flags])
}

fn put(page: &Page, word: usize, value: u64) {
    // SAFETY: inside our own page, aligned.
    unsafe { write64(page.address() + word * 8, value) };
    barrier();
}

/// The first word of a context descriptor (IHI 0070, 5.4): T0SZ, walk attributes, EPD1, V, IPS,
/// AA64, R, A, ASET, ASID.
fn first_word(asid: u64) -> u64 {
    TCR | 1 << 30 | 1 << 31 | 1 << 41 | 1 << 45 | 1 << 46 | 1 << 47 | asid << 48
}

const EPD0: u64 = 1 << 14;

/// Our own descriptor for a space, before it is in use.
fn descriptor(space: u64) -> Option<()> {
    put(&DESCRIPTOR, 0, 0);
    put(&DESCRIPTOR, 1, SPACES.get(space as usize)?.root());
    put(&DESCRIPTOR, 3, MAIR);
    put(&DESCRIPTOR, 0, first_word(asid(space)));
    Some(())
}

/// CMD_CFGI_CD of our only descriptor.
const FORGET_DESCRIPTOR: [u64; 2] = [0x05 | DEVICE << 32, 1];
