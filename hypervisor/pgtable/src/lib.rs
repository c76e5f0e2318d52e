//! Page tables: one walker, every LPAE format, a registry indexed by format.
//!
//! A [`Config`] goes in, a `Box<dyn PageTable>` and the values of the hardware's
//! registers come out. The same stage-2 format serves the CPU and every IOMMU.
//!
//! ```
//! use palisade_hal::{Iova, PhysAddr};
//! use palisade_mem::{Agent, Arena, FrameTables, Frames, Owner, Proof, Scope};
//! use palisade_pgtable::{Config, FormatId, Gather, Prot, TlbError, TlbOps, alloc};
//!
//! // Who knows how to invalidate: an SMMU, the CPU, both.
//! struct Tlb(Agent, Scope);
//! impl TlbOps for Tlb {
//!     fn flush_all(&self) -> Result<Proof, TlbError> {
//!         let ticket = self.0.begin(self.1); // before the commands are sent
//!         // … TLBI, SYNC, and wait; on a time-out: Err(TlbError { agent: self.0.name() })
//!         Ok(Proof::new(self.1).with(ticket.complete()))
//!     }
//!     fn flush_walk(&self, _: Iova, _: u64, _: u64) -> Result<Proof, TlbError> {
//!         self.flush_all()
//!     }
//!     fn add_leaf(&self, _: Iova, _: u64, _: u64) {}
//!     fn sync(&self) -> Result<Proof, TlbError> {
//!         self.flush_all()
//!     }
//! }
//!
//! let arena = Arena::new(PhysAddr::new(0x8000_0000), 256);
//! let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
//! let agent = frames.register_agent("smmu").unwrap();
//! let (scope, agents) = (Scope::new(1), agent.set());
//! let tlb = Tlb(agent, scope);
//! let memory = FrameTables::new(frames.clone(), Owner::vm(0), scope, agents);
//!
//! let mut table = alloc(&Config::iommu_stage2(40, 40, true), memory).unwrap();
//! let regs = *table.registers().stage2().unwrap();
//! assert_eq!((regs.t0sz, regs.sl0, regs.vtcr), (24, 1, 0x2_3558)); // L1, two root tables
//!
//! let (iova, pa) = (Iova::new(0x4000_0000), PhysAddr::new(0x1_0000_0000));
//! table.map_range(iova, pa, 0x60_3000, Prot::MEMORY).unwrap(); // 3 × 2 MiB and 3 × 4 KiB
//! assert_eq!(table.iova_to_phys(Iova::new(0x4060_1042)), Some(PhysAddr::new(0x1_0060_1042)));
//! assert!(table.map_pages(iova, pa, 4096, 1, Prot::MEMORY).is_err()); // EEXIST
//!
//! // Unmap; invalidate once; only then give tables (and guest pages) back.
//! let mut gather = Gather::new(&tlb);
//! assert_eq!(table.unmap_range(iova, 0x60_3000, &mut gather), Ok(0x60_3000));
//! let flushed = gather.finish().unwrap().unwrap();
//! frames.release(flushed.tables.unwrap(), &flushed.proof).unwrap();
//!
//! // The whole table: no longer in any STE or VTTBR, but perhaps in TLBs.
//! let mut gather = Gather::new(&tlb);
//! table.free(&mut gather);
//! let flushed = gather.finish().unwrap().unwrap();
//! frames.release(flushed.tables.unwrap(), &flushed.proof).unwrap();
//! assert_eq!(frames.footprint().table, 0);
//! ```
//!
//! If [`Gather::finish`] fails, nothing that was unmapped may be reused: give the
//! tables to [`Frames::quarantine`](palisade_mem::Frames::quarantine).
//!
//! Inside: a `Format` sees a word and a level; `walk` has the
//! one descent; `map`, `unmap`, `split` and `dirty` are built on it. Dispatch is
//! dynamic at [`PageTable`] only, static below.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod build;
mod cache;
mod collapse;
mod config;
mod dirty;
mod error;
mod fmt;
mod format;
mod gather;
mod geometry;
mod machine;
mod map;
mod prot;
mod registry;
mod regs;
mod reserve;
mod selftest;
mod space;
mod split;
mod table;
mod unmap;
mod walk;

pub use build::alloc;
pub use config::{Config, FormatId, Quirks, SIZES_4K, SIZES_16K, SIZES_64K, SplitPolicy, View};
pub use error::{ConfigError, Error, TlbError};
pub use gather::{FlushPolicy, Flushed, Gather, TlbOps, Unflushed};
pub use machine::{LPAE, STAGE2_4K, V7S, alloc_in_frames};
pub use prot::Prot;
pub use registry::{FormatFns, RegisterError, Registry};
pub use regs::{MaliRegs, Registers, Stage1Regs, Stage2Regs, V7sRegs};
pub use selftest::{Report, SelfTest, SelfTestError};
pub use table::{Leaf, PageTable, Walk};
