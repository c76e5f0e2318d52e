//! The calls. X1… are arguments, results come in X1… beside the [`Status`](crate::Status) in X0.

/// First number of the service: fast call, 64-bit convention, vendor-specific hypervisor.
pub const BASE: u32 = 0xc600_0000;

/// SMCCC general query: number of calls of the service, in W0.
pub const COUNT: u32 = 0x8600_ff00;
/// SMCCC general query: the UID of the service, in W0–W3; see [`UID_WORDS`].
pub const UID: u32 = 0x8600_ff01;
/// SMCCC general query: revision of the service, major in W0, minor in W1.
pub const REVISION: u32 = 0x8600_ff03;

/// 7a6f1c52-8f0e-4b1d-9d0b-70616c697361, as SMCCC returns it: four words, lowest byte first.
pub const UID_WORDS: [u32; 4] = [0x521c_6f7a, 0x1d4b_0e8f, 0x6170_0b9d, 0x6173_696c];

/// Version of the interface: `major << 16 | minor`. A guest must refuse another major number;
/// a higher minor number adds calls and flags, and changes none.
pub const INTERFACE_VERSION: u64 = 0x1_0001;

/// `VERSION()` → X1 = [`INTERFACE_VERSION`]. Constant.
pub const VERSION: u32 = BASE;

/// `FEATURES(X1 = function number)` → `SUCCESS` if the function is offered to this VM, else
/// `NOT_SUPPORTED`. Constant.
pub const FEATURES: u32 = BASE + 1;

/// `DEVICE_INFO(X1 = device)` → X1 = [`DeviceFlags`](crate::DeviceFlags), X2 = widths in bits
/// (see [`unpack_widths`](crate::unpack_widths): substreams, ASIDs, IPAs of the VM), X3 =
/// granules as a bitmap of page sizes.
///
/// Errors: `NOT_FOUND`. Constant.
pub const DEVICE_INFO: u32 = BASE + 2;

/// `FAULT_RING(X1 = IPA, X2 = bytes)`: faults of the guest's own making are reported to the ring
/// at this IPA from now on, one [`RingHeader`](crate::RingHeader) followed by as many
/// [`FaultRecord`](crate::FaultRecord)s as fit. The IPA is aligned to 4 KiB, the bytes are a
/// multiple of 4 KiB, at most 64 KiB; 0 bytes end the reports. The header is written by this
/// call; records of before are lost.
///
/// Errors: `INVALID`, `OUTSIDE`. One page of copies at most.
pub const FAULT_RING: u32 = BASE + 3;

/// `FAULTS_POLL()` → X1 = records written now, X2 = records lost since the ring was set. Moves
/// what is pending into the ring; the guest may also find it there without asking, since the
/// hypervisor does the same on its own whenever an IOMMU reports events.
///
/// Errors: `NOT_FOUND` without a ring. At most 64 records.
pub const FAULTS_POLL: u32 = BASE + 4;

/// `CONTEXTS_ENABLE(X1 = device, X2 = bits, X3 = default)`: puts the device (with everything in
/// its group) behind a context table of 2^bits substreams that the hypervisor owns. A
/// transaction without a substream terminates (default 0), skips stage 1 (1) or uses
/// substream 0 (2). Until something is bound every substream of it faults.
///
/// Errors: `NOT_FOUND`, `INVALID`, `NOT_SUPPORTED`, `BUSY` (behind a stage 1 already),
/// `NO_MEMORY`, `HARDWARE`. At most 64 KiB of table is cleared.
pub const CONTEXTS_ENABLE: u32 = BASE + 5;

/// `STAGE1_DISABLE(X1 = device)`: puts the device back behind stage 2 alone: it addresses IPAs.
/// Everything bound to it is unbound, the guest's own entries are forgotten.
///
/// Errors: `NOT_FOUND`, `HARDWARE` (the device then aborts, for good). At most one
/// synchronisation per binding and per stream of the group.
pub const STAGE1_DISABLE: u32 = BASE + 6;

/// `BIND(X1 = device, X2 = substream, X3 = table, X4 = TCR, X5 = MAIR, X6 = ASID | flags)`: the
/// substream translates by the stage 1 tables whose root is at IPA X3. TCR is TCR_EL1 with only
/// T0SZ, IRGN0, ORGN0, SH0, TG0 and IPS; MAIR is MAIR_EL1. The ASID (bits 15:0, not 0) names the
/// address space: the same ASID with the same tables may be bound to any number of substreams
/// and devices; with other tables it is `BUSY` until all of them are unbound. With
/// [`BindFlags::REBIND`](crate::BindFlags) the substream may be bound: it goes to the new
/// address space without a configuration error in between.
///
/// Errors: `NOT_FOUND`, `INVALID` (substream, TCR, ASID), `OUTSIDE` (root), `BUSY`, `NO_MEMORY`
/// (quota), `HARDWARE`. At most three writes and one synchronisation each per stream.
pub const BIND: u32 = BASE + 7;

/// `UNBIND(X1 = device, X2 = substream)`: the substream translates by nothing, and nothing that
/// was cached for it is reachable through it. Transactions that come nevertheless terminate.
///
/// Errors: `NOT_FOUND`, `HARDWARE`. One write per stream and one invalidation.
pub const UNBIND: u32 = BASE + 8;

