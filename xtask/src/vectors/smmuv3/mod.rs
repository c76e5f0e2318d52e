//! The SMMUv3 driver's pure parts against the measured rows.

mod encodings;
mod recorder;
mod transitions;
mod used_bits;
mod words;

pub use encodings::encodings;
pub use transitions::{named_transitions, transitions};
pub use used_bits::used_bits;
