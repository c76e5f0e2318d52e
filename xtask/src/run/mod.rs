//! `cargo xtask run`: builds, boots QEMU, plays a scenario, judges it.

mod command;
mod hardware;
mod kernel;
mod scenario;
mod terminal;

pub use command::run;
pub use hardware::Hardware;
pub use scenario::{Change, Wish, prepare};
