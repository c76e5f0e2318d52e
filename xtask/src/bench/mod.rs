//! `cargo xtask bench`: instruction counts beside the peers'.

mod command;
mod entry;
mod smmuv3;

pub use command::bench;
