//! What a guest may do wrong with its SMMU, over the driver over the model. Whatever it is, work is
//! bounded, no other VM notices, and a kernel that is right again is served.

use palisade_smmu_model::Rng;
use palisade_vm::mmio::Width;
use palisade_vm::smmu::{ENTRY_UNITS, EXIT_UNITS};

use super::kernel::{self, Kernel};
use super::scenes::{End, PLAIN, Scene, must};
use crate::sharing::home::Wrong;
use crate::sharing::memory::TABLES;
use crate::sharing::truth::{Bound, PAGES, Target};

/// What is no RAM: the SMMU's own registers, a doorbell, the end of RAM and beyond, the end of
/// IPAs.
const NOWHERE: [u64; 5] =
    [0x0905_0000, 0x0808_0000, TABLES + kernel::RAM_PAGES as u64 * 0x1000, 0x7fff_ffff_f000, 0];

/// A neighbour with one device behind its own space.
fn neighbour(scene: &mut Scene) -> Result<(), Wrong> {
    scene.other(|scene| {
        scene.up()?;
        scene.attach(0, 1, 1)?;
        scene.maps(1, PAGES[0], Target::Page(1, 2), &[])
    })
}

/// It is as it was: its page is reached, and its queue holds faults of its own only.
fn unharmed(scene: &mut Scene) -> Result<(), Wrong> {
    scene.other(|scene| {
        must(scene.touch(0, PAGES[0])? == End::Reached, "the neighbour lost its page")?;
        let numbers: Vec<u32> = (0..4).map(|device| scene.number(device)).collect();
        let seen = scene.settle()?;
        let own = seen.iter().all(|one| numbers.contains(&one.stream) && !one.stage2);
        must(own, "the neighbour was told of what is not its own")?;
        let counts = scene.kernel().device.counts().commands;
        must(counts.refused == 0 && counts.illegal == 0, "the neighbour was blamed")
    })
}

/// The guest starts anew and is served.
fn served(scene: &mut Scene) -> Result<(), Wrong> {
    scene.off(true);
    scene.kernel().write(kernel::CR0, 0);
    let active = scene.kernel().read(kernel::GERROR);
    scene.kernel().write(kernel::GERRORN, active);
    scene.up()?;
    scene.attach(2, 2, 9)?;
    scene.maps(2, PAGES[1], Target::Page(0, 5), &[])?;
    must(scene.touch(2, PAGES[1])? == End::Reached, "a kernel that is right again is not served")
}

