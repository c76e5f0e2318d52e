//! Short stories of one guest before its SMMU; a second VM looks on.

use std::collections::BTreeMap;

use palisade_smmu_model::{Access, EventKind, Outcome, Request};

use super::house::{House, Tenant, features};
use super::kernel::{self, Command, Kernel};
use crate::sharing::home::Wrong;
use crate::sharing::memory::DATA;
use crate::sharing::truth::{Bound, PAGES, Target};

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It reached memory.
    Reached,
    /// It was refused, and nothing recorded.
    Silent,
    /// A fault of stage 1, or of the guest's configuration.
    Guests(EventKind),
    /// A fault of stage 2.
    Stage2,
}

/// A guest whose SMMU is up, or is not yet.
pub struct Scene {
    pub(super) house: House,
    dma: u64,
    /// Whose guest acts.
    vm: usize,
}

/// Runs a story for a few seeds.
///
/// # Errors
/// What went wrong, in words, with the seed.
pub fn scene(seeds: u64, story: impl Fn(&mut Scene) -> Result<(), String>) -> Result<(), String> {
    scene_with(seeds, u32::MAX, story)
}

/// The same; a device with more than `storm` faults a second is contained.
///
/// # Errors
/// As [`scene`].
pub fn scene_with(
    seeds: u64,
    storm: u32,
    story: impl Fn(&mut Scene) -> Result<(), String>,
) -> Result<(), String> {
    for seed in 1..=seeds {
        let told = || -> Result<(), String> {
            let house = House::new(&features(seed), seed, 2, storm)?;
            let dma = house.base.frames.footprint().dma;
            let machine = house.base.machine.clone();
            let mut scene = Scene { house, dma, vm: 0 };
            machine.run(|| story(&mut scene))?;
            scene.house.verdict()?;
            scene.house.end(scene.dma)
        };
        told().map_err(|wrong| format!("seed {seed}: {wrong}"))?;
    }
    Ok(())
}

impl Scene {
    pub(super) fn tenant(&mut self) -> &mut Tenant {
        &mut self.house.tenants[self.vm]
    }

    fn process(&self, space: usize) -> u32 {
        (self.vm * 100 + space) as u32
    }

