//! A guest's RAM, as calls see it.

use palisade_hal::Ipa;

/// The range is not all RAM of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IPA {0} is not the guest's RAM")]
pub struct OutsideRam(pub Ipa);

/// Why RAM was not given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// It is not all the guest's; nothing was touched.
    #[error(transparent)]
    Outside(#[from] OutsideRam),
    /// There is no table to split a block.
    #[error("no memory for tables")]
    NoMemory,
    /// Somebody did not forget in time.
    #[error("a TLB did not answer")]
    Hardware,
}

/// Bounds-checked access to one VM's RAM by IPA.
pub trait GuestRam: Send + Sync {
    /// All of `start..start + bytes` is RAM of the VM that its devices may reach.
    fn contains(&self, start: Ipa, bytes: u64) -> bool;

    /// Copies out; each byte is read once.
    ///
    /// # Errors
    /// [`OutsideRam`]; nothing is then promised of `to`.
    fn read(&self, start: Ipa, to: &mut [u8]) -> Result<(), OutsideRam>;

    /// Copies in.
    ///
    /// # Errors
    /// [`OutsideRam`]; nothing is then written.
    fn write(&self, start: Ipa, from: &[u8]) -> Result<(), OutsideRam>;

    /// Takes whole pages out of the CPUs' and the devices' reach; those that were taken before
    /// stay so.
    ///
    /// # Errors
    /// [`Kept`]; unless it is `Outside`, part of it may be out of reach.
    fn give_up(&self, start: Ipa, bytes: u64) -> Result<(), Kept>;
}
