//! LPIs: message-signalled interrupts that have no active state (5.1).
//!
//! What the guest's translation service maps exists here; the rest does not. Which vCPU an LPI is
//! sent to, whether it is enabled and how urgent it is come with the mapping; the tables in the
//! guest's memory are read by the translation service only.
use alloc::{vec, vec::Vec};
use core::sync::atomic::Ordering;

use palisade_gic::{ListRegister, LrState};

use super::{
    bank::{NOBODY, each},
    size::{self, LPIS},
    state::{State, Vgic},
};

/// First LPI.
pub const FIRST: u32 = 8192;

/// A configuration byte (5.1.1): enabled in bit 0, priority in bits 7:2.
const ENABLED: u8 = 1;
const PRIORITY: u8 = 0xf8;
/// GICR_PROPBASER's address field, and its IDbits (12.11.35).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ID_BITS: u64 = 0x1f;

/// An LPI.
#[derive(Clone, Copy, Debug)]
struct Lpi {
    mapped: bool,
    /// The vCPU that its next message goes to.
    route: u8,
    /// The vCPU where it waits, or will if it comes back from a list register.
    at: u8,
    /// The vCPU that has it in a list register.
    holder: u8,
    priority: u8,
    enabled: bool,
    pending: bool,
    /// Pending was taken back while in a list register.
    cancel: bool,
}

impl Lpi {
    const UNMAPPED: Self = Self {
        mapped: false,
        route: NOBODY,
        at: NOBODY,
        holder: NOBODY,
        priority: 0,
        enabled: false,
        pending: false,
        cancel: false,
    };

    const fn is_listed(&self) -> bool {
        self.holder != NOBODY
    }
}

/// All LPIs of a VM.
#[derive(Debug, Default)]
pub(super) struct Lpis {
    /// GICR_PROPBASER: one for all vCPUs.
    pub properties: u64,
    /// One for each LPI; none before LPIs are offered.
    table: Vec<Lpi>,
}

impl Lpis {
    /// All that a VM has, none mapped.
    pub fn offered() -> Self {
        Self { properties: 0, table: vec![Lpi::UNMAPPED; LPIS] }
    }

    fn get(&mut self, intid: u32) -> Option<&mut Lpi> {
        let lpi = self.table.get_mut(intid.checked_sub(FIRST)? as usize)?;
        lpi.mapped.then_some(lpi)
    }
}

/// What a redistributor holds of LPIs.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// GICR_CTLR.EnableLPIs.
    pub on: bool,
    /// GICR_PENDBASER, read back and otherwise unused.
    pub pending_table: u64,
    /// LPIs that are pending and enabled here, and in no list register.
    bits: [u64; LPIS / 64],
    /// Which of those words are not 0, a bit each.
    words: u32,
}

impl Waiting {
    /// Puts an LPI in or takes it out; whether that changed anything.
    fn set(&mut self, index: usize, waits: bool) -> bool {
        let Some(word) = self.bits.get_mut(index / 64) else { return false };
        let before = *word;
        let bit = 1 << (index % 64);
        *word = if waits { before | bit } else { before & !bit };
        let some = u32::from(*word != 0) << (index / 64);
        self.words = self.words & !(1 << (index / 64)) | some;
        *word != before
    }

    /// Whether any waits here.
    pub const fn any(&self) -> bool {
        self.words != 0
    }

    /// The LPIs that wait here, lowest first.
    fn intids(&self) -> impl Iterator<Item = u32> + '_ {
        each(self.words).flat_map(|word| {
            let mut rest = self.bits.get(word).copied().unwrap_or(0);
            core::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(FIRST + 64 * word as u32 + bit)
            })
        })
    }
}

impl State {
    /// Puts an LPI where its state says.
    fn settle(&mut self, intid: u32) {
        let index = intid.wrapping_sub(FIRST) as usize;
        let Some(lpi) = self.lpis.table.get(index).copied() else { return };
        let waits = lpi.mapped && lpi.pending && lpi.enabled && !lpi.is_listed();
        for (vcpu, private) in self.private.iter_mut().enumerate() {
            let here = waits && usize::from(lpi.at) == vcpu;
            if private.lpis.set(index, here) && here {
                self.kicks |= 1 << vcpu;
            }
        }
    }

