//! Events (§7.3): what a record says, and which streams say too much.

pub mod decode;
pub(crate) mod storm;
