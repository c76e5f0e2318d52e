//! The order of all locks.

/// Every kind of lock in the hypervisor, in the order in which they may be taken: each may be
/// waited for by whoever holds only locks that stand above it here. Two of one kind are never held
/// at once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[repr(u8)]
pub enum Rank {
    /// Core: the VM in a slot.
    Slot,
    /// Core: a VM's devices, while they change.
    Devices,
    /// VM: the one assignment or return that runs.
    Assignment,
    /// VM: a guest's service, for a hypercall.
    Service,
    /// VM: the functions on a guest's bus.
    GuestBus,
    /// VM: a guest's flash.
    GuestFlash,
    /// VM: a guest's translation service.
    VirtualIts,
    /// VM: the command half of a guest's SMMU.
    VirtualSmmu,
    /// VM: which devices stand behind a guest's SMMU, for its events.
    VirtualSmmuPlaces,
    /// VM: the event half of a guest's SMMU. Never held across a wait.
    VirtualSmmuEvents,
    /// VM: which VM an LPI belongs to.
    LpiRoutes,
    /// IOMMU: a space of ASIDs, its tables and processes.
    PasidSpace,
    /// VM: the notifiers of a guest's process.
    Notifiers,
    /// VM: a VM's map, both views.
    VmMap,
    /// IOMMU: known devices, instances and groups.
    Registry,
    /// IOMMU: one group.
    Group,
    /// IOMMU: one domain.
    Domain,
    /// SMMU: entries and context tables.
    SmmuStreams,
    /// SMMU: the command queue.
    SmmuCommands,
    /// SMMU: event and page request queues, and the watch for storms.
    SmmuEvents,
    /// IOMMU: a log of faults, a VM's or the operator's.
    FaultLog,
    /// IOMMU: the VMIDs, or a space of IOASIDs.
    Ids,
    /// VM: who owns which device.
    Ownership,
    /// VM: who owns which interrupt line.
    Lines,
    /// VM: which vCPUs are on.
    Power,
    /// VM: a virtual UART.
    GuestUart,
    /// VM: which physical interrupts a virtual interrupt controller is linked to.
    VirtualGicLinks,
    /// VM: a virtual interrupt controller.
    VirtualGic,
    /// GIC: the physical translation service, or another physical part.
    PhysicalIts,
    /// Core: what is counted and shown of faults.
    FaultCounts,
    /// Core: the operator's line.
    OperatorLine,
    /// Boot: the hypervisor's own map.
    OwnMap,
    /// Memory: the frames. Never held across a wait.
    Frames,
    /// Core: the UART. Anything may be logged under any lock above.
    Console,
    /// Memory: the hypervisor's heap, under whatever allocates.
    Heap,
    /// Tests: a fake's own state, under whatever uses the fake.
    Fake,
}