/// Queues and tables where no RAM is, or in RAM that the VM has given up.
pub fn queues_and_tables_outside_ram(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    for at in NOWHERE {
        // The stream table: every device aborts.
        scene.up()?;
        scene.off(true);
        scene.kernel().store(kernel::STRTAB_BASE, Width::Bits64, at);
        scene.on_aborting();
        must(scene.touch(1, PLAIN)? == End::Silent, "a table in no RAM lets pass")?;
        // The second level alone.
        scene.off(true);
        scene.kernel().store(kernel::STRTAB_BASE, Width::Bits64, kernel::LEVEL1);
        scene.kernel().put(kernel::LEVEL1, &[at & !0xfff | 9])?;
        scene.on_aborting();
        must(scene.touch(1, PLAIN)? == End::Silent, "a level in no RAM lets pass")?;
        // The command queue: CERROR_ABT (7.1), nothing moves.
        scene.off(true);
        scene.kernel().write(kernel::CR0, 0);
        scene.kernel().store(kernel::CMDQ_BASE, Width::Bits64, at | 8);
        scene.kernel().write(kernel::CMDQ_PROD, 0);
        scene.kernel().write(kernel::CMDQ_CONS, 0);
        scene.kernel().write(kernel::CR0, 8);
        scene.kernel().write(kernel::CMDQ_PROD, 1);
        must(scene.kernel().read(kernel::CMDQ_CONS) == 2 << 24, "no CERROR_ABT")?;
        let active = scene.kernel().read(kernel::GERROR) ^ scene.kernel().read(kernel::GERRORN);
        must(active & 1 == 1, "no GERROR.CMDQ_ERR")?;
        // The event queue: EVENTQ_ABT_ERR, once, and events are lost.
        served(scene)?;
        scene.kernel().write(kernel::CR0, 9);
        scene.kernel().store(kernel::EVENTQ_BASE, Width::Bits64, at | 7);
        scene.kernel().write(kernel::CR0, 0xd);
        scene.touch(2, PAGES[7])?;
        scene.arrive()?;
        let active = scene.kernel().read(kernel::GERROR) ^ scene.kernel().read(kernel::GERRORN);
        must(active & 4 == 4, "no GERROR.EVENTQ_ABT_ERR")?;
        served(scene)?;
    }
    // Given up while in use: the queue first, then a level of the table.
    scene.kernel().ram.lose(kernel::COMMANDS, true);
    let prod = scene.kernel().prod;
    scene.kernel().write(kernel::CMDQ_PROD, prod + 1);
    must(scene.kernel().read(kernel::CMDQ_CONS) >> 24 == 2, "no CERROR_ABT of given up RAM")?;
    scene.kernel().ram.lose(kernel::COMMANDS, false);
    served(scene)?;
    let number = scene.number(2);
    let page = Kernel::entry(number) & !0xfff;
    scene.kernel().ram.lose(page, true);
    scene.becomes(2, Bound::Closed, &[kernel::cfgi_ste(number)])?;
    must(scene.touch(2, PAGES[1])? == End::Silent, "an entry in given up RAM")?;
    scene.kernel().ram.lose(page, false);
    served(scene)?;
    unharmed(scene)
}

/// Sizes that are reserved or beyond what is offered behave as the largest, or the least.
pub fn sizes_beyond_the_offer(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    // LOG2SIZE 31 of both queues, 63 of the table, SPLIT 0 and 15.
    for (split, span) in [(0, 7), (15, 7), (8, 9), (10, 11)] {
        scene.up()?;
        scene.off(true);
        scene.kernel().write(kernel::CR0, 0);
        scene.kernel().store(kernel::CMDQ_BASE, Width::Bits64, kernel::COMMANDS | 31);
        scene.kernel().store(kernel::EVENTQ_BASE, Width::Bits64, kernel::EVENTS | 31);
        scene.kernel().write(kernel::STRTAB_BASE_CFG, 1 << 16 | split << 6 | 63);
        scene.kernel().write(kernel::CMDQ_CONS, 0);
        scene.kernel().prod = 0;
        scene.kernel().write(kernel::CMDQ_PROD, 0);
        scene.kernel().write(kernel::CR0, 0xc);
        // Every descriptor of level 1 that a device needs leads to its own part of level 2.
        let bits = if split == 8 || split == 10 { split } else { 6 };
        for first in (0..256u64).step_by(1 << bits) {
            let at = kernel::LEVEL1 + (first >> bits) * 8;
            let second = kernel::LEVEL2 + first * 64;
            scene.kernel().put(at, &[if bits == 10 { kernel::LEVEL2 } else { second } | span])?;
        }
        scene.on_aborting();
        if bits == 10 {
            // 2^10 entries at an address that is aligned to 16 KiB alone: the bits below are
            // ignored (5.1), and what is there is no RAM.
            continue;
        }
        scene.attach(1, 1, 3)?;
        scene.maps(1, PAGES[2], Target::Page(0, 6), &[])?;
        must(scene.touch(1, PAGES[2])? == End::Reached, "the table is not read as it lies")?;
        for _ in 0..600 {
            scene.kernel().send(&[])?;
        }
    }
    // Span 0 and 31: no second level.
    scene.up()?;
    for span in [0, 12, 31] {
        scene.off(true);
        scene.kernel().put(kernel::LEVEL1, &[kernel::LEVEL2 | span])?;
        scene.on_aborting();
        must(scene.touch(1, PLAIN)? == End::Silent, "a reserved Span lets pass")?;
    }
    unharmed(scene)
}

