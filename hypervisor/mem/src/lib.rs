//! Memory: who owns each frame, and what it takes to give one back.
//!
//! [`Frames`] hands out [`Block`]s, each tagged with its [`Use`] and [`Owner`].
//! A block that a table walker or a device could reach is *exposed*; the only
//! way back is [`Frames::release`], which takes a [`Detached`] and a [`Proof`]
//! that every [`Agent`] which could hold a translation has forgotten it. A
//! `Detached` that is dropped leaks its frames and counts them; it never frees.
//! Whole address spaces end by closing their [`Space`] first: while an entry
//! points at a root, no proof of invalidations is good enough for what it maps.
//!
//! ```
//! use palisade_hal::PhysAddr;
//! use palisade_mem::{Arena, Frames, Owner, Proof, Scope, Use};
//!
//! let arena = Arena::new(PhysAddr::new(0x8000_0000), 256);
//! let frames = Frames::new(arena.map(), &[arena.range()]).unwrap();
//! let smmu = frames.register_agent("smmu").unwrap();
//!
//! let block = frames.alloc_zeroed(0, Use::Guest, Owner::vm(0)).unwrap();
//! frames.expose(&block); // …and map it somewhere
//! // Teardown: clear the entry, detach, invalidate, and only then release.
//! let detached = frames.detach(block, Scope::new(1), smmu.set());
//! let ticket = smmu.begin(Scope::new(1));
//! // … TLBI + SYNC succeed here; had they failed, the ticket would be dropped.
//! let proof = Proof::new(Scope::new(1)).with(ticket.complete());
//! frames.release(detached, &proof).unwrap();
//! ```
#![no_std]
// Opted in: turning a physical address into a reference happens here only.
#![allow(unsafe_code)]

extern crate alloc;
#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
extern crate std;

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
mod arena;
mod block;
mod copy;
mod detached;
mod dma;
mod error;
mod footprint;
mod frames;
mod heap;
mod ledger;
mod map;
mod reserve;
mod slot;
mod sorted;
mod space;
mod table;
mod tag;

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
pub use arena::Arena;
pub use block::Block;
pub use detached::{Detached, Unreleased};
pub use dma::DmaBuffer;
pub use error::FrameError;
pub use footprint::Footprint;
pub use frames::{Frames, PhysRange};
pub use heap::Heap;
pub use ledger::{Agent, AgentSet, MAX_AGENTS, Part, Proof, Scope, Ticket};
pub use map::DirectMap;
pub use reserve::Reserve;
pub use slot::Slot;
pub use sorted::SortedMap;
pub use space::{Closed, Mapped, Space};
pub use table::{FrameTables, Table, TableMemory, Words};
pub use tag::{FRAME_BYTES, FRAME_SHIFT, Owner, Tag, Use};
