//! Commands (§4): their words, and how a range is put into as few as possible.

mod encode;
pub mod range;

pub use encode::*;
