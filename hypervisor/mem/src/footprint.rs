//! The machine's frames by use.

/// How many frames have which use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// In the allocator.
    pub free: u64,
    /// The hypervisor's private data.
    pub private: u64,
    /// Translation tables.
    pub table: u64,
    /// Guests' RAM.
    pub guest: u64,
    /// Queues and stream tables.
    pub dma: u64,
    /// Detached, waiting for a proof (leaked ones included).
    pub detached: u64,
    /// Lost for good.
    pub quarantined: u64,
    /// Of the detached: dropped without a proof.
    pub leaked: u64,
}
