//! `cargo xtask bundle`: TOML to a checked manifest, packed with its images as a cpio archive.

mod check;
mod command;
mod description;
mod manifest;
mod pack;

pub use check::checked;
pub use command::command;
pub use description::{Address, Description, Device, Vm};
pub use pack::{Images, pack, pack_unchecked};
