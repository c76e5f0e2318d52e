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

pub use bundle::bundle;
pub use fdt::fdt;
pub use hypercall::hypercall;
pub use pgtable::pgtable;
pub use reached::Reached;
pub use seeds::seeds;

/// A target.
pub type Target = fn(&[u8], &mut Reached);

/// All targets by name.
pub const TARGETS: [(&str, Target); 4] =
    [("pgtable", pgtable), ("hypercall", hypercall), ("fdt", fdt), ("bundle", bundle)];
