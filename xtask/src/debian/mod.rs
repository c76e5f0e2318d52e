//! Files from Debian's arm64 packages: a kernel and an initramfs for Linux guests, the
//! Raspberry Pi 4's device tree, and those of every other board. They are fetched by apt with private state into a cache of the
//! user's; the system's own packages and lists stay as they are.

mod cache;
mod initramfs;
mod packages;

pub use cache::{Files, OTHERS, files, files_of, firmware, trees};
pub use initramfs::initramfs;
