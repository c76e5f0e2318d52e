//! `cargo xtask boards`: which boards' device trees are read, and why others are not.

mod command;
mod firmware;
mod tally;

pub use command::{command, count};
