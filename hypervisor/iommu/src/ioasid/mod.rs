//! IOASIDs: numbers for address spaces that devices are given (PASIDs on PCIe).
//!
//! A [`Scope`] is one number space: the machine's, or one VM's with a quota. Every number
//! belongs to a [`Set`] and carries private data. Rules:
//! 1. The default allocator, a bitmap, always exists; nobody registers it.
//! 2. A registered allocator takes precedence over it. The first that was registered is active.
//! 3. Allocators of one family share their helpers. When a family's last one goes, its numbers
//!    should all be free; those that are not are orphaned, and counted. Unregistering never
//!    fails.
//! 4. Switching inside a family keeps the numbers that are out.
//! 5. Switching between families, or to and from the default, starts from an empty space.
//!
//! [`Scope::find`] is one atomic load: no lock, no memory that an allocator could take with it
//! when it goes. [`Scope::free`] allocates nothing and waits for nothing but a spin lock.

mod allocator;
mod scope;
mod slots;

pub use allocator::{Family, IoasidAllocator};
pub use scope::{Scope, Set};
pub use slots::MAX_CAPACITY;

/// Why an IOASID was not given, found or freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoasidError {
    /// The allocator is registered already.
    #[error("IOASID allocator is registered already")]
    Exists,
    /// The default allocator has numbers out: nothing can take over now.
    #[error("{0} IOASIDs of the default allocator are in use, try again")]
    Again(u32),
    /// Nobody has this number.
    #[error("IOASID {0} is unknown")]
    Unknown(u32),
    /// The number belongs to another set.
    #[error("IOASID {0} belongs to another set")]
    WrongSet(u32),
    /// No number left between the bounds.
    #[error("no IOASID left in {0}..={1}")]
    Exhausted(u32, u32),
    /// The scope's quota is used up.
    #[error("quota of {0} IOASIDs is used up")]
    Quota(u32),
    /// A registered allocator answered a number that cannot be stored.
    #[error("failed to store IOASID {0}")]
    Store(u32),
    /// The set's number is too large.
    #[error("bad IOASID set")]
    Set,
    /// No memory for one more allocator.
    #[error("out of memory")]
    NoMemory,
}
