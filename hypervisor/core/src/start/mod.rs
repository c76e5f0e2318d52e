//! How the hypervisor comes up: the order of things, the other cores, and what it does without a tree.

pub(crate) mod init;
pub(crate) mod refuse;
pub(crate) mod secondaries;