    /// Another VM's guest acts for a while.
    pub fn other<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        self.vm = 1 - self.vm;
        let result = act(self);
        self.vm = 1 - self.vm;
        result
    }

    /// The guest's driver.
    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.tenant().kernel
    }

    /// The virtual StreamID of a device.
    pub fn number(&self, device: usize) -> u32 {
        self.house.tenants[self.vm].devices[device].number
    }

    pub(super) fn streams(&self, device: usize) -> Vec<u32> {
        self.house.tenants[self.vm].devices[device].streams.clone()
    }

    /// What every device may do from the next command on: `to`, or still what it did.
    fn all(&mut self, to: Bound, act: impl FnOnce(&mut Kernel)) {
        let devices = self.tenant().devices.len();
        (0..devices).for_each(|one| self.house.truth.widen(&self.streams(one), 0, &[to]));
        act(self.kernel());
        (0..devices).for_each(|one| self.house.truth.settle(&self.streams(one), 0, to));
    }

    /// Everything up and every entry an abort.
    pub fn up(&mut self) -> Result<(), Wrong> {
        self.all(Bound::Closed, |kernel| {
            kernel.write(kernel::GBPA, 1 << 31 | 1 << 20);
            kernel.write(kernel::CR0, 0);
        });
        self.kernel().clear_table()?;
        self.kernel().bring_up()?;
        self.all(Bound::Closed, |kernel| kernel.write(kernel::CR0, 0xd));
        Ok(())
    }

    /// CR0.SMMUEN comes, over a table in which nothing translates.
    pub fn on_aborting(&mut self) {
        self.all(Bound::Closed, |kernel| kernel.write(kernel::CR0, 0xd));
    }

    /// Lets what is on its way arrive; the guest takes nothing out.
    pub fn arrive(&mut self) -> Result<(), Wrong> {
        for _ in 0..64 {
            self.house.live();
            self.house.take_events(&mut |_, _| {})?;
        }
        Ok(())
    }

    /// CR0.SMMUEN goes, and GBPA decides.
    pub fn off(&mut self, abort: bool) {
        let to = if abort { Bound::Closed } else { Bound::Plain };
        self.all(to, |kernel| {
            kernel.write(kernel::GBPA, 1 << 31 | u32::from(abort) << 20);
            kernel.write(kernel::CR0, 0xc);
        });
    }

    /// GBPA alone is written.
    pub fn gbpa(&mut self, value: u32, to: Option<bool>) {
        match to {
            Some(abort) => {
                let to = if abort { Bound::Closed } else { Bound::Plain };
                self.all(to, |kernel| kernel.write(kernel::GBPA, value));
            }
            None => self.kernel().write(kernel::GBPA, value),
        }
    }

    /// A device stands behind a fresh space of this number and ASID.
    pub fn attach(&mut self, device: usize, space: usize, asid: u64) -> Result<(), Wrong> {
        let at = kernel::CONTEXTS + space as u64 * 64;
        let number = self.number(device);
        self.house.truth.lock().spaces.insert(self.process(space), BTreeMap::new());
        self.kernel().clear_space(space)?;
        self.kernel().put(at, &Kernel::context(space, asid))?;
        self.kernel().put(Kernel::entry(number), &Kernel::stage1(at, 0))?;
        self.becomes(device, Bound::Process(self.process(space)), &[kernel::cfgi_ste(number)])
    }

    /// An entry of the guest's own making, told of; the device does `to` then.
    pub fn entry(&mut self, device: usize, words: &[u64], to: Bound) -> Result<(), Wrong> {
        let number = self.number(device);
        self.kernel().put(Kernel::entry(number), words)?;
        self.becomes(device, to, &[kernel::cfgi_ste(number)])
    }

    /// The device does `to` after these commands, as before until then.
    pub fn becomes(&mut self, device: usize, to: Bound, commands: &[Command]) -> Result<(), Wrong> {
        let streams = self.streams(device);
        self.house.truth.widen(&streams, 0, &[to]);
        let sent = self.kernel().send(commands);
        self.house.truth.settle(&streams, 0, to);
        sent
    }

    /// A page of a space leads somewhere once the commands are done; meanwhile as before, too.
    pub fn maps(
        &mut self,
        space: usize,
        page: u64,
        to: Target,
        commands: &[Command],
    ) -> Result<(), Wrong> {
        let truth = self.house.truth.clone();
        if let Some(pages) = truth.lock().spaces.get_mut(&self.process(space)) {
            pages.entry(page).or_insert_with(|| [Target::Nowhere].into()).insert(to);
        }
        self.kernel().map(space, page, to)?;
        let sent = if commands.is_empty() { Ok(()) } else { self.kernel().send(commands) };
        if let Some(pages) = truth.lock().spaces.get_mut(&self.process(space)) {
            pages.insert(page, [to].into());
        }
        sent
    }

    /// A transaction of every stream of a device; they must agree.
    pub fn touch(&mut self, device: usize, address: u64) -> Result<End, Wrong> {
        let mut ends = Vec::new();
        for stream in self.streams(device) {
            ends.push(self.touch_stream(stream, address));
        }
        match ends.first() {
            Some(first) if ends.iter().all(|end| end == first) => Ok(*first),
            _ => Err(format!("one entry, several ends: {ends:?}")),
        }
    }

    fn touch_stream(&self, stream: u32, address: u64) -> End {
        let request = Request::new(stream, None, address, Access::Write(1));
        match self.house.touch(request) {
            Outcome::Done { .. } => End::Reached,
            Outcome::Aborted { event: Some(event) } | Outcome::Ignored { event: Some(event) } => {
                if event.stage2 {
                    End::Stage2
                } else {
                    End::Guests(event.kind)
                }
            }
            _ => End::Silent,
        }
    }

    /// Lets what is on its way arrive; what the guest finds in its queue.
    pub fn settle(&mut self) -> Result<Vec<kernel::Seen>, Wrong> {
        self.arrive()?;
        self.kernel().events()
    }
}

