//! The state of a virtual interrupt controller, and the lines into it.
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use palisade_gic::{FIRST_SPI, Version};
use palisade_hal::lock::{FairMutex, Mutex, Rank};

use super::{
    attention::Attention,
    bank::{Bank, NOBODY, each},
    list::Lists,
    lpi::{Lpis, Waiting},
    size::{self, SPI_BANKS},
};

/// The most vCPUs of a VM.
pub const MAX_VCPUS: usize = palisade_bundle::MAX_VCPUS;

/// What belongs to one vCPU.
#[derive(Debug)]
pub(super) struct Private {
    pub bank: Bank,
    /// GICv2: which vCPUs sent each SGI that is pending.
    pub sources: [u8; 16],
    pub lists: Lists,
    /// GICR_WAKER.ProcessorSleep.
    pub asleep: bool,
    pub lpis: Waiting,
}

#[derive(Debug)]
pub(super) struct State {
    pub version: Version,
    /// GICD_CTLR: bit 0 group 0, bit 1 group 1.
    pub groups: u32,
    pub private: Vec<Private>,
    pub shared: [Bank; SPI_BANKS],
    /// The shared banks that may not be idle, a bit each: whoever takes one to change it has its
    /// bit set, and whoever walks over them clears the bits of those that are.
    busy: u32,
    pub lpis: Lpis,
    /// The vCPUs that must look again, and come out of their guests for it.
    pub kicks: u32,
    /// The vCPUs that must look again before they go in.
    pub changed: u32,
    /// Interrupts that were raised for the guest, whatever became of them.
    pub raised: u64,
}

impl State {
    /// The state of power-on, with nothing linked.
    fn new(version: Version, vcpus: usize, lpis: bool) -> Self {
        Self {
            version,
            groups: 0,
            private: (0..vcpus).map(|vcpu| Private::new(vcpu as u8)).collect(),
            shared: [const { Bank::new(0) }; SPI_BANKS],
            busy: 0,
            lpis: if lpis { Lpis::offered() } else { Lpis::default() },
            kicks: 0,
            changed: 0,
            raised: 0,
        }
    }

    /// Links an interrupt to a physical one; a private one for every vCPU.
    fn link(&mut self, intid: u32, physical: u32) {
        let bit = intid % 32;
        let link = |bank: &mut Bank| {
            bank.linked |= 1 << bit;
            bank.physical[bit as usize & 31] = physical as u16;
        };
        match (intid / 32).checked_sub(1) {
            None => self.private.iter_mut().for_each(|private| link(&mut private.bank)),
            Some(index) => self.shared.get_mut(index as usize).into_iter().for_each(link),
        }
    }

    /// Every bank: the private ones, then the shared ones.
    fn banks(&mut self) -> impl Iterator<Item = &mut Bank> {
        let private = self.private.iter_mut().map(|private| &mut private.bank);
        private.chain(&mut self.shared)
    }

    /// The bank of `intid` as `vcpu` sees it, and its bit.
    pub fn bank(&mut self, vcpu: usize, intid: u32) -> Option<(&mut Bank, usize)> {
        let bit = (intid % 32) as usize;
        let bank = match intid / 32 {
            0 => &mut self.private.get_mut(vcpu)?.bank,
            word => {
                let bank = self.shared.get_mut(word as usize - 1)?;
                self.busy |= 1 << (word - 1);
                bank
            }
        };
        Some((bank, bit))
    }

    /// The bank of `intid` as `vcpu` sees it, only to be looked at.
    pub fn peek(&self, vcpu: usize, intid: u32) -> Option<&Bank> {
        match intid / 32 {
            0 => self.private.get(vcpu).map(|private| &private.bank),
            word => self.shared.get(word as usize - 1),
        }
    }

    /// The bank of `vcpu`'s private interrupts and the shared ones that are not idle, with their
    /// word number.
    pub fn for_each_busy(&mut self, vcpu: usize, mut body: impl FnMut(usize, &mut Bank)) {
        if let Some(private) = self.private.get_mut(vcpu) {
            body(0, &mut private.bank);
        }
        for index in each(self.busy) {
            let Some(bank) = self.shared.get_mut(index) else { continue };
            body(index + 1, bank);
            if bank.is_idle() {
                self.busy &= !(1 << index);
            }
        }
    }

