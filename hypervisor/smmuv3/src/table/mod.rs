//! Tables (§3.3, §5): stream table, context-descriptor tables, and the memory they lie in.

pub(crate) mod context;
pub(crate) mod memory;
pub(crate) mod sparse;
pub(crate) mod stream;
