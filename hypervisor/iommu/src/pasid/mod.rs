//! PASID tables: which address space each substream of a device translates by.
//!
//! A [`Space`] is one space of ASIDs (one VM's, or the hypervisor's own) with every context
//! table that uses it. It decides and counts; how an entry is encoded and where the table lives
//! is behind a [`ContextStore`], so the same library serves the SMMU driver's tables and those
//! that a virtual IOMMU shows to a guest.
//!
//! States of an entry, and the only ways between them; every write is hitless:
//!
//! ```text
//!   empty ──prepare──▶ prepared ──write──▶ live ──park──▶ parked ──write──▶ live
//! ```
//!
//! A parked entry is valid, so a late transaction is no configuration error; it makes no walks,
//! and wears ASID 0, under which nothing is ever cached. From live to live an entry goes through
//! parked, and the old ASID is invalidated before the new one is published.

mod asids;
mod shared;
mod space;
mod store;
mod table;

pub use space::{MAX_ENTRIES, PasidError, Space, SpaceFootprint, TableId};
pub use store::{ContextStore, StreamContexts, Unwritten};
