//! `cargo xtask setup`: installs what is missing where that is possible, else names it.

pub mod apt;
mod command;
pub mod packages;
mod qemu;
mod rights;
mod rust;
mod valgrind;

pub use command::setup;
pub use qemu::qemu;
pub use rust::{musl, rustup, target, uefi};
pub use valgrind::valgrind;