/// Entries that make no sense: the stream aborts, the guest has one C_BAD_STE for each, and its
/// queue goes on. Bits that mean nothing to a guest change nothing.
pub fn entries_that_make_no_sense(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let at = kernel::CONTEXTS;
    let right = Kernel::stage1(at, 0);
    let bad: [(&str, [u64; 2]); 7] = [
        ("Config 6", [right[0] & !0xe | 6 << 1, right[1]]),
        ("Config 7", [right[0] & !0xe | 7 << 1, right[1]]),
        ("S1CDMax 31", Kernel::stage1(at, 31)),
        ("a table of 2^4 at 64", Kernel::stage1(at + 64, 4)),
        ("S1Fmt 3", [Kernel::stage1(at, 2)[0] | 3 << 4, right[1]]),
        ("S1DSS 3", [Kernel::stage1(at, 2)[0], right[1] | 3]),
        ("beyond the IPAs", Kernel::stage1(1 << 47, 0)),
    ];
    scene.settle()?;
    for (nth, (what, words)) in bad.iter().enumerate() {
        let refused = scene.kernel().device.counts().commands.refused;
        scene.entry(0, words, Bound::Closed)?;
        let now = scene.kernel().device.counts().commands.refused;
        must(now == refused + 1, &format!("{what}: {nth} refused {refused} {now}"))?;
        must(scene.touch(0, PAGES[0])? == End::Silent, &format!("{what}: it translates"))?;
        let number = scene.number(0);
        let seen = scene.settle()?;
        let bad = seen.iter().filter(|one| (one.number, one.stream) == (4, number)).count();
        must(bad == 1, &format!("{what}: {bad} events of a bad entry"))?;
        scene.entry(0, &right, Bound::Process(0))?;
        must(scene.touch(0, PAGES[0])? == End::Reached, &format!("{what}: not served after"))?;
    }
    // EATS 1 to 3, STRW, MEV, SHCFG, hints, and everything of stage 2.
    let ignored = [1 << 28, 2 << 28, 3 << 28, 1 << 30, 1 << 19, 3 << 44, 0xf << 20];
    for bits in ignored {
        scene.entry(0, &[right[0], right[1] | bits], Bound::Process(0))?;
        must(scene.touch(0, PAGES[0])? == End::Reached, &format!("{bits:#x}: not served"))?;
    }
    let stage2 = [right[0], right[1], u64::MAX, PLAIN, u64::MAX, u64::MAX, u64::MAX, u64::MAX];
    scene.entry(0, &stage2, Bound::Process(0))?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "words of stage 2: not served")?;
    unharmed(scene)
}

/// Commands about streams that are not the guest's change nothing of anybody's.
pub fn streams_that_are_not_its_own(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 1)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let theirs = scene.other(|scene| [scene.streams(0)[0], scene.streams(3)[1]]);
    let own = scene.streams(0)[0];
    let entries = scene.kernel().device.counts().commands.entries;
    for stream in [theirs[0], theirs[1], own, 0, 0xffff, 0x1_0000, 0x8000_0081, u32::MAX] {
        scene.kernel().send(&[
            kernel::cfgi_ste(stream),
            kernel::cfgi_cd(stream, 0),
            kernel::cfgi_cd(stream, 0xf_ffff),
            kernel::cfgi_cd_all(stream),
            kernel::prefetch(stream),
            kernel::cfgi_range(stream & !0xff, 4),
        ])?;
    }
    let now = scene.kernel().device.counts().commands.entries;
    must(now == entries, "an entry was read for a stream that is not there")?;
    // Ranges: 31 is everything, 30 half of all StreamIDs, 6 the 128 from 0x80 on.
    for (range, read) in [(31, 4), (30, 4), (6, 0)] {
        let entries = scene.kernel().device.counts().commands.entries;
        scene.kernel().send(&[kernel::cfgi_range(0, range)])?;
        let now = scene.kernel().device.counts().commands.entries - entries;
        must(now == read, &format!("range {range} read {now} entries"))?;
    }
    must(scene.touch(0, PAGES[0])? == End::Reached, "its own page is lost")?;
    unharmed(scene)
}

