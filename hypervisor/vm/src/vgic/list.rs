//! List registers: into them before the guest runs, out of them after.
use arrayvec::ArrayVec;
use palisade_gic::{Ack, FIRST_SPI, Gic, ListRegister, LrState, MaintenanceControl, Version};

use super::{
    bank::{Bank, NOBODY, each},
    lpi,
    state::{Private, State, Vgic},
};

/// The most list registers there are (12.4.8).
const MAX_LRS: usize = 16;

/// What a list register was filled with.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// As written, to write only what changes.
    lr: ListRegister,
    used: bool,
    /// Pending came from the latch and goes back there if the guest did not take it.
    took_latch: bool,
}

impl Slot {
    /// Whether what it holds depends on more than this state. A timer that waits may be disarmed.
    /// What other vCPUs can ask about is to be known after every exit. On GICv2 an end comes out
    /// as a maintenance interrupt, which is settled at once.
    fn is_unsettled(&self, version: Version) -> bool {
        let waits_on_line = self.lr.hardware.is_some() && self.lr.state.pending();
        let shared = (FIRST_SPI..lpi::FIRST).contains(&self.lr.intid);
        waits_on_line || shared || version == Version::V2
    }
}

/// A vCPU's list registers.
#[derive(Debug)]
pub(super) struct Lists {
    slots: [Slot; MAX_LRS],
    /// So many of the first may hold something; the registers of the others are empty.
    used: usize,
    /// Some active interrupts found no register.
    evicted: bool,
    control: MaintenanceControl,
}

impl Default for Lists {
    fn default() -> Self {
        // One empty slot, copied: the array's own default writes sixteen.
        let slots = [Slot::default(); MAX_LRS];
        Self { slots, used: 0, evicted: false, control: MaintenanceControl::default() }
    }
}

impl Lists {
    /// Fills one register, which is written only if it is to hold something else.
    fn put(&mut self, index: usize, slot: &Slot, gic: &impl Gic) {
        let Some(place) = self.slots.get_mut(index) else { return };
        if place.lr != slot.lr {
            gic.write_lr(index, slot.lr);
        }
        *place = *slot;
    }

    /// So many of the first were filled: empties the others. `waits`: more wait than there are
    /// registers. `evicted`: more are active.
    #[inline]
    fn finish(&mut self, used: usize, waits: bool, evicted: bool, gic: &impl Gic) {
        let control = MaintenanceControl { enable: true, no_pending: waits, not_present: evicted };
        if used < self.used || control != self.control || evicted {
            self.change(used, control, gic);
        }
        self.used = used;
        self.evicted = evicted;
    }

    #[inline(never)]
    fn change(&mut self, used: usize, control: MaintenanceControl, gic: &impl Gic) {
        for index in used..self.used {
            self.put(index, &Slot::default(), gic);
        }
        // The count of unmatched ends is zeroed by the write, and was taken by the fold.
        if control != self.control || control.not_present {
            gic.set_maintenance(control);
            self.control = control;
        }
    }
}

/// An interrupt that wants a register; the order is urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    priority: u8,
    intid: u16,
}

/// The most urgent so far.
#[derive(Default)]
struct Urgent {
    best: ArrayVec<Wish, MAX_LRS>,
    /// How many there were in all.
    count: usize,
}

impl Urgent {
    fn add(&mut self, wish: Wish) {
        self.count += 1;
        let place = self.best.partition_point(|other| *other < wish);
        if place < MAX_LRS {
            if self.best.is_full() {
                self.best.pop();
            }
            // There is room by now, and `place` is at most the length.
            let _ = self.best.try_insert(place, wish);
        }
    }

    fn add_all(&mut self, bank: &Bank, word: usize, bits: u32) {
        for bit in each(bits) {
            let intid = (32 * word + bit) as u16;
            self.add(Wish { priority: bank.priority[bit & 31], intid });
        }
    }
}

impl Vgic {
    /// Takes a vCPU's list registers into the state: who asks what is pending or active, asks the
    /// state. On its own core, its guest outside.
    pub fn fold(&self, vcpu: usize, gic: &impl Gic) {
        if !self.attention.is_listed(vcpu) {
            return;
        }
        self.with(|state| {
            fold_all(state, vcpu, gic);
            self.attention.folded(vcpu);
            // What came back waits for the flush that comes before the guest goes in again.
            state.spare(vcpu);
        });
    }

