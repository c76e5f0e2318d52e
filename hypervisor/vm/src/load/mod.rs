//! What a VM finds in its memory when it starts: kernel, initrd, device tree.
//!
//! [`place`] decides where, [`tree`] writes the device tree; copying is the caller's, who owns
//! the memory.

mod place;
mod tree;

pub use place::{LoadError, Placement, place};
pub use tree::{Machine, tree};
