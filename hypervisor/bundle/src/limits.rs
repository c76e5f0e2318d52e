//! How much there can be of what a manifest describes, and where a VM's memory starts. The one
//! place for these numbers: the hypervisor and the tool that packs bundles both take them here.

/// Most VMs.
pub const MAX_VMS: usize = 8;
/// Most cores that the hypervisor runs on.
pub const MAX_CORES: usize = palisade_hal::machine::MAX_CPUS;
/// Most virtual CPUs per VM: each has a core of its own.
pub const MAX_VCPUS: usize = MAX_CORES;
/// Most devices per VM.
pub const MAX_DEVICES: usize = 8;
/// Most read-only ranges per VM.
pub const MAX_READONLY: usize = 8;
/// Longest name of a VM, in bytes.
pub const MAX_NAME: usize = 31;
/// Where a VM's memory starts.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Least memory of a VM, in bytes: one block of 2 MiB.
pub const MIN_MEMORY: u64 = 2 << 20;
/// Most memory of a VM, in bytes: what lies below the 64-bit PCI window of a 39-bit IPA space.
pub const MAX_MEMORY: u64 = 128 << 30;
/// Memory of a VM comes in multiples of this, in bytes.
pub const PAGE: u64 = 4096;
