//! Fuzz targets: each takes bytes, makes operations of them, and panics where an invariant is
//! broken. `tests/fuzz` hands them to libFuzzer; the corpus there is replayed by this crate's
//! tests.

mod bundle;
mod edits;
mod fdt;
mod house;
mod hypercall;
mod pgtable;
mod reached;
mod seeds;
mod shadow;
mod virtual_smmu;

pub use bundle::bundle;
pub use fdt::fdt;
pub use hypercall::hypercall;
pub use pgtable::pgtable;
pub use reached::Reached;
pub use seeds::seeds;
pub use virtual_smmu::virtual_smmu;

/// A target.
pub type Target = fn(&[u8], &mut Reached);

/// All targets by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("pgtable", pgtable),
    ("hypercall", hypercall),
    ("fdt", fdt),
    ("bundle", bundle),
    ("virtual_smmu", virtual_smmu),
];
