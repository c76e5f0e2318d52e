//! What a mapping permits, and how memory behind it behaves.

use bitflags::bitflags;

bitflags! {
    /// Permissions and memory type of a mapping. Without `READ` or `WRITE` there
    /// is no mapping; nothing is executable unless `EXEC` says so.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Prot: u8 {
        /// Loads, and DMA from memory.
        const READ = 1 << 0;
        /// Stores, and DMA to memory. (Stage 1 has no write-only: it reads as well.)
        const WRITE = 1 << 1;
        /// Normal write-back cacheable, inner shareable; else non-cacheable.
        const CACHE = 1 << 2;
        /// Instruction fetch.
        const EXEC = 1 << 3;
        /// Device memory (Device-nGnRE); wins over `CACHE`.
        const DEVICE = 1 << 4;
        /// Stage 1 and v7s: privileged accesses only.
        const PRIV = 1 << 5;
    }
}

impl Prot {
    /// How many combinations there are.
    pub(crate) const COMBINATIONS: usize = 64;

    /// Ordinary memory of a guest: read, write, cacheable.
    pub const MEMORY: Self = Self::READ.union(Self::WRITE).union(Self::CACHE);
    /// The same, executable: the CPU's view of RAM.
    pub const RAM: Self = Self::MEMORY.union(Self::EXEC);
    /// Registers of a device.
    pub const MMIO: Self = Self::READ.union(Self::WRITE).union(Self::DEVICE);
}
