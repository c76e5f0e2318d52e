//! Entries (§5, §3.21.3): their images, which bits hardware reads, how a live one changes.

pub mod encode;
pub mod used;
pub mod writer;