    /// Before the guest goes in: fills its list registers. On its own core.
    pub fn flush(&self, vcpu: usize, gic: &impl Gic) {
        if !self.attention.is_quiet(vcpu) {
            self.look(vcpu, gic, 0, 0, 0);
        }
    }

    /// Takes what the list registers came to into the state, notes how its timers' lines stand (as
    /// [`Vgic::sample`] does), and fills the registers anew. On its own core.
    ///
    /// `arrived`: the bit of a linked private interrupt that was acknowledged on this core, and its
    /// priority dropped, as in [`Vgic::forward`]; 0 if there was none.
    #[inline]
    pub fn look(&self, vcpu: usize, gic: &impl Gic, lines: u32, high: u32, arrived: u32) {
        self.with(|state| {
            fold(state, vcpu, gic);
            state.arrive(vcpu, arrived);
            state.sample(vcpu, lines, high);
            let filled = fill(state, vcpu, gic);
            self.attention.flushed(vcpu, filled.listed, filled.unsettled);
            // Whatever this core was to look at again, it has looked at: another that found the
            // bit would make it come out for nothing.
            let own = 1u32.wrapping_shl(vcpu as u32);
            state.kicks &= !own;
            state.changed &= !own;
        });
    }

    /// Between a guest's coming out and its going in, a maintenance interrupt came: its cause is in
    /// registers that were folded already, and goes when they are filled anew. Until then the
    /// virtual interface is off and asks for nothing (ICH_HCR_EL2.En, 12.4.5; GICH_HCR.En, IHI 0048
    /// 5.3.2), so that nothing is listed for a guest that may not go in for long. On its own core.
    pub fn rest(&self, vcpu: usize, gic: &impl Gic) {
        // GICv2's ends come out as maintenance interrupts; each is settled at once.
        if !passes_ends_on(gic.version()) {
            return self.flush(vcpu, gic);
        }
        self.with(|state| {
            if let Some(private) = state.private.get_mut(vcpu) {
                private.lists.control = MaintenanceControl::default();
                gic.set_maintenance(private.lists.control);
            }
            state.changed |= 1 << vcpu;
        });
    }

    /// The vCPU stops: its list registers are emptied into the state, and its private physical
    /// interrupts are given back. On its own core.
    pub fn retire(&self, vcpu: usize, gic: &impl Gic) {
        self.fold(vcpu, gic);
        gic.reset_virtual();
        self.with(|state| {
            self.attention.folded(vcpu);
            let Some(private) = state.private.get_mut(vcpu) else { return };
            private.lists = Lists::default();
            private.bank.active = 0;
            private.bank.evicted = 0;
            private.bank.latch &= !private.bank.owed;
            for bank in &mut state.shared {
                // Shared interrupts that it took and did not end are nobody's any more.
                let mine = Bank::belonging(bank.active, &bank.holder, vcpu as u8);
                bank.active &= !mine;
                bank.evicted &= !mine;
            }
            settle_debts(state, vcpu, gic);
        });
    }
}

impl Vgic {
    /// The VM ends: shared physical interrupts that wait for a guest which will never take them
    /// are deactivated, so that their device can interrupt its next owner. Each vCPU calls it
    /// after [`Vgic::retire`]; what others have listed is theirs.
    pub fn surrender(&self, gic: &impl Gic) {
        self.with(|state| {
            for bank in &mut state.shared {
                bank.latch &= !(bank.owed & !bank.listed);
                settle(bank, gic);
            }
        });
    }
}

/// Takes the list registers that are in use into the state, and frees them.
#[inline]
fn fold(state: &mut State, vcpu: usize, gic: &impl Gic) {
    let version = state.version;
    let Some(private) = state.private.get_mut(vcpu) else { return };
    let Private { lists, bank, .. } = private;
    // One private interrupt is the common case; GICv2 has the senders of its SGIs to see to.
    if let (1, false, Some(slot), Version::V3) =
        (lists.used, lists.evicted, lists.slots.first_mut(), version)
        && slot.used
        && slot.lr.intid < FIRST_SPI
    {
        slot.used = false;
        let now = gic.read_lr_state(0);
        take_in(bank, vcpu, &slot.lr, slot.took_latch, now);
        slot.lr.state = now;
        return;
    }
    if lists.used > 0 {
        fold_all(state, vcpu, gic);
    }
}