pub(super) fn must(what: bool, why: &str) -> Result<(), Wrong> {
    if what { Ok(()) } else { Err(why.to_owned()) }
}

/// What a device behind stage 2 alone may name.
pub(super) const PLAIN: u64 = DATA + 0x3000;

/// While SMMUEN is 0 GBPA decides, at once and both ways; while it is 1, never.
pub fn gbpa_decides_while_it_is_off(scene: &mut Scene) -> Result<(), Wrong> {
    must(scene.touch(0, PLAIN)? == End::Reached, "closed before anything was said")?;
    scene.gbpa(1 << 20, None);
    must(scene.touch(0, PLAIN)? == End::Reached, "GBPA without Update did something")?;
    scene.gbpa(1 << 31 | 1 << 20, Some(true));
    must(scene.touch(3, PLAIN)? == End::Silent, "GBPA.ABORT did not close")?;
    scene.gbpa(1 << 31, Some(false));
    must(scene.touch(3, PLAIN)? == End::Reached, "GBPA did not open")?;
    scene.up()?;
    scene.gbpa(1 << 31, None);
    must(scene.touch(1, PLAIN)? == End::Silent, "an aborting entry lets pass")?;
    scene.attach(1, 1, 7)?;
    scene.off(true);
    must(scene.touch(1, PLAIN)? == End::Silent, "off with ABORT, and it passes")?;
    scene.off(false);
    must(scene.touch(1, PLAIN)? == End::Reached, "off, and nothing passes")
}

/// A VM's reset: the SMMU is off and as new, devices are behind stage 2 alone, and nothing of
/// the last kernel's event queue is left.
pub fn a_reset_is_a_first_start(scene: &mut Scene) -> Result<(), Wrong> {
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "mapped, and not reached")?;
    scene.settle()?;
    scene.touch(0, PAGES[1])?;
    let devices = scene.tenant().devices.len();
    let truth = scene.house.truth.clone();
    (0..devices).for_each(|one| truth.widen(&scene.streams(one), 0, &[Bound::Plain]));
    scene.tenant().service.reset();
    (0..devices).for_each(|one| truth.settle(&scene.streams(one), 0, Bound::Plain));
    for offset in [
        kernel::CR0,
        kernel::CR1,
        kernel::CR2,
        kernel::IRQ_CTRL,
        kernel::STRTAB_BASE,
        kernel::STRTAB_BASE_CFG,
        kernel::CMDQ_BASE,
        kernel::CMDQ_PROD,
        kernel::CMDQ_CONS,
        kernel::EVENTQ_BASE,
        kernel::EVENTQ_PROD,
        kernel::EVENTQ_CONS,
        kernel::GERROR,
    ] {
        let value = scene.kernel().read(offset);
        if value != 0 {
            return Err(format!("register {offset:#x} keeps {value:#x}"));
        }
    }
    must(scene.touch(0, PLAIN)? == End::Reached, "not behind stage 2 alone")?;
    // A second life is like the first.
    scene.up()?;
    scene.attach(0, 0, 5)?;
    must(scene.touch(0, PAGES[0])? != End::Reached, "the last kernel's translation")?;
    scene.maps(0, PAGES[0], Target::Page(0, 4), &[])?;
    must(scene.touch(0, PAGES[0])? == End::Reached, "mapped, and not reached")
}