    /// Whether any shared bank may not be idle.
    pub const fn is_busy(&self) -> bool {
        self.busy != 0
    }

    /// A linked private interrupt was acknowledged, if the word has a bit: it is pending, and owed
    /// to the physical one.
    pub fn arrive(&mut self, vcpu: usize, arrived: u32) {
        let Some(private) = self.private.get_mut(vcpu).filter(|_| arrived != 0) else { return };
        private.bank.latch |= arrived;
        private.bank.owed |= arrived;
        self.raised = self.raised.wrapping_add(1);
    }

    /// See [`Vgic::sample`]. Whether anything is different.
    #[inline]
    pub fn sample(&mut self, vcpu: usize, lines: u32, high: u32) -> bool {
        let Some(private) = self.private.get_mut(vcpu) else { return false };
        let bank = &mut private.bank;
        let lines = lines & bank.linked;
        let (line, latch) = (bank.line, bank.latch);
        bank.line = bank.line & !lines | high & lines;
        bank.latch &= !(lines & !high & bank.owed);
        (line, latch) != (bank.line, bank.latch)
    }

    /// A vCPU whose own core this is looks before it goes in: nobody needs to send it an interrupt.
    pub fn spare(&mut self, vcpu: usize) {
        self.changed |= self.kicks;
        self.kicks &= !(1 << vcpu);
    }

    /// Something about these interrupts of bank `word` changed: whoever gets or holds them must
    /// look again.
    pub fn touch(&mut self, vcpu: usize, word: usize, bits: u32) {
        let Some(index) = word.checked_sub(1) else {
            self.kicks |= 1 << vcpu;
            return;
        };
        let Some(bank) = self.shared.get(index) else { return };
        for bit in each(bits) {
            for vcpu in [bank.target[bit & 31], bank.holder[bit & 31]] {
                if vcpu != NOBODY {
                    self.kicks |= 1 << vcpu;
                }
            }
        }
    }
}

/// A VM's interrupt controller.
#[derive(Debug)]
pub struct Vgic {
    version: Version,
    vcpus: usize,
    /// Fair: a guest can keep it busy from several cores, and the operator wants it too.
    pub(super) state: FairMutex<State>,
    /// Linked interrupts: physical, virtual. Small; looked up once per physical interrupt.
    links: Mutex<Vec<(u32, u32)>>,
    /// Those of private physical interrupts, which stay for the VM's life: the linked one, 0 where
    /// there is none.
    private_links: [AtomicU8; FIRST_SPI as usize],
    pub(super) attention: Attention,
    pub(super) lpis_offered: AtomicBool,
    /// GICD_TYPER, read without a lock.
    pub(super) typer: AtomicU32,
}

impl Vgic {
    /// A controller of the given generation for `vcpus` vCPUs (at most [`MAX_VCPUS`]).
    pub fn new(version: Version, vcpus: usize) -> Arc<Self> {
        let vcpus = vcpus.min(MAX_VCPUS);
        Arc::new(Self {
            version,
            vcpus,
            state: FairMutex::new(Rank::VirtualGic, State::new(version, vcpus, false)),
            links: Mutex::new(Rank::VirtualGicLinks, Vec::new()),
            private_links: [const { AtomicU8::new(0) }; FIRST_SPI as usize],
            attention: Attention::new(),
            lpis_offered: AtomicBool::new(false),
            typer: AtomicU32::new(size::typer(version, vcpus, false)),
        })
    }

