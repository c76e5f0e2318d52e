//! Why the hypervisor could not come up. What concerns one VM alone is not here.

use palisade_hal::machine::MachineError;
use palisade_mem::FrameError;
use thiserror::Error;

/// Why the hypervisor could not come up.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The loader gave no device tree.
    #[error("the loader gave no device tree (x0 must point at one)")]
    NoTree,
    /// The device tree's bytes are damaged.
    #[error("{0}")]
    Tree(#[from] palisade_fdt::Fault),
    /// The device tree describes no machine that can be used.
    #[error("{0}")]
    Board(#[from] palisade_fdt::Error<'static>),
    /// No RAM is free.
    #[error("no usable RAM is left beside image, device tree, bundle and reservations")]
    NoMemory,
    /// The frame allocator refused.
    #[error("memory: {0}")]
    Frames(#[from] FrameError),
    /// No format of page tables can be used.
    #[error("page tables: {0}")]
    Formats(#[from] palisade_pgtable::RegisterError),
    /// The interrupt controller cannot be used.
    #[error("interrupt controller: {0}")]
    Gic(#[from] palisade_gic::GicError),
    /// The bundle is not in RAM of its own.
    #[error("the bundle at {0:#x}..{1:#x} is not inside RAM, or lies over the image")]
    BundlePlace(u64, u64),
    /// The bundle is damaged as a whole.
    #[error("{0}")]
    Bundle(alloc::boxed::Box<palisade_bundle::Error<'static>>),
    /// The machine refused.
    #[error("machine: {0}")]
    Machine(#[from] MachineError),
}