/// [`fold`] in general.
#[inline(never)]
fn fold_all(state: &mut State, vcpu: usize, gic: &impl Gic) {
    let Some(private) = state.private.get_mut(vcpu) else { return };
    let ended = if private.lists.evicted { gic.unmatched_ends() } else { 0 };
    for index in 0..private.lists.used.min(MAX_LRS) {
        let lists = state.private.get_mut(vcpu).map(|private| &mut private.lists);
        let Some(slot) = lists.and_then(|lists| lists.slots.get_mut(index)) else { break };
        if !slot.used {
            continue;
        }
        let (lr, took_latch, now) = (slot.lr, slot.took_latch, gic.read_lr_state(index));
        let state_now = ListRegister { state: now, ..lr };
        *slot = Slot { lr: state_now, ..Slot::default() };
        take_back(state, vcpu, lr, took_latch, now);
    }
    // Counted now; the register itself is zeroed when it is next written.
    if let Some(private) = state.private.get_mut(vcpu) {
        private.lists.evicted = false;
    }
    for _ in 0..ended {
        end_evicted(state, vcpu, gic);
    }
}

/// The guest ended an active interrupt that no register held: it was the most urgent of those
/// (priorities of nested interrupts only rise, 4.8).
fn end_evicted(state: &mut State, vcpu: usize, gic: &impl Gic) {
    let mut urgent = Urgent::default();
    state.for_each_busy(vcpu, |word, bank| {
        urgent.add_all(bank, word, Bank::belonging(bank.evicted, &bank.holder, vcpu as u8));
    });
    let Some(wish) = urgent.best.first() else { return };
    let Some((bank, bit)) = state.bank(vcpu, u32::from(wish.intid)) else { return };
    let mask = 1 << bit;
    bank.active &= !mask;
    bank.evicted &= !mask;
    bank.holder[bit & 31] = NOBODY;
    settle(bank, gic);
    pass_on(state, vcpu, u32::from(wish.intid));
}

/// What waits of an interrupt that a vCPU gave back may be another's by now: it was sent elsewhere
/// while this one held it, and whoever looked meanwhile saw it held.
fn pass_on(state: &mut State, vcpu: usize, intid: u32) {
    let Some((bank, bit)) = state.bank(vcpu, intid) else { return };
    let waits = bank.pending() & !bank.active & 1 << bit != 0;
    if waits && usize::from(bank.target[bit & 31]) != vcpu {
        state.touch(vcpu, (intid / 32) as usize, 1 << bit);
    }
}

/// One list register goes back into the state: what it was filled with, and where it stands now.
fn take_back(state: &mut State, vcpu: usize, lr: ListRegister, took_latch: bool, now: LrState) {
    let intid = lr.intid;
    if intid >= lpi::FIRST {
        return state.unlist_lpi(ListRegister { state: now, ..lr });
    }
    let version = state.version;
    let Some((bank, _)) = state.bank(vcpu, intid) else { return };
    let Taken { latched, elsewhere } = take_in(bank, vcpu, &lr, took_latch, now);
    if latched
        && version == Version::V2
        && intid < 16
        && let Some(private) = state.private.get_mut(vcpu)
        && let Some(sources) = private.sources.get_mut(intid as usize)
    {
        *sources |= 1 << (lr.source & 7);
    }
    // See `pass_on`.
    if elsewhere {
        state.touch(vcpu, (intid / 32) as usize, 1 << (intid % 32));
    }
}

/// What became of an interrupt that came back from a list register.
struct Taken {
    /// It waits again by its latch.
    latched: bool,
    /// It waits, and is another vCPU's.
    elsewhere: bool,
}

/// One list register goes back into its bank.
#[inline]
fn take_in(
    bank: &mut Bank,
    vcpu: usize,
    lr: &ListRegister,
    took_latch: bool,
    now: LrState,
) -> Taken {
    let bit = (lr.intid % 32) as usize;
    let mask = 1u32 << bit;
    let cancelled = bank.cancel & mask != 0;
    let dropped = bank.drop_active & mask != 0;
    bank.listed &= !mask;
    bank.cancel &= !mask;
    bank.drop_active &= !mask;
    bank.lent &= !mask;
    if now.active() && !dropped {
        bank.active |= mask;
    } else {
        bank.active &= !mask;
        bank.holder[bit] = NOBODY;
    }
    if lr.hardware.is_some() && now != LrState::Invalid {
        // The hardware had no deactivation to pass on: the debt comes back. Where it had, it is
        // paid; what is owed by now is owed for another, taken since.
        bank.owed |= mask;
    }
    let latched = now.pending() && took_latch && !cancelled;
    if latched {
        bank.latch |= mask;
    }
    let waits = bank.pending() & !bank.active & mask != 0;
    Taken { latched, elsewhere: waits && usize::from(bank.target[bit]) != vcpu }
}

