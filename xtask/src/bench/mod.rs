//! `cargo xtask bench`: instruction counts beside the peers'.

mod callgrind;
mod command;
mod entry;
mod exits;
mod guests;
mod pgtable;
mod sharing;
mod smmuv3;

pub use command::bench;
