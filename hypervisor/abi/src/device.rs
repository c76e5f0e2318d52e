//! What a guest learns of a device, and flags of a binding.

/// Flags of `DEVICE_INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceFlags(pub u64);

impl DeviceFlags {
    /// Address spaces can be shared with it through the hypervisor's context table.
    pub const CONTEXTS: u64 = 1 << 0;
    /// It can be configured by the guest's own entries.
    pub const STREAM_ENTRY: u64 = 1 << 1;
    /// Faulting transactions may stall until answered.
    pub const STALLS: u64 = 1 << 2;
    /// It may hold translations of its own.
    pub const ATS: u64 = 1 << 3;
    /// It is behind a context table of the hypervisor now.
    pub const CONTEXTS_ON: u64 = 1 << 8;

    /// Every flag of `mask` is set.
    pub const fn contains(self, mask: u64) -> bool {
        self.0 & mask == mask
    }
}

/// Packs the widths of `DEVICE_INFO`: substreams, ASIDs and IPAs, in bits.
pub const fn pack_widths(substreams: u8, asids: u8, ipas: u8) -> u64 {
    substreams as u64 | (asids as u64) << 8 | (ipas as u64) << 16
}

/// Undoes [`pack_widths`].
pub const fn unpack_widths(word: u64) -> (u8, u8, u8) {
    (word as u8, (word >> 8) as u8, (word >> 16) as u8)
}

/// Flags of `BIND`, above the ASID in X6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindFlags;

impl BindFlags {
    /// The substream may be bound already.
    pub const REBIND: u64 = 1 << 16;
    /// Faults stall; only where `DEVICE_INFO` offers it.
    pub const STALL: u64 = 1 << 17;
    /// Every bit that may be set in X6.
    pub const ALL: u64 = 0xffff | Self::REBIND | Self::STALL;
}

/// The substream of a record whose transaction named none.
pub const NO_SUBSTREAM: u32 = u32::MAX;
