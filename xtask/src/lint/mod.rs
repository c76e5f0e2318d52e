//! `cargo xtask lint`: what must be true of the source.

mod circles;
mod command;
mod directions;
mod imports;
mod pages;
mod tidy;
mod unsafety;

pub use command::lint;
pub use tidy::files;
