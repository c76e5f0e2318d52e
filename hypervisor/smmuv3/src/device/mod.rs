//! One SMMU at work: bring-up, streams and contexts, invalidation, what a guest may say, events.

mod batch;
pub mod bound;
mod bring_up;
mod context;
mod driver;
mod events;
pub mod guest;
mod identity;
mod invalidate;
mod live;
mod smmu;
mod stream;

pub use bring_up::abort_by_default;
pub use smmu::{Options, Smmu};
