//! Context descriptors in plain fields, and where the hardware fetches their table from.

use palisade_hal::{Asid, PhysAddr};

use super::DriverError;

/// One address space of a process, as a context descriptor holds it (IHI 0070 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Tag of the cached translations of this address space; 0 only where `quiet`.
    pub asid: Asid,
    /// Root of the stage 1 table (TTB0), 16-byte aligned: a PA, or an IPA under a stage 2.
    pub table: u64,
    /// TCR_EL1 in the CPU's own positions: T0SZ \[5:0\], IRGN0 \[9:8\], ORGN0 \[11:10\], SH0 \[13:12\],
    /// TG0 \[15:14\], IPS \[34:32\], HA \[39\], HD \[40\]. Only these fields are looked at.
    pub tcr: u64,
    /// MAIR_EL1.
    pub mair: u64,
    /// Faults of this context stall; needs a stream whose policy allows it.
    pub stalls: bool,
    /// Faults are recorded in the event queue (CD.R).
    pub record: bool,
    /// The ASID belongs to this context alone and takes no part in the CPU's own maintenance
    /// (CD.ASET).
    pub private: bool,
    /// The context stays valid, so that no bad descriptor is ever reported, but nothing
    /// translates through it: no walks (EPD0 = 1; T0SZ, TG0, the walk attributes and TTB0 are
    /// not looked at), no stalls and no fault records unless the stall model insists.
    ///
    /// Walks being off does not turn cached translations off: the ASID of a quiet context must
    /// be one that nothing is cached under, and ASID 0 is kept for that.
    pub quiet: bool,
}

/// What happens to a transaction that names no substream (IHI 0070 §5.2, STE.S1DSS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultSubstream {
    /// It terminates.
    Terminate,
    /// It skips stage 1 (and, nested, goes through stage 2).
    Bypass,
    /// It uses the context of substream 0.
    #[default]
    Zero,
}

/// Where the hardware fetches the pages of a context table from.
///
/// Under a stage 2 the SMMU translates the address of the table too, so the pages must be
/// visible in the DMA view of the VM, read-only, at an IPA that the guest's CPUs do not have.
/// With stage 1 alone the fetch address is the PA.
///
/// Called under no lock but that of a PASID space: an implementation takes the lock of its VM's
/// map, which comes before a group's, a domain's and a driver's. Who holds that one calls nothing
/// of this crate but `Domain::flush`.
pub trait ContextView {
    /// Makes `bytes` of table memory at `pa` fetchable; returns the fetch address (PA or IPA).
    ///
    /// `bytes` is a multiple of 4 KiB, `pa` is aligned to `align`, and so is the answer.
    ///
    /// # Errors
    /// [`DriverError::NoMemory`] when the window or the memory for its tables is used up.
    fn publish(&self, pa: PhysAddr, bytes: usize, align: usize) -> Result<u64, DriverError>;

    /// Takes back what [`publish`](Self::publish) answered `fetch` for, invalidation included.
    ///
    /// # Errors
    /// Any error of the invalidation: the memory must then be given up for good.
    fn withdraw(&self, fetch: u64, bytes: usize) -> Result<(), DriverError>;
}

/// The view of stage 1 alone: the fetch address is the physical address.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhysicalView;

impl ContextView for PhysicalView {
    fn publish(&self, pa: PhysAddr, _bytes: usize, _align: usize) -> Result<u64, DriverError> {
        Ok(pa.get())
    }

    fn withdraw(&self, _fetch: u64, _bytes: usize) -> Result<(), DriverError> {
        Ok(())
    }
}
