//! `cargo xtask bench`: instruction counts beside the peers'.

mod callgrind;
mod command;
mod entry;
mod pgtable;
mod smmuv3;

pub use command::bench;