/// `INVALIDATE(X1 = ASID, X2 = start, X3 = end, X4 = leaf)` → X1 = the first address not done.
/// Forgets translations of the range `start..end` of an address space, in every IOMMU and every
/// device that shares it. `leaf` is the size of the entries that changed, 0 if tables were
/// removed or sizes differ. `0..2^64 − 1` is everything. A longer range than 1 GiB is done in
/// part: the guest calls again from X1 on.
///
/// Errors: `NOT_FOUND`, `INVALID`, `HARDWARE` (what was mapped there counts as reachable).
pub const INVALIDATE: u32 = BASE + 9;

/// `INVALIDATE_BATCH(X1 = IPA, X2 = count)` → X1 = records done. As many
/// [`InvalidationRecord`](crate::InvalidationRecord)s in one call; at most 64. Consecutive records
/// of one address space go to each IOMMU as one batch with one synchronisation.
///
/// Errors: as `INVALIDATE` for the record at X1, `OUTSIDE`. With `HARDWARE` none of the records
/// that were sent together with the one at X1 counts as done.
pub const INVALIDATE_BATCH: u32 = BASE + 10;

/// `EXIT(X1 = ASID)`: the address space goes: every substream that translates by it terminates
/// from now on, whatever its device is doing, and its translations are forgotten. The bindings
/// still have to be undone one by one, which then costs nothing.
///
/// Errors: `NOT_FOUND`, `HARDWARE`. One write per bound substream and stream.
pub const EXIT: u32 = BASE + 11;

/// `STREAM_ENTRY(X1 = device, X2 = IPA)` → X1 = what the device does now (0 aborts, 2 stage 2, 3
/// both stages). Configures the device, with everything in its group, by a stream table entry of
/// the guest's own making, 64 bytes as the SMMU architecture lays them out (IHI 0070 §5.2). Taken from it are V, Config
/// (abort; bypass, which becomes stage 2 alone; stage 1, which becomes both stages), S1Fmt,
/// S1ContextPtr (an IPA), S1CDMax, S1DSS, S1CIR, S1COR, S1CSH, S1STALLD.
///
/// Errors: `NOT_FOUND`, `OUTSIDE`, `REFUSED`, `BUSY` (the hypervisor owns the context table),
/// `HARDWARE`. One entry per stream of the group; all of them are as they were when one is refused.
/// A device that was granted ATS goes without while its entry is the guest's.
pub const STREAM_ENTRY: u32 = BASE + 12;

/// `COMMANDS(X1 = device, X2 = IPA, X3 = count)` → X1 = commands done. Carries out SMMU commands
/// of 16 bytes on the device's IOMMU: TLBI_NSNH_ALL, TLBI_NH_ALL, TLBI_NH_ASID, TLBI_NH_VA,
/// TLBI_NH_VAA, CFGI_CD, CFGI_CD_ALL, and ATC_INV where ATS is granted; StreamIDs are devices of
/// the guest, VMIDs are ignored. Synchronised when the call returns. At most 64.
///
/// Errors: `NOT_FOUND`, `INVALID` (count), `OUTSIDE`, `BUSY` (no entry of its own is in force),
/// `REFUSED` (the command at X1 is to blame), `HARDWARE`.
pub const COMMANDS: u32 = BASE + 13;

/// `RESUME(X1 = device, X2 = stall tag, X3 = answer)`: answers a stalled transaction, see
/// [`StallAnswer`](crate::StallAnswer). Each is answered once; one that did not fit the ring, or
/// came while 256 were unanswered, was aborted by the hypervisor.
///
/// Errors: `NOT_FOUND`, `INVALID`, `NOT_SUPPORTED`, `HARDWARE`. One command.
pub const RESUME: u32 = BASE + 14;

/// `GIVE_UP(X1 = IPA, X2 = bytes)` → X1 = the first address not done. Gives RAM back: when the call
/// returns neither the guest's CPUs nor its devices reach it, whatever they hold in TLBs. What is
/// given up again stays so. It comes back, zeroed, when the VM starts anew. Whole pages of 4 KiB;
/// done up to the next multiple of 2 MiB: the guest calls again from X1 on.
///
/// Errors: `INVALID` (no whole pages), `OUTSIDE`; `NO_MEMORY` (the hypervisor has no table to split
/// a block) and `HARDWARE` say nothing about what is out of reach: the guest calls again. At most
/// 512 pages and one synchronisation.
pub const GIVE_UP: u32 = BASE + 15;

/// Number of calls of the service, the three general queries apart.
pub const CALLS: u32 = 16;

/// Most records of one `INVALIDATE_BATCH`, and most commands of one `COMMANDS`.
pub const MAX_BATCH: u64 = 64;

/// Longest range of one `INVALIDATE`, in bytes.
pub const MAX_RANGE: u64 = 1 << 30;

/// `GIVE_UP` ends at the next multiple of this.
pub const GIVE_UP_UNIT: u64 = 2 << 20;

/// Largest fault ring, in bytes.
pub const MAX_RING: u64 = 64 * 1024;
