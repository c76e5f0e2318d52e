//! What a VM finds in its memory when it starts: kernel, initrd, device tree.
//!
//! [`place`] decides where, [`tree`] writes the device tree with [`TreeWriter`], [`load`] does both
//! and copies.

mod copy;
mod place;
mod tree;
mod writer;

pub use copy::{Boot, Images, load};
pub use place::{LoadError, Placement, place, place_firmware};
pub use tree::{Machine, tree};
pub use writer::TreeWriter;
