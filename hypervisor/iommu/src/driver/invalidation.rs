//! Invalidations in the words of the manual, without their encoding.

use palisade_hal::{Asid, Iova, Ipa, StreamId, SubstreamId, Vmid};

/// One thing that caches of the IOMMU, or of a device behind it, must forget.
///
/// A batch of these is carried out in order. The driver puts a synchronisation wherever the
/// manual asks for one inside a batch (stage 2 before the stage 1 that follows it, every TLB
/// before the device TLBs) and one at its end. `size` is in bytes and is `end − start`; a
/// driver may invalidate more than asked, never less. A size of 0 invalidates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// Every translation of every stream.
    All,
    /// Stages 1 and 2 of one VMID.
    Vmid(Vmid),
    /// Stage 1 (and combined entries) of one VMID.
    StageOneOf(Vmid),
    /// A range of IPAs of one VMID's stage 2. Combined entries made by a nested walk do not
    /// go with it: follow it with [`StageOneOf`](Self::StageOneOf) where streams are nested.
    StageTwo {
        /// The VMID.
        vmid: Vmid,
        /// Start, aligned to `granule`.
        start: Ipa,
        /// Bytes.
        size: u64,
        /// Translation granule in bytes.
        granule: u64,
        /// Size in bytes of the leaf entries that were changed, if it is the same for all and
        /// no table was removed; else `None`, and walk caches are invalidated too.
        leaf: Option<u64>,
    },
    /// Every stage 1 translation of one ASID.
    Asid {
        /// The VMID under which the ASID lives (0 without stage 2).
        vmid: Vmid,
        /// The ASID.
        asid: Asid,
    },
    /// A range of virtual addresses of one ASID.
    StageOne {
        /// The VMID under which the ASID lives (0 without stage 2).
        vmid: Vmid,
        /// The ASID.
        asid: Asid,
        /// Start, aligned to `granule`.
        start: Iova,
        /// Bytes.
        size: u64,
        /// Translation granule in bytes.
        granule: u64,
        /// As in [`StageTwo`](Self::StageTwo).
        leaf: Option<u64>,
    },
    /// One cached context descriptor.
    Context {
        /// The stream whose table it is in.
        stream: StreamId,
        /// The substream.
        substream: SubstreamId,
    },
    /// Every cached context descriptor of one stream.
    Contexts(StreamId),
    /// A device's own TLB (ATC). Without effect on streams whose policy has ATS off: the
    /// driver drops it.
    Device {
        /// The stream.
        stream: StreamId,
        /// One substream, or `None` for all of them.
        substream: Option<SubstreamId>,
        /// Start.
        start: Iova,
        /// Bytes; `u64::MAX` means all addresses.
        size: u64,
    },
}