    /// The LPIs that wait for `vcpu`, with their priority.
    pub fn waiting_lpis(&self, vcpu: usize) -> impl Iterator<Item = (u8, u32)> + '_ {
        let private = self.private.get(vcpu).filter(|private| private.lpis.on);
        let intids = private.into_iter().flat_map(|private| private.lpis.intids());
        intids.filter_map(|intid| {
            let lpi = self.lpis.table.get(intid.wrapping_sub(FIRST) as usize)?;
            Some((lpi.priority, intid))
        })
    }

    /// The list register of an LPI that was waiting for `vcpu`.
    pub fn list_lpi(&mut self, vcpu: usize, intid: u32) -> Option<ListRegister> {
        let lpi = self.lpis.get(intid)?;
        lpi.pending = false;
        lpi.holder = vcpu as u8;
        let priority = lpi.priority;
        self.settle(intid);
        let state = LrState::Pending;
        Some(ListRegister { intid, priority, group1: true, state, ..ListRegister::default() })
    }

    /// An LPI comes back from a list register; it is gone if the guest took it, or unmapped it.
    pub fn unlist_lpi(&mut self, lr: ListRegister) {
        let index = lr.intid.wrapping_sub(FIRST) as usize;
        let Some(lpi) = self.lpis.table.get_mut(index) else { return };
        lpi.holder = NOBODY;
        let cancelled = core::mem::take(&mut lpi.cancel);
        if lr.state.pending() && !cancelled {
            lpi.pending = true;
        }
        self.settle(lr.intid);
    }

    /// Sends what waits of an LPI, or comes back from a list register, to another vCPU.
    fn send_lpi(&mut self, intid: u32, to: u8) {
        let Some(lpi) = self.lpis.get(intid) else { return };
        lpi.at = to;
        if lpi.is_listed() && lpi.holder != to {
            self.kicks |= 1 << lpi.holder;
        }
        self.settle(intid);
    }
}

impl Vgic {
    /// Lets the guest have LPIs. Before any vCPU runs.
    pub fn offer_lpis(&self) {
        self.with(|state| state.lpis = Lpis::offered());
        self.lpis_offered.store(true, Ordering::Release);
        self.typer.store(size::typer(self.version(), self.vcpus(), true), Ordering::Relaxed);
    }

    /// Whether the guest has LPIs.
    pub fn has_lpis(&self) -> bool {
        self.lpis_offered.load(Ordering::Acquire)
    }

    /// Where the guest keeps the configuration byte of an LPI (GICR_PROPBASER).
    pub fn lpi_configuration(&self, intid: u32) -> Option<u64> {
        let properties = self.with(|state| state.lpis.properties);
        let index = intid.checked_sub(FIRST)?;
        let within = u64::from(intid) < 1 << ((properties & ID_BITS) + 1).min(32);
        (within && properties & ADDRESS != 0).then(|| (properties & ADDRESS) + u64::from(index))
    }

    /// An LPI is mapped to a vCPU, disabled and not pending.
    pub fn map_lpi(&self, intid: u32, vcpu: usize) {
        self.with(|state| {
            let index = intid.wrapping_sub(FIRST) as usize;
            let Some(lpi) = state.lpis.table.get_mut(index) else { return };
            // What a list register still holds of the number's last life is not this one's.
            let (vcpu, holder, cancel) = (vcpu as u8, lpi.holder, lpi.is_listed());
            *lpi = Lpi { mapped: true, route: vcpu, at: vcpu, holder, cancel, ..Lpi::UNMAPPED };
            state.settle(intid);
        });
    }

    /// An LPI is unmapped; if a vCPU has it in a list register, it looks again.
    pub fn unmap_lpi(&self, intid: u32) {
        self.set_lpi_pending(intid, false);
        self.with(|state| {
            if let Some(lpi) = state.lpis.get(intid) {
                lpi.mapped = false;
            }
            state.settle(intid);
        });
    }

    /// The messages of an LPI go to another vCPU from now on, and what is pending goes along.
    pub fn move_lpi(&self, intid: u32, vcpu: usize) {
        self.with(|state| {
            if let Some(lpi) = state.lpis.get(intid) {
                lpi.route = vcpu as u8;
            }
            state.send_lpi(intid, vcpu as u8);
        });
    }

    /// Every LPI that is pending at `from` is pending at `to` instead; where their next messages go
    /// stays as it is (MOVALL, 5.13.8).
    pub fn move_pending_lpis(&self, from: usize, to: usize) {
        self.with(|state| {
            // At most as many as there are LPIs, a few instructions each.
            for index in 0..state.lpis.table.len() {
                let moves = state.lpis.table.get(index).is_some_and(|lpi| {
                    lpi.mapped && usize::from(lpi.at) == from && (lpi.pending || lpi.is_listed())
                });
                if moves {
                    state.send_lpi(FIRST + index as u32, to as u8);
                }
            }
        });
    }

    /// Takes over an LPI's configuration byte.
    pub fn configure_lpi(&self, intid: u32, byte: u8) {
        self.with(|state| {
            if let Some(lpi) = state.lpis.get(intid) {
                lpi.enabled = byte & ENABLED != 0;
                lpi.priority = byte & PRIORITY;
                state.settle(intid);
            }
        });
    }

    /// Makes a mapped LPI pending, or not.
    pub fn set_lpi_pending(&self, intid: u32, pending: bool) {
        self.with(|state| {
            let Some(lpi) = state.lpis.get(intid) else { return };
            if pending && !lpi.pending {
                lpi.at = lpi.route;
            }
            lpi.pending = pending;
            if lpi.is_listed() {
                // Its vCPU takes back what it has, which may be over by now, and looks again.
                lpi.cancel |= !pending;
                state.kicks |= 1 << lpi.holder;
            }
            state.raised += u64::from(pending);
            state.settle(intid);
        });
    }
}
