//! The trait that a driver implements.

use palisade_hal::{StreamId, SubstreamId, Vmid};

use super::{
    Capabilities, Context, ContextView, DefaultSubstream, Drained, DriverError, FaultRecord,
    GuestIdentity, Invalidation, Response, StageTwo, StreamPolicy, StreamState,
};

/// One IOMMU, seen from above. See the module's text for what holds for every method.
pub trait IommuDriver: Send + Sync {
    /// What this IOMMU can do; never changes.
    fn capabilities(&self) -> Capabilities;

    /// The ID registers of the IOMMU that a guest may be shown in place of this one, whose entries
    /// and commands [`attach_nested`](Self::attach_nested) and
    /// [`cache_invalidate`](Self::cache_invalidate) then take. `ipa_bits`: the size of its
    /// addresses. `None` where it could not be kept.
    fn guest_identity(&self, ipa_bits: u8) -> Option<GuestIdentity> {
        let _ = ipa_bits;
        None
    }

    // --- Streams -------------------------------------------------------------------------

    /// Makes sure that an aborting entry for `stream` exists in memory (a second-level stream
    /// table is made where needed). Replayable.
    ///
    /// # Errors
    /// [`DriverError::UnknownStream`], [`DriverError::NoMemory`], or a time-out.
    fn prepare(&self, stream: StreamId) -> Result<(), DriverError>;

    /// Puts `stream` behind stage 2 only, from whatever it does now, hitless where the manual
    /// allows. Cached configuration is gone when this returns; translations tagged with the
    /// VMID are the caller's to invalidate.
    ///
    /// # Errors
    /// See [`DriverError`]; `Unsupported(Feature::StageTwo)` on a stage-1-only IOMMU.
    fn attach(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        policy: StreamPolicy,
    ) -> Result<(), DriverError>;

    /// Lets every transaction of `stream` pass untranslated. For the hypervisor's own use
    /// only; never reachable from anything that a guest asks for.
    ///
    /// # Errors
    /// See [`DriverError`].
    fn attach_identity(&self, stream: StreamId) -> Result<(), DriverError>;

    /// Sets `stream` to abort: entry written, configuration invalidated, synchronised. When
    /// this returns `Ok`, every transaction that the IOMMU accepts from now on aborts. A
    /// context table of the stream stays allocated. Idempotent.
    ///
    /// # Errors
    /// [`DriverError::Timeout`]: the entry says abort but the hardware did not confirm it.
    fn detach(&self, stream: StreamId) -> Result<(), DriverError>;

    /// What `stream` does now, read back from its entry in memory.
    fn stream_state(&self, stream: StreamId) -> StreamState;

    // --- Context tables owned by the hypervisor ------------------------------------------

    /// Allocates an empty context table with `2^bits` substreams for `stream`, reachable for
    /// the hardware through `view`. One table per stream; every context starts invalid. This and
    /// the other methods that take a view call it with no lock of their own held.
    ///
    /// # Errors
    /// `Unsupported(Feature::Substreams)` if `bits` is beyond the IOMMU; [`DriverError::State`] if the
    /// stream has a table; [`DriverError::NoMemory`].
    fn create_contexts(
        &self,
        stream: StreamId,
        bits: u8,
        view: &dyn ContextView,
    ) -> Result<(), DriverError>;

    /// Frees the context table of `stream`, which must be aborting or behind stage 2 only.
    ///
    /// # Errors
    /// [`DriverError::State`] while the entry of the stream uses the table.
    fn destroy_contexts(&self, stream: StreamId, view: &dyn ContextView)
    -> Result<(), DriverError>;

    /// Puts `stream` behind its context table: stage 1 alone, or nested over `stage_two`.
    ///
    /// # Errors
    /// [`DriverError::State`] without a context table; `Unsupported(Feature::Nested)`.
    fn attach_contexts(
        &self,
        stream: StreamId,
        stage_two: Option<&StageTwo>,
        default: DefaultSubstream,
        policy: StreamPolicy,
    ) -> Result<(), DriverError>;

