//! `cargo xtask lint`: what must be true of the source.

mod command;
mod directions;
mod tidy;
mod unsafety;

pub use command::lint;
pub use tidy::files;
