//! The VMs: built, run, restarted, given and deprived of devices, ended.

pub(crate) mod build;
pub(crate) mod built;
pub(crate) mod bundle;
pub(crate) mod core_loop;
pub(crate) mod end;
pub(crate) mod fittings;
pub(crate) mod host;
pub(crate) mod hotplug;
pub(crate) mod images;
pub(crate) mod interface;
pub(crate) mod placement;
pub(crate) mod plain;
pub(crate) mod rebuild;
pub(crate) mod refusal;
pub(crate) mod release;
pub(crate) mod senders;
pub(crate) mod slot;
pub(crate) mod standing;
pub(crate) mod system;
pub(crate) mod watch;

#[cfg(test)]
mod tests;