/// Messages and events onto its own tables and queues are words in RAM like others.
pub fn messages_onto_its_own_tables(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let number = scene.number(0);
    // Into the entry: it is what CFGI finds then, V = 1 and Config = 0.
    let entry = Kernel::entry(number);
    scene.kernel().queue(&[kernel::sync(Some((entry, 1)))])?;
    scene.kernel().ring()?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "an entry is in force before CFGI")?;
    scene.becomes(0, Bound::Closed, &[kernel::cfgi_ste(number)])?;
    must(scene.touch(0, PAGES[0])? == End::Silent, "an entry of a message is not read")?;
    // Into the command that comes after it: it was fetched already, or it is the message.
    let slot = scene.kernel().prod.wrapping_add(1) & 0xff;
    let next = kernel::COMMANDS + u64::from(slot) * 16;
    scene.kernel().queue(&[kernel::sync(Some((next, 0xff))), kernel::tlbi_all(false)])?;
    let prod = scene.kernel().prod;
    scene.kernel().write(kernel::CMDQ_PROD, prod);
    let active = scene.kernel().read(kernel::GERROR) ^ scene.kernel().read(kernel::GERRORN);
    must(active & !1 == 0, "another error than the command's")?;
    // Events over the command queue, and over the stream table.
    for at in [kernel::COMMANDS, kernel::LEVEL2] {
        served(scene)?;
        scene.kernel().write(kernel::CR0, 9);
        scene.kernel().store(kernel::EVENTQ_BASE, Width::Bits64, at | 7);
        scene.kernel().write(kernel::CR0, 0xd);
        for page in [5, 6, 7] {
            scene.touch(2, PAGES[page])?;
        }
        scene.arrive()?;
        must(scene.touch(2, PAGES[1])? == End::Reached, "events changed what is in force")?;
    }
    served(scene)?;
    unharmed(scene)
}

/// An event queue of one entry under a fault storm: one record, an overflow, and the next after it
/// is acknowledged.
pub fn a_fault_storm_in_a_queue_of_one(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.kernel().write(kernel::CR0, 9);
    scene.kernel().store(kernel::EVENTQ_BASE, Width::Bits64, kernel::EVENTS);
    scene.kernel().write(kernel::EVENTQ_PROD, 0);
    scene.kernel().write(kernel::EVENTQ_CONS, 0);
    scene.kernel().write(kernel::CR0, 0xd);
    for round in 0..4u32 {
        for _ in 0..100 {
            scene.touch(0, PAGES[7])?;
            scene.house.live();
        }
        scene.arrive()?;
        let (prod, cons) =
            (scene.kernel().read(kernel::EVENTQ_PROD), scene.kernel().read(kernel::EVENTQ_CONS));
        let one = (prod ^ cons) & 0x7fff_ffff == 1;
        let overflown = (prod ^ cons) >> 31 == 1;
        must(one && overflown, &format!("round {round}: {prod:#x} {cons:#x}"))?;
        scene.kernel().write(kernel::EVENTQ_CONS, prod);
    }
    unharmed(scene)
}

/// A device over its budget of faults is contained: whatever the guest says of it then, it aborts.
pub fn a_contained_device_stays_so(scene: &mut Scene) -> Result<(), Wrong> {
    // Nobody else shall storm.
    scene.house.base.machine.set_devices(None);
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let streams = scene.streams(0);
    scene.house.truth.widen(&streams, 0, &[Bound::Closed]);
    for _ in 0..200 {
        scene.touch(0, PAGES[7])?;
        scene.house.live();
        scene.house.take_events(&mut |_, _| {})?;
    }
    scene.arrive()?;
    scene.house.truth.settle(&streams, 0, Bound::Closed);
    must(scene.touch(0, PAGES[0])? == End::Silent, "a storm was not contained")?;
    let number = scene.number(0);
    scene.kernel().send(&[kernel::cfgi_ste(number), kernel::cfgi_cd(number, 0)])?;
    let right = Kernel::stage1(kernel::CONTEXTS, 0);
    scene.kernel().put(Kernel::entry(number), &right)?;
    scene.kernel().send(&[kernel::cfgi_ste(number), kernel::cfgi_range(0, 31)])?;
    must(scene.touch(0, PAGES[0])? == End::Silent, "the guest lifted a containment")?;
    scene.kernel().write(kernel::CR0, 0xc);
    scene.kernel().write(kernel::CR0, 0xd);
    must(scene.touch(0, PAGES[0])? == End::Silent, "CR0 lifted a containment")
}

