//! The page-table formats of this image: registered once, each after its self-test.

use alloc::sync::Arc;

use palisade_hal::{Iova, tlb};
use palisade_mem::{Agent, FrameTables, Frames, Owner, Proof, Scope};
use palisade_pgtable::{
    Flushed, FormatFns, LPAE, RegisterError, Registry, STAGE2_4K, SelfTest, TlbError, TlbOps, V7S,
};

static FORMATS: Registry<FrameTables> = Registry::new();

/// Families of formats that an image registers.
pub(crate) type Families = &'static [&'static [FormatFns<FrameTables>]];

/// The address space of the self-tests' tables, which nothing is ever pointed at.
const SCOPE: Scope = Scope::new(1);

/// What the shipped image's instances use: stage 2 with 4 KiB pages.
pub(crate) const SHIPPED: Families = &[&STAGE2_4K];
/// Every format there is.
pub(crate) const ALL: Families = &[&LPAE, &V7S];

/// What is registered.
pub(crate) fn registry() -> &'static Registry<FrameTables> {
    &FORMATS
}

/// The CPUs' TLBs, for tables that no CPU has walked.
struct Cpus<'a> {
    agent: &'a Agent,
    scope: Scope,
}

impl TlbOps for Cpus<'_> {
    fn flush_all(&self) -> Result<Proof, TlbError> {
        let ticket = self.agent.begin(self.scope);
        tlb::flush_all_guests();
        Ok(Proof::new(self.scope).with(ticket.complete()))
    }

    fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
        self.flush_all()
    }

    fn add_leaf(&self, _: Iova, _: u64, _: u64) {}

    fn sync(&self) -> Result<Proof, TlbError> {
        self.flush_all()
    }
}

/// Tests and registers the formats of an image.
///
/// # Errors
/// A failed self-test: then nothing of its family is registered, and no VM can be built.
pub(crate) fn register(
    families: Families,
    frames: &Arc<Frames>,
    cpus: &Agent,
) -> Result<(), RegisterError> {
    let memory = FrameTables::new(frames.clone(), Owner::HYPERVISOR, SCOPE, cpus.set());
    let release = |flushed: Flushed| {
        if let Some(tables) = flushed.tables {
            frames.release_or_quarantine(tables, Some(&flushed.proof));
        }
    };
    let tlb = Cpus { agent: cpus, scope: SCOPE };
    let test = SelfTest { memory: &memory, tlb: &tlb, release: &release };
    families.iter().try_for_each(|family| FORMATS.register_family(family, &test))
}
