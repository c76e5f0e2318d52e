//! `cargo xtask bench`: instruction counts beside the peers'.

mod command;

pub use command::bench;