/// Physical interrupts that are active and that the guest will not end: a register write of the
/// guest took them back.
fn settle_debts(state: &mut State, vcpu: usize, gic: &impl Gic) {
    state.for_each_busy(vcpu, |_, bank| settle(bank, gic));
}

fn settle(bank: &mut Bank, gic: &impl Gic) {
    // One whose link is gone is the guest's alone: it ends it without ending the physical one.
    let idle = bank.owed & !(bank.latch | bank.active | bank.listed) | bank.owed & !bank.linked;
    bank.owed &= !idle;
    for bit in each(idle) {
        gic.deactivate(Ack::from_raw(u32::from(bank.physical[bit & 31])));
    }
}

/// What list registers were filled with.
#[derive(Clone, Copy, Default)]
struct Filled {
    /// Any holds anything.
    listed: bool,
    /// They are to be looked at again before each entry.
    unsettled: bool,
}

/// Pays debts that nobody will, and fills the list registers.
fn fill(state: &mut State, vcpu: usize, gic: &impl Gic) -> Filled {
    match fill_one(state, vcpu, gic) {
        Some(filled) => filled,
        None => fill_all(state, vcpu, gic),
    }
}

/// [`fill`] where there is no more to list than one private interrupt: the first register is written,
/// and nothing is sorted.
fn fill_one(state: &mut State, vcpu: usize, gic: &impl Gic) -> Option<Filled> {
    let (groups, version) = (state.groups, state.version);
    if state.is_busy() || version == Version::V2 {
        return None;
    }
    let private = state.private.get_mut(vcpu)?;
    if private.lpis.on && private.lpis.any() {
        return None;
    }
    let bank = &mut private.bank;
    settle(bank, gic);
    let waiting = bank.pending() & bank.forwarded(groups) & !bank.active & !bank.listed;
    let wanted = waiting | bank.active;
    if wanted & wanted.wrapping_sub(1) != 0 {
        return None;
    }
    bank.evicted = 0;
    let mut filled = Filled::default();
    if wanted != 0 {
        let bit = wanted.trailing_zeros() as usize;
        let slot = match waiting {
            0 => active_slot(bank, bit, bit as u32, vcpu, version),
            _ => pending_slot(bank, bit, bit as u32, vcpu, version, 0, false),
        };
        filled = Filled { listed: true, unsettled: slot.is_unsettled(version) };
        if let Some(first) = private.lists.slots.first_mut() {
            gic.write_lr(0, slot.lr);
            *first = slot;
        }
    }
    private.lists.finish(usize::from(filled.listed), false, false, gic);
    Some(filled)
}

/// [`fill`] in general.
#[inline(never)]
fn fill_all(state: &mut State, vcpu: usize, gic: &impl Gic) -> Filled {
    let me = vcpu as u8;
    let mut active = Urgent::default();
    let mut pending = Urgent::default();
    let groups = state.groups;
    state.for_each_busy(vcpu, |word, bank| {
        settle(bank, gic);
        if bank.active != 0 {
            let mine = Bank::belonging(bank.active, &bank.holder, me);
            active.add_all(bank, word, mine);
            bank.evicted &= !mine;
        }
        let waiting = bank.pending() & bank.forwarded(groups) & !bank.active & !bank.listed;
        if waiting != 0 {
            pending.add_all(bank, word, Bank::belonging(waiting, &bank.target, me));
        }
    });
    if groups & 2 != 0 {
        for (priority, intid) in state.waiting_lpis(vcpu) {
            pending.add(Wish { priority, intid: intid as u16 });
        }
    }

    // A pending interrupt may be more urgent than all active ones: it always has a register.
    let count = gic.list_registers().min(MAX_LRS);
    let reserved = usize::from(pending.count > 0);
    let actives = active.best.len().min(count.saturating_sub(reserved));
    let pendings = pending.best.len().min(count - actives);
    let evicted = active.count > actives;
    let mut filled = Filled { listed: false, unsettled: evicted || pending.count > pendings };
    let mut used = 0;
    let mut put = |state: &mut State, slot: Slot| {
        filled.listed = true;
        filled.unsettled |= slot.is_unsettled(state.version);
        if let Some(private) = state.private.get_mut(vcpu) {
            private.lists.put(used, &slot, gic);
        }
        used += 1;
    };
    for (index, wish) in active.best.iter().enumerate() {
        if index < actives {
            let intid = u32::from(wish.intid);
            let version = state.version;
            let Some((bank, bit)) = state.bank(vcpu, intid) else { continue };
            let slot = active_slot(bank, bit, intid, vcpu, version);
            put(state, slot);
        } else if let Some((bank, bit)) = state.bank(vcpu, u32::from(wish.intid)) {
            bank.evicted |= 1 << bit;
        }
    }
    for wish in pending.best.iter().take(pendings) {
        let slot = waiting_slot(state, vcpu, u32::from(wish.intid));
        put(state, slot);
    }

    if let Some(private) = state.private.get_mut(vcpu) {
        private.lists.finish(used, pending.count > pendings, evicted, gic);
    }
    filled
}

