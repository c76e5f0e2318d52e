//! The VMs: built, run, restarted, given and deprived of devices, ended.

pub(crate) mod bundle;
pub(crate) mod core_loop;
pub(crate) mod host;
pub(crate) mod hotplug;
pub(crate) mod interface;
pub(crate) mod placement;
pub(crate) mod plain;
pub(crate) mod slot;
pub(crate) mod system;
pub(crate) mod unit;