    /// The generation.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How many vCPUs it serves.
    pub fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// Back to the state of power-on. What is not the guest's stays: links to physical
    /// interrupts, private ones included, what is owed to them, and the count of what was raised.
    /// Called while no vCPU runs, after each took its interrupts back with [`Vgic::retire`].
    pub fn reset(&self) {
        let links = self.links.lock();
        let mut state = self.state.lock();
        let mut fresh = State::new(self.version, self.vcpus, self.has_lpis());
        for &(physical, intid) in links.iter() {
            fresh.link(intid, physical);
        }
        fresh.raised = state.raised;
        // Each vCPU paid its own; should one not have, the next flush does.
        for (new, old) in fresh.banks().zip(state.banks()) {
            new.owed = old.owed;
        }
        let busy = |(index, bank): (usize, &Bank)| u32::from(!bank.is_idle()) << index;
        fresh.busy = fresh.shared.iter().enumerate().map(busy).sum();
        *state = fresh;
        self.attention.reset();
    }

    /// Runs `body` on the state, then publishes who must look again.
    #[inline(always)]
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = body(&mut state);
        let kicks = core::mem::take(&mut state.kicks);
        let changed = core::mem::take(&mut state.changed);
        self.attention.change(kicks | changed);
        drop(state);
        self.attention.kick(kicks);
        result
    }

    /// The vCPUs that must look at their interrupts again, as bits; forgets them. The caller
    /// sends each but itself a kick.
    pub fn take_kicks(&self) -> u32 {
        self.attention.take_kicks()
    }

    /// Sets the level of a line: of a private interrupt of `vcpu`, or of a shared one.
    pub fn set_line(&self, vcpu: usize, intid: u32, high: bool) {
        self.with(|state| {
            let mask = 1 << (intid % 32);
            let now = state.peek(vcpu, intid).is_some_and(|bank| bank.line & mask != 0);
            if now == high {
                return;
            }
            let Some((bank, _)) = state.bank(vcpu, intid) else { return };
            bank.line ^= mask;
            if high && bank.edge & mask != 0 {
                bank.latch |= mask;
            }
            state.raised += u64::from(high);
            state.touch(vcpu, (intid / 32) as usize, mask);
        });
    }

    /// A message or an edge: the interrupt becomes pending once.
    pub fn pulse(&self, vcpu: usize, intid: u32) {
        self.with(|state| {
            let Some((bank, bit)) = state.bank(vcpu, intid) else { return };
            bank.latch |= 1 << bit;
            state.raised += 1;
            state.touch(vcpu, (intid / 32) as usize, 1 << bit);
        });
    }

    /// Links the interrupt `intid` to a physical one: the guest's deactivation deactivates both.
    /// A private interrupt is linked for every vCPU, on its own core.
    pub fn link(&self, intid: u32, physical: u32) {
        self.with(|state| state.link(intid, physical));
        let mut links = self.links.lock();
        links.retain(|&(_, linked)| linked != intid);
        links.push((physical, intid));
        if let (Some(slot), Ok(intid)) =
            (self.private_links.get(physical as usize), intid.try_into())
        {
            slot.store(intid, Ordering::Relaxed);
        }
    }

    /// Undoes [`Vgic::link`] of a shared interrupt: what comes from now on is not forwarded, what
    /// waits is withdrawn, and what the guest has not ended is its own, without a physical one.
    /// The vCPU that may have it in a list register is to be kicked; until it was out,
    /// [`Vgic::is_lent`].
    pub fn unlink(&self, intid: u32) {
        self.links.lock().retain(|&(_, linked)| linked != intid);
        self.with(|state| {
            let Some((bank, bit)) = state.bank(0, intid) else { return };
            let mask = 1 << bit;
            bank.linked &= !mask;
            bank.latch &= !mask;
            bank.cancel |= mask & bank.listed;
            state.touch(0, (intid / 32) as usize, mask);
        });
    }

    /// Whether a list register would still deactivate the physical interrupt of `intid`.
    pub fn is_lent(&self, intid: u32) -> bool {
        self.with(|state| state.bank(0, intid).is_some_and(|(bank, bit)| bank.lent >> bit & 1 != 0))
    }

    /// Forgets what is owed to the physical interrupt of `intid`, which the caller made inactive.
    pub fn forgive(&self, intid: u32) {
        self.with(|state| {
            if let Some((bank, bit)) = state.bank(0, intid) {
                bank.owed &= !(1 << bit);
            }
        });
    }

    /// The interrupt that a physical one is linked to.
    pub fn linked(&self, physical: u32) -> Option<u32> {
        if let Some(slot) = self.private_links.get(physical as usize) {
            return Some(slot.load(Ordering::Relaxed).into()).filter(|&intid| intid != 0);
        }
        self.links.lock().iter().find(|link| link.0 == physical).map(|link| link.1)
    }

    /// The physical interrupts of the shared ones that are linked.
    pub fn linked_physical(&self) -> Vec<u32> {
        let links = self.links.lock();
        links.iter().filter(|link| link.1 >= FIRST_SPI).map(|link| link.0).collect()
    }

    /// A linked physical interrupt was acknowledged on the core of `vcpu` and its priority
    /// dropped: it is active until the guest ends it. False if its link is gone by now: the caller
    /// ends it.
    pub fn forward(&self, vcpu: usize, intid: u32) -> bool {
        self.with(|state| {
            let Some((bank, bit)) = state.bank(vcpu, intid) else { return false };
            if bank.linked >> bit & 1 == 0 {
                return false;
            }
            bank.latch |= 1 << bit;
            bank.owed |= 1 << bit;
            state.raised += 1;
            state.touch(vcpu, (intid / 32) as usize, 1 << bit);
            // This core looks before its guest goes in; another that found the bit would make it
            // come out for nothing.
            state.spare(vcpu);
            true
        })
    }

    /// Notes the level of linked private lines: those in `lines`, high where `high` says. One
    /// that is pending and low by now is taken back: a timer that the guest disarmed before it
    /// looked.
    pub fn sample(&self, vcpu: usize, lines: u32, high: u32) {
        self.with(|state| {
            if state.sample(vcpu, lines, high) {
                state.changed |= 1 << vcpu;
            }
        });
    }

    /// Marks a vCPU to be looked at: something else than an interrupt waits for it.
    pub fn wake(&self, vcpu: usize) {
        self.attention.kick(1 << vcpu);
    }

    /// Whether a vCPU can go into its guest as it is: nothing has changed for it, and what its list
    /// registers hold depends on nothing else. After [`Vgic::take_kicks`], on its own core.
    pub fn is_quiet(&self, vcpu: usize) -> bool {
        self.attention.is_quiet(vcpu)
    }

    /// Whether an interrupt waits that `vcpu` would be told of.
    pub fn has_pending(&self, vcpu: usize) -> bool {
        self.with(|state| {
            let groups = state.groups;
            let waiting = |bank: &Bank| {
                let bits = bank.pending() & bank.forwarded(groups) & !bank.active & !bank.listed;
                Bank::belonging(bits, &bank.target, vcpu as u8) != 0
            };
            let private = state.private.get(vcpu).is_some_and(|private| waiting(&private.bank));
            private
                || state.shared.iter().any(waiting)
                || groups & 2 != 0 && state.waiting_lpis(vcpu).next().is_some()
        })
    }

    /// How many interrupts were raised for the vCPUs: lines that rose, edges and messages; those
    /// included that became one with one that was pending still, and timers that were disarmed
    /// before the guest looked.
    pub fn raised(&self) -> u64 {
        self.state.lock().raised
    }

    /// A handle for a device to one shared line.
    pub fn line(self: &Arc<Self>, intid: u32) -> Line {
        Line { vgic: self.clone(), intid }
    }
}

impl Private {
    fn new(vcpu: u8) -> Self {
        let mut bank = Bank::new(vcpu);
        // SGIs are edge triggered, always (12.9.7); PPIs of the timers are level.
        bank.edge = 0xffff;
        Self {
            bank,
            sources: [0; 16],
            lists: Lists::default(),
            asleep: true,
            lpis: Waiting::default(),
        }
    }
}

/// One line into a VM's interrupt controller, held by the device that drives it.
#[derive(Clone)]
pub struct Line {
    vgic: Arc<Vgic>,
    intid: u32,
}

impl Line {
    /// Sets the line's level.
    pub fn set(&self, high: bool) {
        self.vgic.set_line(0, self.intid, high);
    }

    /// Makes the interrupt pending once.
    pub fn pulse(&self) {
        self.vgic.pulse(0, self.intid);
    }
}
