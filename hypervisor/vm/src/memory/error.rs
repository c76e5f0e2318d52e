//! What can be wrong with a VM's memory.
use palisade_hal::Ipa;
use palisade_mem::FrameError;
use palisade_pgtable::{ConfigError, Error as TableError, TlbError};
use thiserror::Error;

/// A VM's memory cannot be had, or not changed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The machine has too little.
    #[error("no memory for the guest's RAM at {0}: {1}")]
    NoRam(Ipa, FrameError),
    /// The machine has too little, known before anything is taken.
    #[error("{0:#x} bytes are more than the {1:#x} that are free")]
    TooLittle(u64, u64),
    /// The machine has too little for the tables that the VM may come to need.
    #[error("no memory for the VM's tables: {0}")]
    NoTables(FrameError),
    /// The range is empty, misaligned to 4 KiB, or leaves the IPA space.
    #[error("{0} + {1:#x} is no range of whole pages in the IPA space")]
    BadRange(Ipa, u64),
    /// Something is there already.
    #[error("something is mapped at {0} already")]
    Overlap(Ipa),
    /// Nothing of that kind is there.
    #[error("nothing of that kind is mapped at {0}")]
    NotMapped(Ipa),
    /// The tables cannot be made for this machine.
    #[error("stage 2: {0}")]
    Config(#[from] ConfigError),
    /// The tables refused.
    #[error("stage 2: {0}")]
    Table(#[from] TableError),
    /// Someone did not forget in time: what was unmapped stays out of use.
    #[error("stage 2: {0}")]
    Tlb(#[from] TlbError),
    /// The IOMMU core refused.
    #[error("IOMMU: {0}")]
    Iommu(#[from] palisade_iommu::Error),
    /// The VM was torn down.
    #[error("the VM's memory is gone")]
    Gone,
}