    /// Makes sure that the table has memory for `substream` (a leaf of a two-level table), so
    /// that a following [`write_context`](Self::write_context) needs none. Replayable.
    ///
    /// # Errors
    /// [`DriverError::Argument`] for a substream beyond the table; [`DriverError::NoMemory`].
    fn prepare_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        view: &dyn ContextView,
    ) -> Result<(), DriverError>;

    /// Writes the context of `substream`, hitless wherever the present one and the new one
    /// allow, or makes it invalid (`None`); the configuration is invalidated and synchronised.
    /// Changes nothing in TLBs: that is the caller's.
    ///
    /// # Errors
    /// [`DriverError::State`] without a prepared place for it.
    fn write_context(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        context: Option<&Context>,
    ) -> Result<(), DriverError>;

    // --- Configurations owned by a guest -------------------------------------------------

    /// Attaches `stream` as the guest's own entry `words` asks, under `stage_two`. Only the
    /// fields that a guest may choose are taken; its Config is mapped (abort, stage 2 only or
    /// nested), never copied. The answer is what the stream does then.
    ///
    /// # Errors
    /// [`DriverError::Refused`] with the word to blame; the stream is then as it was.
    fn attach_nested(
        &self,
        stream: StreamId,
        stage_two: &StageTwo,
        policy: StreamPolicy,
        words: &[u64; 8],
    ) -> Result<StreamState, DriverError>;

    /// Carries out a guest's own invalidation commands under its VMID. `stream` answers the n-th
    /// physical stream that a virtual StreamID stands for, from 0 on; the first one is missing
    /// where the guest may not name it. Bounded by the length of `words`, times the streams for
    /// those that name one; one synchronisation for all. Answers how many were taken.
    ///
    /// # Errors
    /// `(done, error)`: commands before `done` are carried out and synchronised, the one at
    /// `done` is to blame.
    fn cache_invalidate(
        &self,
        vmid: Vmid,
        stream: &dyn Fn(u32, usize) -> Option<StreamId>,
        words: &[[u64; 2]],
    ) -> Result<usize, (usize, DriverError)>;

    // --- Invalidation and faults ----------------------------------------------------------

    /// Carries out a batch in order and synchronises.
    ///
    /// # Errors
    /// [`DriverError::InvalidationTimeout`], [`DriverError::Timeout`] with the stream whose
    /// device TLB did not answer, or [`DriverError::Dead`]: nothing of the batch counts as
    /// invalidated.
    fn invalidate(&self, batch: &[Invalidation]) -> Result<(), DriverError>;

    /// Answers a stalled transaction.
    ///
    /// # Errors
    /// `Unsupported(Feature::Stall)` where faults never stall.
    fn resume(&self, stream: StreamId, tag: u16, response: Response) -> Result<(), DriverError>;

    /// Says whether the device behind `stream`, to which ATS was granted, has its own ATS on.
    ///
    /// Off, before the device loses it (a reset clears ATS Enable and the device's TLB with it):
    /// from then on the stream translates without ATS and no invalidation is sent to the device,
    /// which would not complete one. On, before the device gets it again (IHI 0070 §3.9.2).
    ///
    /// A stream without the grant stays without ATS.
    ///
    /// # Errors
    /// Those of a change of the stream's entry.
    fn set_device_tlb(&self, stream: StreamId, on: bool) -> Result<(), DriverError>;

    /// Hands at most `budget` event records to `sink`, which must neither block nor call back.
    /// Streams whose groups went over their budgets of events are named in the answer: the caller
    /// sets them to abort, with the rest of their groups. Records that the hardware lost count
    /// against whoever fills the queue.
    fn drain_events(&self, sink: &mut dyn FnMut(&FaultRecord), budget: usize) -> Drained;

    /// Begins a budget of events afresh that `streams`, those of one group, have together: it has a
    /// new owner. Nothing else does.
    fn renew_budget(&self, streams: &[StreamId]);

    /// The instance answered everything so far; `false` once it counts as dead.
    fn is_alive(&self) -> bool;

    /// Leaves every stream aborting and the IOMMU in a state that a next owner can take over.
    fn shutdown(&self);
}
