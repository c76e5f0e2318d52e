//! What one IOMMU can do.

/// How the IOMMU treats a faulting transaction (IHI 0070, SMMU_IDR0.STALL_MODEL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallModel {
    /// Faults may stall or terminate, as the stream is configured.
    Selectable,
    /// Faults always terminate.
    Never,
    /// Faults always stall.
    Forced,
}

/// What one IOMMU can do, validated once when it was probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Stage 1 translation is implemented.
    pub stage1: bool,
    /// Stage 2 translation is implemented: without it nothing is passed through.
    pub stage2: bool,
    /// Both stages can be in force for one stream.
    pub nested: bool,
    /// Table walks and queue accesses are coherent with the CPU's caches.
    pub coherent: bool,
    /// Address ranges can be invalidated by one command.
    pub range_invalidation: bool,
    /// Device TLBs (ATS) are implemented.
    pub ats: bool,
    /// Faulting transactions stall, or not.
    pub stall: StallModel,
    /// Width of a StreamID in bits.
    pub stream_bits: u8,
    /// Width of a SubstreamID in bits; 0 means that only substream 0 exists.
    pub substream_bits: u8,
    /// Width of an ASID in bits: 8 or 16.
    pub asid_bits: u8,
    /// Width of a VMID in bits: 8 or 16.
    pub vmid_bits: u8,
    /// Output address size in bits.
    pub output_bits: u8,
    /// Translation granules as a bitmap of page sizes (4 KiB = bit 12, 16 KiB, 64 KiB).
    pub granules: u64,
}

/// The ID registers that a guest is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestIdentity {
    /// Those with features, in order (SMMUv3: SMMU_IDR0 to SMMU_IDR5).
    pub features: [u32; 6],
    /// The version of the architecture (SMMUv3: SMMU_AIDR).
    pub version: u32,
}

impl Capabilities {
    /// Number of SubstreamIDs, substream 0 included.
    pub const fn substreams(&self) -> u32 {
        1 << if self.substream_bits > 20 { 20 } else { self.substream_bits }
    }

    /// Largest ASID that fits every context of this IOMMU.
    pub const fn asid_max(&self) -> u16 {
        if self.asid_bits >= 16 { u16::MAX } else { (1 << self.asid_bits) - 1 }
    }

    /// Largest VMID that this IOMMU can tag entries with.
    pub const fn vmid_max(&self) -> u16 {
        if self.vmid_bits >= 16 { u16::MAX } else { (1 << self.vmid_bits) - 1 }
    }
}