/// GERRORN written at random, and CR0 at every store, while the queue has good and bad commands:
/// every exit is bounded, and nothing is reached that no state between allows.
pub fn registers_in_a_storm(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let mut rng = Rng::new(77);
    let devices = 4;
    for device in 0..devices {
        let streams = scene.streams(device);
        let mut to = vec![Bound::Closed, Bound::Plain];
        to.extend((device == 0).then_some(Bound::Process(0)));
        scene.house.truth.widen(&streams, 0, &to);
    }
    for _ in 0..400 {
        match rng.below(4) {
            0 => scene.kernel().write(kernel::GERRORN, rng.next_u64() as u32),
            1 => {
                let entries = scene.kernel().device.counts().commands.entries;
                scene.kernel().device_store(kernel::CR0, rng.next_u64());
                let read = scene.kernel().device.counts().commands.entries - entries;
                let most = u64::from(EXIT_UNITS / ENTRY_UNITS) + devices as u64;
                must(read <= most, &format!("one store of CR0 read {read} entries"))?;
            }
            2 => {
                let command = match rng.below(4) {
                    0 => [0xff, 0],
                    1 => kernel::cfgi_range(0, 31),
                    2 => kernel::tlbi_all(true),
                    _ => kernel::sync(None),
                };
                scene.kernel().queue(&[command])?;
            }
            _ => {
                let prod = scene.kernel().prod;
                scene.kernel().write(kernel::CMDQ_PROD, prod);
            }
        }
        let active = scene.kernel().read(kernel::GERROR) ^ scene.kernel().read(kernel::GERRORN);
        must(active & !0x1fd == 0, "an error that there is not")?;
        scene.touch(0, PAGES[0])?;
        scene.touch(1, PLAIN)?;
    }
    scene.arrive()?;
    scene.kernel().write(kernel::CR0, 0xd);
    served(scene)?;
    unharmed(scene)
}

/// A queue full of entries to be read: each exit reads as many as its budget has room for.
pub fn a_flood_of_entries_is_cut(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    let room = u64::from(EXIT_UNITS / ENTRY_UNITS);
    for round in 0..3 {
        let command =
            if round == 0 { kernel::cfgi_ste(scene.number(3)) } else { kernel::cfgi_range(0, 31) };
        scene.kernel().queue(&vec![command; 200])?;
        let prod = scene.kernel().prod;
        let before = scene.kernel().device.counts().commands.entries;
        scene.kernel().device_store(kernel::CMDQ_PROD, u64::from(prod));
        let mut last = scene.kernel().device.counts().commands.entries;
        must(last - before <= room, &format!("one exit read {} entries", last - before))?;
        let mut exits = 0;
        while scene.kernel().device.go_on() {
            let now = scene.kernel().device.counts().commands.entries;
            must(now - last <= room, &format!("one exit read {} entries", now - last))?;
            last = now;
            exits += 1;
            must(exits < 200, "no end of it")?;
        }
        must(scene.kernel().read(kernel::CMDQ_CONS) == prod, "not all of it was done")?;
    }
    unharmed(scene)
}