/// A device that is taken away: commands that name it do nothing, its events are not the
/// guest's, and the others go on.
pub fn a_device_that_goes_is_nobodys(scene: &mut Scene) -> Result<(), Wrong> {
    scene.up()?;
    scene.attach(0, 0, 5)?;
    scene.attach(1, 1, 6)?;
    scene.maps(1, PAGES[0], Target::Page(0, 3), &[])?;
    scene.settle()?;
    let (number, streams) = (scene.number(0), scene.streams(0));
    let base = &scene.house.base;
    let group = scene.house.tenants[0].home.devices[0].group.clone();
    scene.house.truth.widen(&streams, 0, &[Bound::Closed]);
    base.iommus.detach(&group).map_err(|error| error.to_string())?;
    scene.house.tenants[0].service.remove_group(&group, true);
    scene.house.truth.settle(&streams, 0, Bound::Closed);
    let streams_left = scene.kernel().device.streams();
    must(!streams_left.contains(&number), "it is still behind the SMMU")?;
    let before = scene.kernel().device.counts().commands.entries;
    scene.kernel().send(&[
        kernel::cfgi_ste(number),
        kernel::cfgi_cd(number, 0),
        kernel::cfgi_cd_all(number),
    ])?;
    must(scene.kernel().device.counts().commands.entries == before, "its entry was read")?;
    must(scene.touch(0, PAGES[0])? == End::Silent, "it translates")?;
    must(scene.touch(1, PAGES[0])? == End::Reached, "the other one lost its pages")?;
    must(scene.settle()?.iter().all(|seen| seen.stream != number), "the guest is told of it")?;
    // What is left goes in the end as well: only once.
    scene.house.tenants[0].home.devices.remove(0);
    base_release(scene, &group)
}

fn base_release(scene: &Scene, group: &palisade_iommu::Group) -> Result<(), Wrong> {
    let released = scene.house.base.iommus.release(group, palisade_iommu::Idle::Reset);
    released.map_err(|error| error.to_string())
}

/// A context changes under an entry that is in force: every stream of the group has the new one
/// after CFGI_CD, or CFGI_CD_ALL, and what the old one had cached is its own ASID's.
pub fn a_context_changes_under_its_entry(scene: &mut Scene) -> Result<(), Wrong> {
    scene.up()?;
    // The last device has an alias.
    scene.attach(3, 0, 5)?;
    scene.maps(0, PAGES[0], Target::Page(0, 3), &[])?;
    let number = scene.number(3);
    for turn in 0..8u32 {
        must(scene.touch(3, PAGES[0])? == End::Reached, "mapped, and not reached")?;
        let space = 1 + turn as usize % 2;
        let (process, asid) = (scene.process(space), 6 + u64::from(turn));
        let truth = scene.house.truth.clone();
        scene.settle()?;
        scene.entry(3, &[1, 0], Bound::Closed)?;
        scene.kernel().clear_space(space)?;
        truth.lock().spaces.insert(process, BTreeMap::new());
        scene.maps(space, PAGES[0], Target::Page(0, 4 + turn), &[])?;
        // In force again by the context before, which is then replaced.
        let before = (turn as usize + 1) % 2 + 1;
        let before = if turn == 0 { 0 } else { before };
        let right = Kernel::stage1(kernel::CONTEXTS, 0);
        scene.entry(3, &right, Bound::Process(scene.process(before)))?;
        must(scene.touch(3, PAGES[0])? == End::Reached, "its own context is lost")?;
        let streams = scene.streams(3);
        truth.widen(&streams, 0, &[Bound::Process(process), Bound::Closed, Bound::Never]);
        scene.kernel().put(kernel::CONTEXTS, &Kernel::context(space, asid))?;
        let command =
            if turn % 4 < 2 { kernel::cfgi_cd(number, 0) } else { kernel::cfgi_cd_all(number) };
        scene.becomes(3, Bound::Process(process), &[command])?;
    }
    must(scene.touch(3, PAGES[0])? == End::Reached, "mapped, and not reached")
}
