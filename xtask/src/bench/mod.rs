//! `cargo xtask bench`: instruction counts beside the peers'.

mod command;
mod entry;

pub use command::bench;