/// Two vCPUs store CMDQ_PROD at once, values that make sense and others: the queue ends, and a
/// kernel that is right again is served.
pub fn two_vcpus_race_prod(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    // Every slot holds a command that may be carried out any number of times.
    let commands = [kernel::tlbi_all(false), kernel::sync(None), kernel::cfgi_range(0, 31)];
    for slot in 0..256u64 {
        let command = commands[slot as usize % commands.len()];
        scene.kernel().put(kernel::COMMANDS + slot * 16, &command)?;
    }
    let machine = scene.house.base.machine.clone();
    let device = scene.kernel().device.clone();
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (machine, device) = (machine.clone(), device.clone());
            scope.spawn(move || {
                machine.run(|| {
                    let mut rng = Rng::new(seed);
                    for _ in 0..40 {
                        Kernel::raw(&device, kernel::CMDQ_PROD, rng.below(0x200));
                        device.go_on();
                    }
                });
            });
        }
    });
    let mut exits = 0;
    while device.go_on() {
        exits += 1;
        must(exits < 200, "no end of it")?;
    }
    must(scene.touch(0, PAGES[0])? == End::Reached, "the race lost a page")?;
    served(scene)?;
    unharmed(scene)
}

/// Tables and commands that another vCPU rewrites while they are read: what one load found is what
/// is done. And tables in loops.
pub fn rewritten_while_read(scene: &mut Scene) -> Result<(), Wrong> {
    neighbour(scene)?;
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let (number, entry) = (scene.number(0), Kernel::entry(scene.number(0)));
    let right = Kernel::stage1(kernel::CONTEXTS, 0);
    let bypass = 1 | 0b100 << 1;
    // The entry: nested as it was read, and what was written after that at the next CFGI only.
    scene.kernel().ram.ambush(entry, bypass);
    scene.becomes(0, Bound::Process(0), &[kernel::cfgi_ste(number)])?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "an entry was read twice")?;
    scene.becomes(0, Bound::Plain, &[kernel::cfgi_ste(number)])?;
    must(scene.touch(0, PLAIN)? == End::Reached, "the new entry was not read")?;
    // Every word of it.
    for word in 0..8 {
        scene.entry(0, &right, Bound::Process(0))?;
        scene.kernel().ram.ambush(entry + word * 8, u64::MAX);
        scene.becomes(0, Bound::Process(0), &[kernel::cfgi_ste(number)])?;
        must(scene.touch(0, PAGES[0])? == End::Reached, "a word was read twice")?;
        scene.entry(0, &[1, 0, 0, 0, 0, 0, 0, 0], Bound::Closed)?;
    }
    scene.entry(0, &right, Bound::Process(0))?;
    // The descriptor of level 1.
    scene.kernel().ram.ambush(kernel::LEVEL1, 0);
    scene.becomes(0, Bound::Process(0), &[kernel::cfgi_ste(number)])?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "a descriptor was read twice")?;
    scene.becomes(0, Bound::Closed, &[kernel::cfgi_ste(number)])?;
    scene.kernel().put(kernel::LEVEL1, &[kernel::LEVEL2 | 9])?;
    scene.becomes(0, Bound::Process(0), &[kernel::cfgi_ste(number)])?;
    // A command that unmaps: it becomes another's, or none, after its load.
    for (nth, page) in PAGES.iter().skip(1).take(4).enumerate() {
        scene.maps(0, *page, Target::Page(0, 4), &[])?;
        must(scene.touch(0, *page)? == End::Reached, "mapped, and not reached")?;
        let ranges = scene.kernel().ranges;
        let slot = kernel::COMMANDS + u64::from(scene.kernel().prod & 0xff) * 16;
        scene.kernel().ram.ambush(slot + nth as u64 % 2 * 8, 0xff);
        let unmap = kernel::tlbi_page(Some(5), *page, ranges);
        scene.maps(0, *page, Target::Nowhere, &[unmap])?;
        must(scene.touch(0, *page)? != End::Reached, "a command was read twice")?;
    }
    must(scene.kernel().ram.ambushes() == 0, "something was not read at all")?;
    // Level 2 is level 1, and a context's table is itself.
    scene.kernel().put(kernel::LEVEL1, &[kernel::LEVEL1 | 9])?;
    scene.becomes(0, Bound::Closed, &[kernel::cfgi_ste(number)])?;
    must(scene.touch(0, PAGES[0])? != End::Reached, "a loop translates")?;
    served(scene)?;
    unharmed(scene)
}