/// Whether a list register deactivates the physical interrupt that it names when the guest ends
/// its own. GICv2's could too (IHI 0048, 5.2.2), but QEMU's model does not look at the line again
/// when it does: a timer that fires anew before the guest ended the last one is lost for ever. So
/// there the end comes out as a maintenance interrupt, and the debt is settled by a write to
/// GICC_DIR.
fn passes_ends_on(version: Version) -> bool {
    version == Version::V3
}

/// The register of an interrupt that is active.
fn active_slot(bank: &mut Bank, bit: usize, intid: u32, vcpu: usize, version: Version) -> Slot {
    let v2_sgi = version == Version::V2 && intid < 16;
    let mask = 1u32 << (bit & 31);
    let owed = bank.owed & mask != 0;
    let physical = u32::from(bank.physical[bit & 31]);
    let hardware = (owed && passes_ends_on(version)).then_some(physical);
    // Once more pending while active: for edges the register can say so. A level is looked at
    // again when the guest ends it, and so is an SGI of GICv2, which may have another source.
    let again = bank.edge & bank.latch & mask != 0 && hardware.is_none() && !v2_sgi;
    let took_latch = again && bank.enabled & mask != 0;
    let waits = !took_latch && bank.pending() & mask != 0;
    if took_latch {
        bank.latch &= !mask;
    }
    bank.list(bit, vcpu as u8, hardware.is_some());
    Slot {
        lr: ListRegister {
            intid,
            priority: bank.priority[bit & 31],
            group1: bank.group1 & mask != 0,
            state: LrState::new(took_latch, true),
            hardware,
            eoi_maintenance: hardware.is_none() && (owed || waits),
            source: 0,
        },
        used: true,
        took_latch,
    }
}

/// The register of an interrupt that waits.
fn waiting_slot(state: &mut State, vcpu: usize, intid: u32) -> Slot {
    if intid >= lpi::FIRST {
        let lr = state.list_lpi(vcpu, intid).unwrap_or_default();
        return Slot { lr, used: lr.state.pending(), took_latch: true };
    }
    let version = state.version;
    let (mut source, mut more_sources) = (0, false);
    if version == Version::V2
        && intid < 16
        && let Some(private) = state.private.get_mut(vcpu)
    {
        let sources = private.sources.get_mut(intid as usize);
        if let Some(sources) = sources.filter(|sources| **sources != 0) {
            source = sources.trailing_zeros() as u8;
            *sources &= sources.wrapping_sub(1);
            more_sources = *sources != 0;
        }
    }
    let Some((bank, bit)) = state.bank(vcpu, intid) else { return Slot::default() };
    pending_slot(bank, bit, intid, vcpu, version, source, more_sources)
}

/// The register of an interrupt that becomes pending, from `source` and from others besides.
fn pending_slot(
    bank: &mut Bank,
    bit: usize,
    intid: u32,
    vcpu: usize,
    version: Version,
    source: u8,
    more_sources: bool,
) -> Slot {
    let mask = 1u32 << (bit & 31);
    let owed = bank.owed & mask != 0;
    let physical = u32::from(bank.physical[bit & 31]);
    let hardware = (owed && passes_ends_on(version)).then_some(physical);
    let took_latch = bank.latch & mask != 0;
    if !more_sources {
        bank.latch &= !mask;
    }
    bank.list(bit, vcpu as u8, hardware.is_some());
    let level_high = bank.line & !bank.edge & mask != 0;
    Slot {
        lr: ListRegister {
            intid,
            priority: bank.priority[bit & 31],
            group1: bank.group1 & mask != 0,
            state: LrState::Pending,
            hardware,
            eoi_maintenance: hardware.is_none() && (owed || level_high || more_sources),
            source,
        },
        used: true,
        took_latch,
    }
}
