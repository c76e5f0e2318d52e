//! Why a VM is not built.

use palisade_iommu::Error as IommuError;
use palisade_vm::VmError;
use palisade_vm::load::LoadError;
use palisade_vm::memory::MemoryError;
use palisade_vm::mmio::BusError;
use palisade_vm::passthrough::{PlainRefusal, PlugError};
use thiserror::Error;

/// Why a VM is not built. The others run.
#[derive(Debug, Error)]
pub(crate) enum BuildError {
    /// The IOMMU core refused.
    #[error("{0}")]
    Iommu(#[from] IommuError),
    /// No memory, or not that much.
    #[error("memory: {0}")]
    Memory(#[from] MemoryError),
    /// The VM itself.
    #[error("{0}")]
    Vm(#[from] VmError),
    /// A device is refused.
    #[error("{0}")]
    Device(#[from] PlugError),
    /// A device by path is not there.
    #[error("{0}")]
    Path(#[from] palisade_fdt::Error<'static>),
    /// A device by path is refused.
    #[error("{0}")]
    Plain(#[from] PlainRefusal<'static>),
    /// Two emulated devices at one place.
    #[error("{0}")]
    Bus(#[from] BusError),
    /// It cannot have an SMMU of its own before a device.
    #[error(
        "iommu = \"smmuv3\": SMMU {0:#x} cannot be shown to a guest: it does not nest translations, \
         or is not coherent"
    )]
    NoVirtualSmmu(u32),
    /// Its devices stand behind more SMMUs than it can have.
    #[error("iommu = \"smmuv3\": its devices are behind more than {0} SMMUs")]
    TooManySmmus(usize),
    /// It wants more than there is.
    #[error("memory: {wanted} MiB wanted, {free} MiB are free")]
    TooLarge {
        /// MiB in the manifest.
        wanted: u64,
        /// MiB without an owner.
        free: u64,
    },
    /// It is not an image, or does not fit.
    #[error("{0}")]
    Load(#[from] LoadError),
}
