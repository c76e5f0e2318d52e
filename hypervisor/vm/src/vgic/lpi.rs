//! LPIs: message-signalled interrupts that have no active state (5.1).
//!
//! What the guest's translation service maps exists here; the rest does not. Which vCPU an LPI is
//! sent to, whether it is enabled and how urgent it is come with the mapping; the tables in the
//! guest's memory are read by the translation service only.
use core::sync::atomic::Ordering;

use palisade_gic::{ListRegister, LrState};
use palisade_mem::SortedMap;

use super::state::{State, Vgic};

/// First LPI.
pub const FIRST: u32 = 8192;

/// A configuration byte (5.1.1): enabled in bit 0, priority in bits 7:2.
const ENABLED: u8 = 1;
const PRIORITY: u8 = 0xf8;
/// GICR_PROPBASER's address field, and its IDbits (12.11.35).
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ID_BITS: u64 = 0x1f;

/// A mapped LPI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lpi {
    vcpu: u8,
    priority: u8,
    enabled: bool,
    pending: bool,
    listed: bool,
    /// Pending was taken back while listed.
    cancel: bool,
}

/// All mapped LPIs of a VM.
#[derive(Debug, Default)]
pub(super) struct Lpis {
    /// GICR_PROPBASER: one for all vCPUs.
    pub properties: u64,
    table: SortedMap<u32, Lpi>,
}

/// What a redistributor holds of LPIs.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// GICR_CTLR.EnableLPIs.
    pub on: bool,
    /// GICR_PENDBASER, read back and otherwise unused.
    pub pending_table: u64,
    /// LPIs that are pending and enabled here, and in no list register.
    intids: SortedMap<u32, ()>,
}

impl State {
    /// Puts an LPI where its state says.
    fn settle(&mut self, intid: u32) {
        let lpi = self.lpis.table.get(&intid).copied();
        for (vcpu, private) in self.private.iter_mut().enumerate() {
            let wanted = lpi.is_some_and(|lpi| {
                lpi.pending && lpi.enabled && !lpi.listed && usize::from(lpi.vcpu) == vcpu
            });
            if wanted && private.lpis.intids.insert(intid, ()).is_none() {
                self.kicks |= 1 << vcpu;
            } else if !wanted {
                private.lpis.intids.remove(&intid);
            }
        }
    }

    /// The LPIs that wait for `vcpu`, with their priority.
    pub fn waiting_lpis(&self, vcpu: usize) -> impl Iterator<Item = (u8, u32)> + '_ {
        let private = self.private.get(vcpu).filter(|private| private.lpis.on);
        let intids = private.into_iter().flat_map(|private| private.lpis.intids.keys());
        intids.filter_map(|intid| Some((self.lpis.table.get(intid)?.priority, *intid)))
    }

    /// The list register of an LPI that was waiting.
    pub fn list_lpi(&mut self, intid: u32) -> Option<ListRegister> {
        let lpi = self.lpis.table.get_mut(&intid)?;
        lpi.pending = false;
        lpi.listed = true;
        let priority = lpi.priority;
        self.settle(intid);
        let state = LrState::Pending;
        Some(ListRegister { intid, priority, group1: true, state, ..ListRegister::default() })
    }

    /// An LPI comes back from a list register; it is gone if the guest took it, or unmapped it.
    pub fn unlist_lpi(&mut self, lr: ListRegister) {
        let Some(lpi) = self.lpis.table.get_mut(&lr.intid) else { return };
        lpi.listed = false;
        let cancelled = core::mem::take(&mut lpi.cancel);
        if lr.state.pending() && !cancelled {
            lpi.pending = true;
        }
        self.settle(lr.intid);
    }
}

impl Vgic {
    /// Lets the guest have LPIs. Before any vCPU runs.
    pub fn offer_lpis(&self) {
        self.lpis_offered.store(true, Ordering::Release);
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
            let (vcpu, priority) = (vcpu as u8, 0);
            let lpi = Lpi {
                vcpu,
                priority,
                enabled: false,
                pending: false,
                listed: false,
                cancel: false,
            };
            state.lpis.table.insert(intid, lpi);
            state.settle(intid);
        });
    }

    /// An LPI is unmapped; if a vCPU has it in a list register, it looks again.
    pub fn unmap_lpi(&self, intid: u32) {
        self.set_lpi_pending(intid, false);
        self.with(|state| {
            state.lpis.table.remove(&intid);
            state.settle(intid);
        });
    }

    /// An LPI goes to another vCPU, pending or not.
    pub fn move_lpi(&self, intid: u32, vcpu: usize) {
        self.with(|state| {
            if let Some(lpi) = state.lpis.table.get_mut(&intid) {
                let before = lpi.vcpu;
                lpi.vcpu = vcpu as u8;
                if lpi.listed {
                    state.kicks |= 1 << before;
                }
                state.settle(intid);
            }
        });
    }

    /// Takes over an LPI's configuration byte.
    pub fn configure_lpi(&self, intid: u32, byte: u8) {
        self.with(|state| {
            if let Some(lpi) = state.lpis.table.get_mut(&intid) {
                lpi.enabled = byte & ENABLED != 0;
                lpi.priority = byte & PRIORITY;
                state.settle(intid);
            }
        });
    }

    /// Makes a mapped LPI pending, or not.
    pub fn set_lpi_pending(&self, intid: u32, pending: bool) {
        self.with(|state| {
            let Some(lpi) = state.lpis.table.get_mut(&intid) else { return };
            lpi.pending = pending;
            state.raised += u64::from(pending);
            if lpi.listed && !pending {
                lpi.cancel = true;
                state.kicks |= 1 << lpi.vcpu;
            }
            state.settle(intid);
        });
    }
}
